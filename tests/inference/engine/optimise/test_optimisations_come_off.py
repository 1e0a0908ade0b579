"""An optimisation changes what it says, and leaves no trace when it is taken off."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from inference.engine.device import pick_device
from inference.engine.errors import InvalidRequestError
from inference.engine.families import get_family
from inference.engine.forward import advance
from inference.engine.loaded import Loaded
from inference.engine.optimise import REGISTRY, mount, take_off
from inference.engine.profile import Profile
from inference.engine.request import GenerationRequest
from inference.engine.sample import Sample

PROMPTS = ("a red circle", "a blue square", "green")


@pytest.fixture
def loaded(tiny_flux: Path) -> Loaded:
    family, device = get_family("flux"), pick_device()
    return Loaded(family, family.load(tiny_flux, device), device, directory=tiny_flux)


def _samples(loaded: Loaded, steps: tuple[int, ...] = (6, 6, 6)) -> list[Sample]:
    samples = []
    for seed, (prompt, count) in enumerate(zip(PROMPTS, steps, strict=True)):
        request = GenerationRequest(prompt=prompt, steps=count, guidance=3.0)
        request = loaded.family.complete(loaded, request)
        (condition,) = loaded.family.encode(loaded, [request])
        samples.append(loaded.family.begin(loaded, request, condition, seed))
    return samples


def _draw(samples: list[Sample]) -> list[torch.Tensor]:
    """Finish all together and return pictures of floats."""
    with torch.inference_mode():
        while left := [s for s in samples if s.step < s.steps]:
            assert advance(left) == {}
        return [s.loaded.family.decode_latents(s) for s in samples]  # type: ignore[attr-defined]


def _distance(first: list[torch.Tensor], second: list[torch.Tensor]) -> float:
    return max(float((a - b).abs().max()) for a, b in zip(first, second, strict=True))


def _with(name: str, **options: float) -> Profile:
    return Profile(quality="fast", optimisations={name: options})


@pytest.mark.parametrize("name", sorted(REGISTRY))
def test_taking_it_off_leaves_the_stock_pipeline(loaded: Loaded, name: str) -> None:
    before = _draw(_samples(loaded))
    mount(loaded, _with(name))
    _draw(_samples(loaded))
    take_off(loaded)
    assert _distance(_draw(_samples(loaded)), before) == 0


@pytest.mark.parametrize("name", [n for n, o in REGISTRY.items() if o.loss == 0])
def test_what_costs_nothing_changes_nothing(loaded: Loaded, name: str) -> None:
    before = _draw(_samples(loaded))
    mount(loaded, _with(name))
    assert _distance(_draw(_samples(loaded)), before) < 1e-4


@pytest.mark.parametrize(
    "name", ["bf16_denoiser", "bf16_decoder", "guidance_interval", "first_block_cache", "taylor"]
)
def test_what_costs_something_changes_something(loaded: Loaded, name: str) -> None:
    before = _draw(_samples(loaded))
    options = {"first_block_cache": {"threshold": 0.9}}.get(name, {})
    mount(loaded, _with(name, **options))
    assert _distance(_draw(_samples(loaded)), before) > 0


@pytest.mark.parametrize(
    ("name", "options"), [("first_block_cache", {"threshold": 0.05}), ("taylor", {})]
)
def test_each_row_of_a_batch_decides_for_itself(
    loaded: Loaded, name: str, options: dict[str, float]
) -> None:
    mount(loaded, _with(name, **options))
    together = _draw(_samples(loaded, (4, 9, 6)))
    alone = [_draw([sample])[0] for sample in _samples(loaded, (4, 9, 6))]
    assert _distance(together, alone) < 1e-4


def test_a_cache_skips_the_later_blocks(loaded: Loaded) -> None:
    mount(loaded, _with("taylor", interval=3, warm_up=1, order=0))
    ran: list[int] = []
    last = loaded.denoiser.single_transformer_blocks[-1].norm
    last.register_forward_hook(lambda _module, args, _output: ran.append(len(args[0])))
    _draw(_samples(loaded, (8, 8, 8)))
    assert ran == [6, 6, 6, 6]  # of 8 steps: 0, 3, 6 and the last, each with 2 rows a picture


def test_guidance_ends_where_it_is_told(loaded: Loaded) -> None:
    mount(loaded, _with("guidance_interval", until=0.5))
    (sample, *_) = _samples(loaded)
    rows = []
    while sample.step < sample.steps:
        rows.append(len(loaded.family.rows(sample)))
        advance([sample])
    assert rows == [2, 2, 2, 1, 1, 1]


@pytest.mark.parametrize(
    ("optimisations", "problem"),
    [
        ({"magic": {}}, "magic is unknown"),
        ({"taylor": {"speed": 9}}, "taylor has no option speed"),
        ({"guidance_interval": {"until": 0}}, "until must be above 0"),
    ],
)
def test_a_wrong_profile_is_named(
    loaded: Loaded, optimisations: dict[str, dict[str, float]], problem: str
) -> None:
    with pytest.raises(InvalidRequestError, match=problem):
        mount(loaded, Profile(optimisations=optimisations))


def test_what_does_not_fit_is_told(loaded: Loaded) -> None:
    mount(loaded, _with("compiled"))
    assert loaded.notes == ["compiled is off: ENGINE_COMPILE is not 1"]


def test_compiled_code_is_not_put_over_what_skips_blocks(
    loaded: Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ENGINE_COMPILE", "1")
    mount(loaded, Profile(quality="fast", optimisations={"compiled": {}, "taylor": {}}))
    assert loaded.notes == ["compiled is off: taylor decides between blocks"]


@pytest.mark.slow
def test_compiled_code_takes_over_and_is_found_again(
    loaded: Loaded, tiny_flux: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ENGINE_COMPILE", "1")
    monkeypatch.setenv("ENGINE_COMPILE_DIR", str(tmp_path))
    before = _draw(_samples(loaded))
    mount(loaded, _with("compiled"))
    assert _distance(_draw(_samples(loaded)), before) == 0  # nobody waits for the compiler
    (process, _path) = next(iter(loaded.predict.building.values()))  # type: ignore[attr-defined]
    try:
        assert process.wait(300) == 0
    finally:
        process.terminate()
    assert 0 < _distance(_draw(_samples(loaded)), before) < 1e-4
    family = loaded.family
    again = Loaded(family, family.load(tiny_flux, loaded.device), loaded.device)
    again.directory = tiny_flux
    mount(again, _with("compiled"))
    _draw(_samples(again))
    assert again.predict.ready  # type: ignore[attr-defined]
