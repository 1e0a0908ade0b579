"""What is checked of a version's parts, each on its own, so that a page can ask before the end."""

import re
from collections.abc import Sequence
from typing import Any

from inference.protocol import MP4, OUTPUT_FORMAT, PROFILE_KEYS, output_formats, output_type
from inference.protocol import check_profile as protocol_check
from marketplace.accounts.models import Organisation
from marketplace.catalog.models import Task, Version
from marketplace.core.errors import InvalidInput

MAX_PARENTS = 16
_HARDWARE = re.compile(r"[a-z0-9][a-z0-9-]{0,19}")


def check_task(task: str, family: str) -> None:
    """Raise InvalidInput where the listing promises a clip and gets a picture, or the reverse."""
    makes_clips = output_type(family) == MP4
    if makes_clips != (task in (Task.TEXT_TO_VIDEO, Task.IMAGE_TO_VIDEO)):
        made = "videos" if makes_clips else "images"
        raise InvalidInput(
            f"This family makes {made}, and the model's task is {task}.",
            fields={"family": [f"It makes {made}, unlike the model's task."]},
        )


def check_profile(profile: dict[str, Any]) -> None:
    """Raise InvalidInput unless workers can read the profile; a typo must not pass for nothing."""
    try:
        protocol_check(profile)
        if unknown := sorted(set(profile) - set(PROFILE_KEYS)):
            raise ValueError(f"profile has no {unknown[0]}; it has {', '.join(PROFILE_KEYS)}")
    except ValueError as error:
        raise InvalidInput(str(error), fields={"profile": [str(error)]}) from error


def check_output_format(schema: dict[str, Any], family: str) -> None:
    """Raise InvalidInput where the schema offers a format that no worker makes of this family."""
    node = schema["properties"].get(OUTPUT_FORMAT)
    if node is None:
        return
    known = list(output_formats(family))
    offered = node.get("enum", [node["const"]] if "const" in node else None)
    if not offered or not set(map(str, offered)) <= set(known):
        why = f"Its `enum` names some of {', '.join(known)}, as this family's outputs can be."
        raise InvalidInput(
            f"{OUTPUT_FORMAT}: {why}", fields={f"input_schema.properties.{OUTPUT_FORMAT}": [why]}
        )


def check_lora(lora: bool, family: str, base: Version | None) -> None:
    """Raise InvalidInput where a LoRA lacks the model that it changes."""
    if base is not None and base.lora:
        why = "A LoRA cannot be a base; name the version that it changes."
        raise InvalidInput(why, fields={"base": [why]})
    if lora and base is None:
        why = "A LoRA needs the version that it changes as its base."
        raise InvalidInput(why, fields={"base": [why]})
    if lora and base is not None and base.family != family:
        why = f"A LoRA has the family of its base, {base.family}."
        raise InvalidInput(why, fields={"family": [why]})


def check_parents(org: Organisation, base: Version | None, parents: Sequence[Version]) -> None:
    """Raise InvalidInput unless `org` may build on these, each named once."""
    runnable = Version.objects.runnable_by(org)
    if base is not None and not runnable.filter(pk=base.pk).exists():
        raise InvalidInput("There is no such base version.", fields={"base": ["Not found."]})
    ids = [parent.pk for parent in parents]
    if len(ids) > MAX_PARENTS:
        why = f"Name at most {MAX_PARENTS} versions."
        raise InvalidInput(why, fields={"parents": [why]})
    if len({*ids, *([base.pk] if base else [])}) < len(ids) + bool(base):
        why = "Name each version that it is made from once, and not the base again."
        raise InvalidInput(why, fields={"parents": [why]})
    if runnable.filter(pk__in=ids).count() < len(ids):
        raise InvalidInput("There is no such version.", fields={"parents": ["Not found."]})


def check_machine(family: str, weights_uri: str, hardware_class: str, max_engine_s: int) -> None:
    """Raise InvalidInput unless workers can run it."""
    if not _HARDWARE.fullmatch(hardware_class):
        raise InvalidInput(
            "There is no such hardware class.",
            fields={"hardware_class": ["Lower-case letters, digits and hyphens, such as small."]},
        )
    if (family == "noop") != (weights_uri == "noop:"):
        raise InvalidInput("Family and weights do not fit.", fields={"family": ["No such pair."]})
    if not 1 <= max_engine_s <= 3600:
        raise InvalidInput("The time limit is out of range.", fields={"max_engine_s": ["1–3600."]})
