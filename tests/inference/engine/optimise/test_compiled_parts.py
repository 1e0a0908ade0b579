"""The decoder, and the denoiser beneath precomputation, run as compiled code and come off."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from inference.engine.loaded import Loaded
from inference.engine.optimise import REGISTRY, mount, put_on, take_off
from inference.engine.profile import Profile
from tests.inference.clips import build_wan
from tests.inference.engine import drive
from tests.inference.engine.optimise.drawing import begin, distance, latents, load


def _wait(loaded: Loaded) -> None:
    (builds,) = loaded.builders
    ((process, path),) = builds.building.values()
    try:
        assert process.wait(600) == 0
    finally:
        process.terminate()
    assert path.exists()


@pytest.fixture
def loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Loaded:
    monkeypatch.setenv("ENGINE_COMPILE", "1")
    monkeypatch.setenv("ENGINE_COMPILE_DIR", str(tmp_path / "compiled"))
    return load("flux", tmp_path / "model")


def test_a_decoder_that_it_does_not_know_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ENGINE_COMPILE", "1")
    build_wan(tmp_path)
    missing = REGISTRY["compiled_decoder"].missing(drive.load(tmp_path, "wan"))
    assert missing == "it does not know the decoder of AutoencoderKLWan"


@pytest.mark.slow
@pytest.mark.timeout(700)
def test_the_decoder_takes_over_and_comes_off(loaded: Loaded) -> None:
    (sample,) = begin(loaded, (3,))
    latents([sample])
    before = drive.pixels(sample)
    mount(loaded, Profile(optimisations={"channels_last": {}, "compiled_decoder": {}}))
    assert float((drive.pixels(sample) - before).abs().max()) < 1e-4  # nobody waits
    _wait(loaded)
    after = drive.pixels(sample)
    assert loaded.builders[0].ready
    assert 0 < float((after - before).abs().max()) < 1e-4
    take_off(loaded)
    assert loaded.builders == []
    assert torch.equal(drive.pixels(sample), before)


@pytest.mark.slow
@pytest.mark.timeout(700)
def test_a_compiled_denoiser_takes_what_was_precomputed(loaded: Loaded) -> None:
    before = latents(begin(loaded))
    put_on(loaded, REGISTRY["precompute"], {})
    put_on(loaded, REGISTRY["compiled"], {})
    latents(begin(loaded))
    _wait(loaded)
    ran: list[int] = []
    loaded.denoiser.x_embedder.register_forward_hook(lambda *_: ran.append(1))
    assert 0 < distance(latents(begin(loaded)), before) < 1e-4
    assert not ran
    take_off(loaded)
    assert distance(latents(begin(loaded)), before) == 0
