"""Text encoders that are streamed encode as before, and stay when it is taken off."""

from __future__ import annotations

from pathlib import Path

from inference.engine.optimise import REGISTRY, put_on, take_off
from inference.engine.optimise.offload import needed_bytes, text_encoders
from inference.engine.request import GenerationRequest
from tests.inference.engine.drive import distance, draw, load
from tests.inference.pipelines import build_sd

REQUEST = GenerationRequest(prompt="a red circle", steps=2)


def test_texts_are_encoded_as_before(tiny_flux: Path) -> None:
    loaded = load(tiny_flux, "flux")
    before = draw(loaded, REQUEST).latents
    put_on(loaded, REGISTRY["offload"], {})
    loaded.forget_texts()
    assert distance(draw(loaded, REQUEST).latents, before) == 0
    assert "text encoders wait in main memory" in loaded.notes[0]
    take_off(loaded)
    loaded.forget_texts()
    assert distance(draw(loaded, REQUEST).latents, before) == 0
    for encoder in text_encoders(loaded):
        assert all(not parameter.is_meta for parameter in encoder.parameters())


def test_what_a_request_needs_is_counted(tiny_flux: Path, tmp_path: Path) -> None:
    for directory, family in ((tiny_flux, "flux"), (build_sd(tmp_path), "sd")):
        needed = needed_bytes(load(directory, family), 2**30)
        assert 1e4 < needed < 1e8


def test_a_model_that_is_not_known_is_given_its_share(tiny_flux: Path) -> None:
    loaded = load(tiny_flux, "flux")
    known = type(loaded.vae)
    loaded.vae.__class__ = type("Unheard", (known,), {})
    assert needed_bytes(loaded, 1000) == 200
