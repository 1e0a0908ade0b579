"""Brings weights to this machine, from wherever they are, and lets only verified ones be loaded.

Importing it loads neither torch nor diffusers.
"""

from inference.engine.weights.manifest import Manifest, digest_of
from inference.engine.weights.model import NOOP_DIGEST, Model
from inference.engine.weights.report import FetchProgress, FetchReport, SourceReport
from inference.engine.weights.store import Opened, WeightsStore

__all__ = [
    "NOOP_DIGEST",
    "FetchProgress",
    "FetchReport",
    "Manifest",
    "Model",
    "Opened",
    "SourceReport",
    "WeightsStore",
    "digest_of",
]
