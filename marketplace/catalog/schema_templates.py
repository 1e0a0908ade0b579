"""Input schemas to begin with, one for each family that the engine knows."""

from typing import Any

from inference.protocol import OUTPUT_FORMAT, VIDEO_FAMILIES, output_formats

_TEXT = {"type": "string", "maxLength": 2000}
_SIDES = {"sd": (512, 1024), "wan": (832, 1280), "ltx": (768, 1280)}
_STEPS = {"flux": 28, "sd": 30, "sdxl": 30, "sd3": 28, "qwen": 50, "wan": 50, "ltx": 40}
_GUIDANCE = {"flux": 3.5, "sd": 7.5, "sdxl": 5, "sd3": 4.5, "qwen": 4, "wan": 5, "ltx": 3}

# What ships was trained for one size, and is of a family whose usual one it cannot make in time.
_SHIPPED: dict[str, dict[str, Any]] = {
    "starter:starter-image": {
        "family": "flux",
        "width": {"const": 128, "default": 128},
        "height": {"const": 128, "default": 128},
        "num_inference_steps": {"maximum": 50, "default": 8},
        "guidance_scale": {"default": 2.0},
    },
    "starter:starter-video": {
        "family": "wan",
        "width": {"const": 64, "default": 64},
        "height": {"const": 64, "default": 64},
        "num_frames": {"const": 17, "default": 17},
        "fps": {"const": 8, "default": 8},
        "num_inference_steps": {"maximum": 50, "default": 8},
        "guidance_scale": {"default": 2.0},
    },
}
_BOUNDS = ("minimum", "maximum", "multipleOf")


def output_format(family: str) -> dict[str, Any]:
    """Return the input by which a caller chooses what file is made; the first format is usual."""
    formats = list(output_formats(family))
    return {
        "type": "string",
        "enum": formats,
        "default": formats[0],
        "title": "Format",
        "description": "Of the file that you get.",
    }


def template_of(family: str, uri: str = "") -> dict[str, Any]:
    """Return an input schema in the ecosystem's field names with the usual defaults.

    They are the family's, or those of the weights at `uri` if these ship with the market.
    """
    schema = _of_family(family)
    shipped = _SHIPPED.get(uri, {})
    if shipped.get("family") != family:
        return schema
    for name, own in shipped.items():
        if name == "family":
            continue
        node = schema["properties"][name]
        if "const" in own:
            node = {key: value for key, value in node.items() if key not in _BOUNDS}
        schema["properties"][name] = node | own
    return schema


def _of_family(family: str) -> dict[str, Any]:
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
        OUTPUT_FORMAT: output_format(family),
    }
    return {
        "type": "object",
        "required": ["prompt"],
        "additionalProperties": False,
        "properties": properties,
    }
