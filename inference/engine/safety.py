"""Asks the safety checker that came with the weights; pictures stay as they are, and are flagged.

Whether a flagged picture is shown is for whoever shows it to decide.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL.Image import Image


def is_nsfw(pipeline: Any, picture: Image) -> bool | None:
    """Tell whether the pipeline's checker flags `picture`; None where it brought none.

    See StableDiffusionSafetyChecker in diffusers: CLIP embeddings near to those of 17 concepts.
    """
    checker = getattr(pipeline, "safety_checker", None)
    reader = getattr(pipeline, "feature_extractor", None)
    if checker is None or reader is None:
        return None
    import numpy as np

    weight = next(checker.parameters())
    seen = reader(picture, return_tensors="pt").pixel_values.to(weight.device, weight.dtype)
    # It blackens what it is given to, so that is not the picture.
    _, (found,) = checker(clip_input=seen, images=np.zeros((1, 1, 1, 3)))
    return bool(found)
