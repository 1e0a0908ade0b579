"""Optimisations as data: each module here puts one on a loaded pipeline and takes it off."""

from __future__ import annotations

from inference.engine.loaded import Loaded
from inference.engine.profile import Profile


def mount(loaded: Loaded, profile: Profile) -> None:
    """Put the optimisations of `profile` on."""
