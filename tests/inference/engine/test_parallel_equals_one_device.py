"""Two processes that share a request come to what one process comes to."""

from __future__ import annotations

import multiprocessing
import os
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.distributed as dist
from diffusers import FluxTransformer2DModel, WanTransformer3DModel

from inference.engine.device import Device
from inference.engine.families.flux import Flux
from inference.engine.forward import current_rows, forward
from inference.engine.loaded import Loaded
from inference.engine.parallel import split_rows, split_tokens
from inference.engine.request import GenerationRequest
from inference.engine.sample import NEGATIVE, POSITIVE, Condition, Row, Sample

RANKS = 2
HEAVY = ["diffusers.models.transformers.transformer_flux", "diffusers.hooks.context_parallel"]
MODELS = ("flux", "wan")
CPU = Device(device=torch.device("cpu"), dtype=torch.float32, name="cpu", memory_bytes=1 << 30)
Outputs = dict[str, Any]


def flux(heads: int = 4) -> FluxTransformer2DModel:
    torch.manual_seed(1)
    return FluxTransformer2DModel(
        in_channels=16,
        num_layers=2,
        num_single_layers=2,
        attention_head_dim=16,
        num_attention_heads=heads,
        joint_attention_dim=16,
        pooled_projection_dim=16,
        axes_dims_rope=(4, 6, 6),
    ).eval()


def wan() -> WanTransformer3DModel:
    torch.manual_seed(2)
    return WanTransformer3DModel(
        num_attention_heads=4,
        attention_head_dim=12,
        in_channels=4,
        out_channels=4,
        text_dim=16,
        freq_dim=32,
        ffn_dim=32,
        num_layers=2,
    ).eval()


def load(model: str) -> Loaded:
    # The adapter's `predict` is every family's; nothing else of it runs here.
    return Loaded(Flux(), SimpleNamespace(transformer=flux() if model == "flux" else wan()), CPU)


def sample_of(loaded: Loaded, shared: dict[str, Any]) -> Sample:
    return Sample(
        loaded=loaded,
        request=GenerationRequest(prompt="a red circle"),
        condition=Condition(positive={}),
        latents=torch.empty(0),
        scheduler=None,
        timesteps=torch.ones(1),
        generator=torch.Generator(),
        tokens=1,
        shared=shared,
    )


def rows_of(loaded: Loaded, branches: tuple[str, ...]) -> list[Row]:
    """Return rows that are all different: one mixed up with another shows."""
    noise = torch.Generator().manual_seed(3)
    latents: tuple[int, ...] = (4, 3, 8, 8)
    shared = {}
    if isinstance(loaded.denoiser, FluxTransformer2DModel):
        latents = (16, 16)
        shared = {"img_ids": torch.rand(16, 3, generator=noise) * 4, "txt_ids": torch.zeros(6, 3)}
    sample = sample_of(loaded, shared)
    rows = []
    for number, branch in enumerate(branches):
        inputs = {
            "hidden_states": torch.randn(1, *latents, generator=noise),
            "encoder_hidden_states": torch.randn(1, 6, 16, generator=noise),
            "timestep": torch.tensor([0.1 + 0.2 * number]),
        }
        if shared:
            inputs["pooled_projections"] = torch.randn(1, 16, generator=noise)
        rows.append(Row(sample=sample, branch=branch, inputs=inputs))
    return rows


GUIDED = (NEGATIVE, POSITIVE)
BATCHES = {"one": (POSITIVE,), "guided": GUIDED, "three": (*GUIDED, POSITIVE), "two": GUIDED * 2}


@torch.no_grad()
def predict(loaded: Loaded, batch: str) -> torch.Tensor:
    return torch.cat(forward(rows_of(loaded, BATCHES[batch])))


def witness(loaded: Loaded, seen: list[Any]) -> Any:
    """Write down which branches, and how many rows, each run of the model is given."""

    def note(_module: Any, _arguments: Any, given: dict[str, Any]) -> None:
        rows = current_rows() or []
        seen.append(([row.branch for row in rows], len(given["hidden_states"])))

    return loaded.denoiser.register_forward_pre_hook(note, with_kwargs=True)


def run_rows(model: str) -> Outputs:
    loaded = load(model)
    family = loaded.family
    seen: list[Any] = []
    hook = witness(loaded, seen)
    undo = split_rows(loaded)
    outputs: Outputs = {batch: predict(loaded, batch) for batch in BATCHES}
    outputs["seen"] = dict(zip(BATCHES, seen, strict=True))
    hook.remove()
    undo()
    outputs["restored"] = loaded.family is family
    outputs["off"] = predict(loaded, "guided")
    return outputs


