"""Which optimisations a version runs with, as plain data."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from inference.engine.errors import InvalidProfileError
from inference.protocol import EXACT, FAST, HIGH, QUALITIES, check_profile

__all__ = ["EXACT", "FAST", "HIGH", "QUALITIES", "Profile"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """`quality` bounds what may be lost; `optimisations` names those to use, with their options.

    None leaves the choice to the planner. `exact` loses nothing that a viewer or the judge of
    the starter models could see: the stock pipeline's picture within the family's bound.
    """

    quality: str = EXACT
    optimisations: Mapping[str, Mapping[str, Any]] | None = field(default=None, hash=False)
    key: str = field(init=False, default="")

    def __post_init__(self) -> None:
        if self.quality not in QUALITIES:
            raise InvalidProfileError(f"quality must be one of {', '.join(QUALITIES)}")
        text = json.dumps([self.quality, self.optimisations], sort_keys=True, default=dict)
        object.__setattr__(self, "key", text)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Read a version's profile: {"quality": ..., "optimisations": {name: {option: ...}}}.

        `true` stands for no options, `false` leaves one out; other keys are not the engine's.
        Raises InvalidProfileError naming what is wrong.
        """
        try:
            check_profile(dict(data))
        except ValueError as error:
            raise InvalidProfileError(str(error)) from None
        chosen = data.get("optimisations")
        if chosen is not None:
            chosen = {
                name: {} if options is True else dict(options)
                for name, options in chosen.items()
                if options is not False
            }
        return cls(quality=data.get("quality") or EXACT, optimisations=chosen)
