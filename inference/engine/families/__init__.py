"""The architectures the engine knows, by name; each is imported when it is first asked for."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path

from inference.engine.errors import WeightsUnavailableError
from inference.engine.families.base import Family
from inference.engine.weights import NOOP_DIGEST, Model, WeightsStore, digest_of

FAMILIES = {
    "flux": "inference.engine.families.flux:Flux",
    "sd": "inference.engine.families.sd:StableDiffusion",
    "sdxl": "inference.engine.families.sd:StableDiffusionXL",
    "sd3": "inference.engine.families.sd3:StableDiffusion3",
    "qwen": "inference.engine.families.qwen:QwenImage",
    "wan": "inference.engine.families.wan:Wan",
    "ltx": "inference.engine.families.ltx:LTX",
    "noop": "inference.engine.families.noop:Noop",
}
PIPELINES = {
    "FluxPipeline": "flux",
    "FluxImg2ImgPipeline": "flux",
    "FluxInpaintPipeline": "flux",
    "StableDiffusionPipeline": "sd",
    "StableDiffusionImg2ImgPipeline": "sd",
    "StableDiffusionInpaintPipeline": "sd",
    "StableDiffusionXLPipeline": "sdxl",
    "StableDiffusionXLImg2ImgPipeline": "sdxl",
    "StableDiffusionXLInpaintPipeline": "sdxl",
    "StableDiffusion3Pipeline": "sd3",
    "StableDiffusion3Img2ImgPipeline": "sd3",
    "StableDiffusion3InpaintPipeline": "sd3",
    "QwenImagePipeline": "qwen",
    "QwenImageImg2ImgPipeline": "qwen",
    "QwenImageInpaintPipeline": "qwen",
    "WanPipeline": "wan",
    "WanImageToVideoPipeline": "wan",
    "WanDMDPipeline": "wan",
    "LTXPipeline": "ltx",
    "LTXImageToVideoPipeline": "ltx",
}


def get_family(name: str) -> Family:
    """Return the adapter called `name`. Raises WeightsUnavailableError where there is none."""
    try:
        module, _, attribute = FAMILIES[name].partition(":")
    except KeyError:
        known = ", ".join(sorted(FAMILIES))
        raise WeightsUnavailableError(f"family {name!r} is unknown; known are {known}") from None
    adapter: Family = getattr(import_module(module), attribute)()
    return adapter


def name_of(family: Family) -> str:
    """Return the name of an adapter."""
    path = f"{type(family).__module__}:{type(family).__name__}"
    return next(name for name, known in FAMILIES.items() if known == path)


def family_of(directory: Path) -> str:
    """Return the family of a pipeline directory from its index. Raises WeightsUnavailableError."""
    try:
        pipeline = json.loads((directory / "model_index.json").read_text())["_class_name"]
        return PIPELINES[pipeline]
    except (OSError, ValueError, TypeError):
        raise WeightsUnavailableError(f"{directory} has no readable model_index.json") from None
    except KeyError:
        known = ", ".join(sorted(PIPELINES))
        raise WeightsUnavailableError(f"{directory} is none of the pipelines {known}") from None


def model_at(uri: str) -> Model:
    """Return the model at a weights URI as it is now. Raises WeightsUnavailableError."""
    directory = WeightsStore().locate(uri)
    if directory is None:
        return Model(uri=uri, digest=NOOP_DIGEST, family="noop")
    return Model(uri=uri, digest=digest_of(directory), family=family_of(directory))