def run_tokens(model: str) -> Outputs:
    loaded = load(model)
    tokens: list[int] = []
    blocks = getattr(loaded.denoiser, "transformer_blocks", None) or loaded.denoiser.blocks
    count = torch.accelerator.device_count
    hook = blocks[1].attn1 if model == "wan" else blocks[1].attn
    hook = hook.to_q.register_forward_pre_hook(lambda _m, given: tokens.append(given[0].shape[1]))
    undo = split_tokens(loaded, RANKS)
    outputs: Outputs = {"guided": predict(loaded, "guided")}
    undo()
    outputs["off"] = predict(loaded, "guided")
    hook.remove()
    undo_again = split_tokens(loaded, RANKS)
    outputs["again"] = predict(loaded, "guided")
    undo_again()
    outputs["tokens"] = tokens
    outputs["restored"] = torch.accelerator.device_count is count
    return outputs


def run_odd_heads() -> str:
    loaded = Loaded(Flux(), SimpleNamespace(transformer=flux(heads=3)), CPU)
    with pytest.raises(ValueError, match="heads") as raised:
        split_tokens(loaded, RANKS)
    return str(raised.value)


def run_rank(rank: int, port: int, directory: str) -> None:
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    patience = timedelta(seconds=60)
    store = dist.TCPStore("127.0.0.1", port, is_master=False)  # type: ignore[attr-defined]
    dist.init_process_group("gloo", store=store, rank=rank, world_size=RANKS, timeout=patience)
    outputs = {
        "rows": {model: run_rows(model) for model in MODELS},
        "tokens": {model: run_tokens(model) for model in MODELS},
        "odd": run_odd_heads(),
    }
    torch.save(outputs, Path(directory) / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[Outputs]:
    """Return what each of two processes came to; they run once for all tests."""
    directory = tmp_path_factory.mktemp("ranks")
    # The store takes a free port by itself and holds it until the ranks are done.
    store = dist.TCPStore(  # type: ignore[attr-defined]
        "127.0.0.1", 0, is_master=True, wait_for_workers=False
    )
    # Both fork from a bare process that has imported torch once and started no thread.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(HEAVY)
    started = [
        context.Process(target=run_rank, args=(rank, store.port, str(directory)), daemon=True)
        for rank in range(RANKS)
    ]
    for process in started:
        process.start()
    for process in started:
        process.join(timeout=90)
    codes = [process.exitcode for process in started]
    for process in started:
        process.kill()
    assert codes == [0] * RANKS
    return [torch.load(directory / f"{rank}.pt") for rank in range(RANKS)]


def assert_equal(ours: torch.Tensor, model: str, batch: str) -> None:
    alone = predict(load(model), batch)
    torch.testing.assert_close(ours, alone, rtol=0, atol=1e-5)
    assert alone.std() > 0.01


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("model", MODELS)
def test_rows_split_over_two_processes_equal_one(
    ranks: list[Outputs], model: str, batch: str
) -> None:
    for rank in ranks:
        assert_equal(rank["rows"][model][batch], model, batch)


@pytest.mark.parametrize("model", MODELS)
def test_each_process_runs_its_own_branch_only(ranks: list[Outputs], model: str) -> None:
    for rank, branch in zip(ranks, GUIDED, strict=True):
        seen = rank["rows"][model]["seen"]
        assert seen["guided"] == ([branch], 1)
        assert seen["two"] == ([branch, branch], 2)
        assert seen["one"] == ([POSITIVE], 1)


@pytest.mark.parametrize("model", MODELS)
def test_tokens_split_over_two_processes_equal_one(ranks: list[Outputs], model: str) -> None:
    for rank in ranks:
        assert_equal(rank["tokens"][model]["guided"], model, "guided")
        assert_equal(rank["tokens"][model]["again"], model, "guided")
        split, whole = rank["tokens"][model]["tokens"]
        assert split * RANKS == whole


@pytest.mark.parametrize("way", ["rows", "tokens"])
@pytest.mark.parametrize("model", MODELS)
def test_taken_off_it_is_as_before(ranks: list[Outputs], model: str, way: str) -> None:
    for rank in ranks:
        assert rank[way][model]["restored"]
        assert_equal(rank[way][model]["off"], model, "guided")


def test_heads_that_do_not_divide_are_refused_in_one_line(ranks: list[Outputs]) -> None:
    for rank in ranks:
        assert rank["odd"] == (
            "FluxTransformer2DModel has 3 attention heads, not a multiple of 2 ranks"
        )


def test_one_process_has_nobody_to_share_with() -> None:
    with pytest.raises(ValueError, match="at least 2 ranks"):
        split_rows(load("flux"))
    with pytest.raises(ValueError, match="over 2 ranks, of 1"):
        split_tokens(load("flux"), 2)
