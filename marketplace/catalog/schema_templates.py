"""Input schemas to begin with, one for each family that the engine knows."""

from typing import Any

from inference.protocol import VIDEO_FAMILIES

_TEXT = {"type": "string", "maxLength": 2000}
_SIDES = {"sd": (512, 1024), "wan": (832, 1280), "ltx": (768, 1280)}
_STEPS = {"flux": 28, "sd": 30, "sdxl": 30, "sd3": 28, "qwen": 50, "wan": 50, "ltx": 40}
_GUIDANCE = {"flux": 3.5, "sd": 7.5, "sdxl": 5, "sd3": 4.5, "qwen": 4, "wan": 5, "ltx": 3}


def template_of(family: str) -> dict[str, Any]:
    """Return an input schema in the ecosystem's field names with the family's usual defaults."""
    side, most = _SIDES.get(family, (1024, 2048))
    edge = {"type": "integer", "minimum": 256, "maximum": most, "multipleOf": 16, "default": side}
    properties: dict[str, Any] = {
        "prompt": {**_TEXT, "minLength": 1, "title": "Prompt"},
        "negative_prompt": {**_TEXT, "default": "", "title": "Negative prompt"},
        "width": {**edge, "title": "Width"},
        "height": {**edge, "title": "Height"},
    }
    if family in VIDEO_FAMILIES:
        properties |= {
            "num_frames": {"type": "integer", "minimum": 9, "maximum": 121, "default": 81},
            "fps": {"type": "integer", "minimum": 8, "maximum": 30, "default": 16},
        }
    else:
        properties["num_images"] = {
            "type": "integer", "minimum": 1, "maximum": 4, "default": 1, "title": "Images",
        }  # fmt: skip
    properties |= {
        "num_inference_steps": {
            "type": "integer",
            "minimum": 1,
            "maximum": 100,
            "default": _STEPS.get(family, 28),
            "title": "Steps",
        },
        "guidance_scale": {
            "type": "number",
            "minimum": 0,
            "maximum": 20,
            "default": _GUIDANCE.get(family, 5),
            "title": "Guidance",
        },
        "seed": {"type": "integer", "minimum": 0, "maximum": 2**32 - 1, "title": "Seed"},
    }
    return {
        "type": "object",
        "required": ["prompt"],
        "additionalProperties": False,
        "properties": properties,
    }
