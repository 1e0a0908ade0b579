"""The small trained models that ship with the repository, and where they lie."""

from __future__ import annotations

from pathlib import Path

_MODELS = Path(__file__).parent / "models"
LORAS = Path(__file__).parent / "loras"
"""Folders of LoRAs that ship, each with one safetensors file."""

# What a caller should ask for where a stock pipeline's own default does not suit the model.
_DEFAULTS: dict[str, dict[str, int | float]] = {
    "starter-image": {
        "width": 128,
        "height": 128,
        "steps": 8,
        "guidance": 2.0,
        "max_sequence_length": 32,
    },
    "starter-video": {
        "width": 64,
        "height": 64,
        "num_frames": 17,
        "fps": 8,
        "steps": 8,
        "guidance": 2.0,
        "max_sequence_length": 32,
    },
}


def names() -> list[str]:
    """Names of the shipped models, sorted."""
    return sorted(
        folder.name for folder in _MODELS.iterdir() if (folder / "model_index.json").is_file()
    )


def loras() -> list[str]:
    """Names of the shipped LoRAs, sorted."""
    return sorted(file.parent.name for file in LORAS.glob("*/*.safetensors"))


def path(name: str = "starter-image") -> Path:
    """Directory of a shipped pipeline or LoRA; KeyError naming the choices if unknown."""
    if name in loras():
        return LORAS / name
    if name not in names():
        raise KeyError(f"no shipped model {name!r}; there are: {', '.join(names()) or 'none'}")
    return _MODELS / name


def defaults(name: str = "starter-image") -> dict[str, int | float]:
    """Recommended width, height (pixels), steps, guidance, text tokens; of clips frames and fps."""
    path(name)
    return dict(_DEFAULTS[name])
