"""Small passes are recorded once and replayed; large ones and those with LoRAs are not."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from inference.engine.errors import InvalidProfileError
from inference.engine.loaded import Loaded
from inference.engine.optimise import REGISTRY, cuda_graphs, put_on, take_off
from inference.engine.optimise.cuda_graphs import SEEN, CudaGraphs
from inference.engine.request import GenerationRequest
from tests.inference.engine.drive import distance, finish, load, start

STEPS = SEEN + 4


@pytest.fixture
def loaded(tiny_flux: Path) -> Loaded:
    return load(tiny_flux, "flux")


def _draw(loaded: Loaded, count: int, side: int = 64) -> list[torch.Tensor]:
    prompts = ("a red circle", "a blue square", "green")
    requests = [
        GenerationRequest(prompt=prompt, steps=STEPS, seed=seed, width=side, height=side)
        for seed, prompt in enumerate(prompts[:count])
    ]
    samples = start(loaded, requests)
    finish(samples)
    return [sample.latents for sample in samples]


def _graphs(loaded: Loaded, **options: int) -> CudaGraphs:
    put_on(loaded, REGISTRY["cuda_graphs"], dict(options))
    graphs = loaded.predict
    assert isinstance(graphs, CudaGraphs)
    return graphs


def test_a_kind_that_comes_often_is_replayed_with_the_inputs_of_each_step(loaded: Loaded) -> None:
    before = {count: _draw(loaded, count) for count in (1, 3)}
    graphs = _graphs(loaded)
    for count, expected in before.items():
        for ours, theirs in zip(_draw(loaded, count), expected, strict=True):
            assert distance(ours, theirs) == 0
    assert len(graphs.graphs) == 2
    assert graphs.replayed == 2 * (STEPS - SEEN)


def test_a_pass_of_many_tokens_is_not_recorded(loaded: Loaded) -> None:
    graphs = _graphs(loaded, max_tokens=8)
    _draw(loaded, 1)
    assert not graphs.graphs


def test_graphs_are_bounded(loaded: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_graphs, "MAX_GRAPHS", 2)
    graphs = _graphs(loaded)
    for side in (32, 48, 64):
        _draw(loaded, 1, side)
    assert len(graphs.graphs) == 2


def test_a_model_that_cannot_be_recorded_runs_as_it_is(
    loaded: Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = _draw(loaded, 1)
    graphs = _graphs(loaded)

    def refuse(*_args: object) -> None:
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(CudaGraphs, "_record", refuse)
    assert distance(_draw(loaded, 1)[0], before[0]) == 0
    assert graphs.given_up
    assert not graphs.graphs


def test_weights_that_move_are_recorded_anew(loaded: Loaded) -> None:
    before = _draw(loaded, 1)
    graphs = _graphs(loaded)
    _draw(loaded, 1)
    assert graphs.graphs
    for parameter in loaded.denoiser.parameters():
        parameter.data = parameter.data.clone()
    (sample,) = start(loaded, [GenerationRequest(prompt="a red circle", steps=1)])
    finish([sample])
    assert not graphs.graphs
    assert distance(_draw(loaded, 1)[0], before[0]) < 1e-5  # other addresses, other alignment


def test_weights_that_come_and_go_are_not_recorded(loaded: Loaded) -> None:
    graphs = _graphs(loaded)
    loaded.denoiser._hf_hook = object()
    _draw(loaded, 1)
    del loaded.denoiser._hf_hook
    assert not graphs.graphs


def test_taking_it_off_leaves_the_pass_as_it_was(loaded: Loaded) -> None:
    predict = loaded.predict
    _graphs(loaded)
    take_off(loaded)
    assert loaded.predict == predict


def test_a_bound_below_one_is_refused(loaded: Loaded) -> None:
    with pytest.raises(InvalidProfileError, match="max_tokens must be 1 or more"):
        _graphs(loaded, max_tokens=0)
