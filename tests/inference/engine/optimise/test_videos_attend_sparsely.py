"""Sparse attention goes on a loaded video pipeline and comes off; with every block it is dense.

On a CPU the references stand in for kernels, put there by hand: the planner would not.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from inference.engine.errors import InvalidProfileError
from inference.engine.loaded import Loaded
from inference.engine.optimisation_specs import Situation
from inference.engine.optimise import (
    DEFAULTS,
    REGISTRY,
    fused_kernels,
    mount,
    put_on,
    sparse_attention,
    take_off,
)
from inference.engine.optimise.base import Optimisation
from inference.engine.optimise.sparse_attention import BOTH, blocks, windows
from inference.engine.profile import Profile
from tests.inference.engine.drive import load
from tests.inference.engine.optimise import drawing


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    return drawing.load("wan", tmp_path_factory.mktemp("sparse") / "wan")


def _draw(loaded: Loaded) -> list[torch.Tensor]:
    return drawing.latents(drawing.begin(loaded))


DENSE = [blocks((1, 2, 2), 1.0), windows((1, 2, 2), (3, 3, 3))]
SPARSE = [blocks((1, 2, 2), 0.2), windows((1, 1, 1), (1, 1, 1))]


@pytest.mark.parametrize("method", DENSE, ids=repr)
def test_with_every_block_pictures_are_those_of_the_pipeline_alone(
    loaded: Loaded, method: Any
) -> None:
    before = _draw(loaded)
    loaded.mounted["sparse"] = sparse_attention.put(loaded, method, references=True)
    assert drawing.distance(_draw(loaded), before) <= 1e-4
    take_off(loaded)
    assert drawing.distance(_draw(loaded), before) == 0


@pytest.mark.parametrize("kernels", [False, True], ids=["alone", "with kernels"])
@pytest.mark.parametrize("method", SPARSE, ids=repr)
def test_with_some_blocks_they_are_others_of_the_same_size(
    loaded: Loaded, method: Any, kernels: bool
) -> None:
    before = _draw(loaded)
    loaded.mounted["sparse"] = sparse_attention.put(loaded, method, references=True)
    if kernels:
        loaded.mounted["kernels"] = fused_kernels.put(loaded, "high", references=True)
    after = _draw(loaded)
    assert [clip.shape for clip in after] == [clip.shape for clip in before]
    assert drawing.distance(after, before) > 1e-3
    assert all(bool(clip.isfinite().all()) for clip in after)
    take_off(loaded)
    assert drawing.distance(_draw(loaded), before) == 0


@pytest.mark.parametrize("name", BOTH)
def test_only_a_profile_that_names_it_puts_it_on_and_a_cpu_refuses(
    loaded: Loaded, name: str
) -> None:
    assert all(name not in names for names in DEFAULTS.values())
    mount(loaded, Profile(quality="fast", optimisations={name: {}}))
    assert loaded.notes.pop() == f"{name} is off: it is for CUDA devices"


@pytest.mark.parametrize("name", BOTH)
def test_the_planner_knows_where_it_would_pay(name: str) -> None:
    def here(family: str, tokens: int) -> Situation:
        return Situation(
            family=family,
            device_kind="cuda",
            dtype="bfloat16",
            tokens=tokens,
            memory_bytes=2**34,
            steps=50,
            guided=True,
            capability=(9, 0),
        )

    needs = REGISTRY[name].needs
    assert needs(here("wan", 32_760)) in (None, "triton is not installed")
    assert needs(here("wan", 4096)) in (
        "pays from 16384 tokens, here are 4096",
        "triton is not installed",
    )
    assert needs(here("flux", 32_760)) in (
        "it does not know flux",
        "triton is not installed",
    )


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("sliding_tile_attention", {"window": (2, 3, 3)}, "window has odd numbers of tiles"),
        ("sliding_tile_attention", {"tile": (2, 3)}, "tile has three numbers"),
        ("video_sparse_attention", {"density": 0}, "density is above 0"),
        ("video_sparse_attention", {"dense_layers": -1}, "dense_layers is a whole number"),
        ("video_sparse_attention", {"blocks": 4}, "has no option blocks"),
    ],
)
def test_options_that_are_wrong_are_refused(
    loaded: Loaded, name: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidProfileError, match=message):
        put_on(loaded, REGISTRY[name], options)
    assert not loaded.mounted


@pytest.mark.parametrize("name", BOTH)
def test_backends_and_compiled_blocks_make_room(
    loaded: Loaded, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(loaded.mounted, name, lambda: None)
    for other in ("attention_backend", "sage_attention"):
        assert REGISTRY[other].lacks(loaded) == f"{name} attends in its place"
    wanted = "sparse attention is not compiled"
    assert REGISTRY["compile_regional"].lacks(loaded) in (wanted, "triton is not installed")
    for other in BOTH:
        assert REGISTRY[other].lacks(loaded) == f"{name} is on"


def test_heads_that_no_kernel_has_are_named(loaded: Loaded) -> None:
    head = loaded.denoiser.config.attention_head_dim
    for name in BOTH:
        assert REGISTRY[name].lacks(loaded) == (
            f"kernels have heads of 64 or 128 channels, the model has {head}"
        )


@pytest.mark.parametrize("name", BOTH)
def test_pictures_are_refused(tiny_flux: Path, name: str) -> None:
    assert REGISTRY[name].lacks(load(tiny_flux, "flux")) == "it does not know flux"


def test_only_what_may_be_picked_is_asked_what_it_lacks(
    loaded: Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: set[str] = set()
    missing = Optimisation.missing

    def noting(self: Optimisation, where: Loaded) -> str | None:
        asked.add(self.name)
        return missing(self, where)

    monkeypatch.setattr(Optimisation, "missing", noting)
    mount(loaded, Profile(quality="fast"))
    take_off(loaded)
    assert asked == set(DEFAULTS["fast"])
    assert not asked & set(BOTH)
