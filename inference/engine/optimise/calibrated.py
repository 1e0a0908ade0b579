"""Keeps what caches must know of a model, as measured by `python -m inference calibrate`.

One JSON file for each digest of weights: those that ship with the code, and those that were
measured on this machine, which come first.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from inference.engine.loaded import Loaded

FORMAT = 1
SHIPPED = Path(__file__).parents[2] / "starter" / "calibration"


class CalibrationError(ValueError):
    """A file that is there cannot be used."""


def directory() -> Path:
    """Return where measurements are kept: ENGINE_CALIBRATION_DIR, else the user's cache."""
    chosen = os.environ.get("ENGINE_CALIBRATION_DIR")
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(chosen) if chosen else home / "mercato" / "calibration"


def file_name(digest: str) -> str:
    """Return the name of the file for weights of `digest`, "sha256:" and 64 digits."""
    return f"{digest.removeprefix('sha256:')}.json"


def _numbers(data: Any, name: str, least: int) -> tuple[float, ...]:
    if not isinstance(data, list) or len(data) < least:
        raise CalibrationError(f"{name} must be a list of at least {least} numbers")
    if not all(type(n) in (int, float) and math.isfinite(n) for n in data):
        raise CalibrationError(f"{name} has something that is not a finite number")
    return tuple(float(number) for number in data)


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """What was measured of one model; see the policies TeaCache and MagCache for its parts.

    `steps` are the numbers of steps of the runs, `prompts` how many texts were drawn at each.
    """

    digest: str
    denoiser: str
    prompts: int
    steps: tuple[int, ...]
    coefficients: tuple[float, ...]
    low: float
    high: float
    least: float
    times: tuple[float, ...]
    magnitudes: Mapping[str, tuple[float, ...]] = field(hash=False)

    def to_json(self) -> str:
        """Return it as JSON."""
        tea = {name: getattr(self, name) for name in ("coefficients", "low", "high", "least")}
        body = {
            "format": FORMAT,
            "digest": self.digest,
            "denoiser": self.denoiser,
            "prompts": self.prompts,
            "steps": self.steps,
            "teacache": tea,
            "magcache": {"times": self.times, "magnitudes": dict(self.magnitudes)},
        }
        return json.dumps(body, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read a file. Raises CalibrationError saying what is wrong with it."""
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise CalibrationError("it is no JSON") from error
        if not isinstance(data, dict) or data.get("format") != FORMAT:
            raise CalibrationError(f"it is not of format {FORMAT}")
        try:
            tea, mag = data["teacache"], data["magcache"]
            bounds = [tea[name] for name in ("low", "high", "least")]
            low, high, least = _numbers(bounds, "teacache.low, high and least", 3)
            times = _numbers(mag["times"], "magcache.times", 2)
            magnitudes = {
                str(branch): _numbers(values, f"magcache.magnitudes.{branch}", len(times))
                for branch, values in mag["magnitudes"].items()
            }
            made = cls(
                digest=str(data["digest"]),
                denoiser=str(data["denoiser"]),
                prompts=int(data["prompts"]),
                steps=tuple(int(count) for count in data["steps"]),
                coefficients=_numbers(tea["coefficients"], "teacache.coefficients", 1),
                low=low,
                high=high,
                least=least,
                times=times,
                magnitudes=magnitudes,
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise CalibrationError(f"it lacks or mistypes a field ({error})") from error
        if "positive" not in magnitudes or sorted(times, reverse=True) != list(times):
            raise CalibrationError("magcache needs the positive branch, and times that fall")
        return made


def save(calibration: Calibration, folder: Path) -> Path:
    """Write it to `folder` in one step, and return the file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / file_name(calibration.digest)
    part = path.with_suffix(f".{os.getpid()}")
    part.write_text(calibration.to_json())
    return part.replace(path)


def find(loaded: Loaded) -> Calibration | str:
    """Return what was measured of a pipeline's weights, or what is lacking, in a line."""
    if not loaded.digest.startswith("sha256:"):
        return "the weights have no digest to know their calibration by"
    for folder in (directory(), SHIPPED):
        path = folder / file_name(loaded.digest)
        try:
            found = Calibration.from_json(path.read_text())
        except FileNotFoundError:
            continue
        except (OSError, UnicodeDecodeError, CalibrationError) as error:
            return f"the calibration {path} is not readable: {error}"
        if found.digest != loaded.digest:
            return f"the calibration {path} is of other weights, {found.digest}"
        if found.denoiser != type(loaded.denoiser).__name__:
            return f"the calibration {path} is of a {found.denoiser}"
        return found
    return "it is not calibrated for these weights: run python -m inference calibrate WEIGHTS"
