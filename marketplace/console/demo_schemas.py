"""Inputs of the starter models, in the ecosystem's field names."""

from typing import Any

from inference.protocol import OUTPUT_FORMAT
from marketplace.catalog.schema_templates import output_format

SIZE = 128
"""Pixels on a side of a picture: what the starter model was trained for."""
CLIP_SIZE = 64
CLIP_FRAMES = 17
CLIP_FPS = 8


def _schema(
    *,
    family: str,
    size: int,
    steps: int,
    max_steps: int,
    prompt: dict[str, Any],
    more: dict[str, Any],
) -> dict[str, Any]:
    return {
        "type": "object",
        "required": ["prompt"],
        "additionalProperties": False,
        "properties": {
            "prompt": {
                "type": "string",
                "minLength": 1,
                "maxLength": 500,
                "title": "Prompt",
                **prompt,
            },
            "negative_prompt": {
                "type": "string",
                "maxLength": 500,
                "default": "",
                "title": "Negative prompt",
                "description": "What should not be shown.",
            },
            "num_inference_steps": {
                "type": "integer",
                "minimum": 1,
                "maximum": max_steps,
                "default": steps,
                "title": "Steps",
                "description": "More steps are slower and cleaner.",
            },
            "guidance_scale": {
                "type": "number",
                "minimum": 1,
                "maximum": 10,
                "default": 2.0,
                "title": "Guidance",
                "description": "How strictly the prompt is followed.",
            },
            "seed": {
                "type": "integer",
                "minimum": 0,
                "maximum": 2**32 - 1,
                "title": "Seed",
                "description": "The same seed draws the same thing.",
            },
            **more,
            OUTPUT_FORMAT: output_format(family),
            "width": {"type": "integer", "const": size, "default": size, "title": "Width"},
            "height": {"type": "integer", "const": size, "default": size, "title": "Height"},
        },
    }


def picture_schema(*, steps: int, max_steps: int) -> dict[str, Any]:
    """Return the input of the picture starter with its default and greatest number of steps."""
    return _schema(
        family="flux",
        size=SIZE,
        steps=steps,
        max_steps=max_steps,
        prompt={
            "description": "Up to two shapes, their colours, their places, a background.",
            "examples": ["a red circle above a blue square on a white background"],
        },
        more={
            "num_images": {
                "type": "integer",
                "minimum": 1,
                "maximum": 4,
                "default": 1,
                "title": "Images",
                "description": "How many, from consecutive seeds.",
            },
        },
    )


def clip_schema() -> dict[str, Any]:
    """Return the input of the video starter, which knows clips of one length."""
    return _schema(
        family="wan",
        size=CLIP_SIZE,
        steps=8,
        max_steps=50,
        prompt={
            "description": "One shape, its colour, the way that it moves, a background.",
            "examples": ["a red circle moving right on a white background"],
        },
        more={
            "num_frames": {
                "type": "integer",
                "const": CLIP_FRAMES,
                "default": CLIP_FRAMES,
                "title": "Frames",
                "description": "Two seconds, and the frame that they begin with.",
            },
            "fps": {
                "type": "integer",
                "const": CLIP_FPS,
                "default": CLIP_FPS,
                "title": "Frames a second",
            },
        },
    )
