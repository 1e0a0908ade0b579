"""A licence in plain words: what people ask before they call a model, with what it was made from.

The text of the licence binds; these are the answers that its kind, its royalty and those of the
versions that it was made from give.
"""

from dataclasses import dataclass

from marketplace.catalog.chains import Chain
from marketplace.catalog.models import Licence, LicenceKind, Version, VersionParent


@dataclass(frozen=True, slots=True)
class Answer:
    """A question, the short answer with its tone (good, note, bad), and why."""

    question: str
    short: str
    tone: str
    why: str


def _names(licences: list[Licence]) -> str:
    return ", ".join(str(licence) for licence in licences)


def _commercial(chain: Chain) -> Answer:
    question = "May I use the results commercially?"
    forbids = [row for row in chain.licences if row.kind == LicenceKind.NON_COMMERCIAL]
    if forbids:
        return Answer(question, "No", "bad", f"{_names(forbids)} forbids it.")
    bound = [row for row in chain.licences if row.kind == LicenceKind.COMMERCIAL]
    if bound:
        return Answer(question, "Yes", "good", f"Within the terms of {_names(bound)}.")
    return Answer(question, "Yes", "good", "For anything, commercial work included.")


def _building(licence: Licence, vendor: str) -> Answer:
    question = "May I build a model on it and sell that?"
    owed = (
        f"Of each charge of yours, {licence.royalty_bps / 100:g} % goes to {vendor}."
        if licence.royalty_bps
        else f"{vendor} asks for no royalty."
    )
    if licence.kind == LicenceKind.NON_COMMERCIAL:
        return Answer(question, "Not to sell it", "bad", "Its terms allow no commercial use.")
    if licence.kind == LicenceKind.COMMERCIAL:
        return Answer(question, "Within its terms", "note", f"Read them first. {owed}")
    return Answer(question, "Yes", "good", owed)


def _accepting(chain: Chain) -> Answer:
    question = "Do I have to accept something first?"
    asked = [row for row in chain.licences if row.must_be_accepted]
    if not asked:
        return Answer(question, "No", "good", "Call it when you like.")
    return Answer(question, "Yes, once", "note", f"{_names(asked)}, for your whole organisation.")


def answers_of(chain: Chain) -> list[Answer]:
    """Return what people ask about the terms of a version, answered for its whole chain."""
    version = chain.version
    owe = "The price of each call that succeeds. Royalties are part of it, not on top of it."
    return [
        _commercial(chain),
        _building(version.licence, version.model.org.name),
        Answer("What do I owe?", "The price", "good", owe),
        _accepting(chain),
    ]


@dataclass(frozen=True, slots=True)
class Node:
    """A version in the drawing of what a model was made from, and its part of each charge."""

    version: Version
    bps: int


def lineage_of(chain: Chain) -> list[list[Node]]:
    """Return the version, then what it was made from, then what that was made from, by levels.

    A version that is reached by several ways stands where it is nearest.
    """
    rows = {row.pk: row for row in (chain.version, *chain.ancestors)}
    parts = {share.version_id: share.bps for share in chain.shares}
    links: dict[object, list[object]] = {
        pk: [row.base_id] if row.base_id else [] for pk, row in rows.items()
    }
    found = VersionParent.objects.filter(version__in=list(rows)).order_by("position")
    for child, parent in found.values_list("version_id", "parent_id"):
        links[child].append(parent)
    levels, level, seen = [], [chain.version.pk], {chain.version.pk}
    while level:
        levels.append([Node(rows[pk], parts.get(str(pk), 0)) for pk in level])
        wanted = dict.fromkeys(p for pk in level for p in links[pk] if p in rows and p not in seen)
        seen |= wanted.keys()  # type: ignore[arg-type]
        level = list(wanted)  # type: ignore[arg-type]
    return levels
