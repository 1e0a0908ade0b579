"""Lets videos attend to part of themselves: windows of tiles around each, or the blocks that count.

Models that were trained with such attention keep their quality, others lose some of it: what is
stated here is an estimate, so no default puts these on, only a profile that names them.
"""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Sequence
from typing import TYPE_CHECKING

from inference.engine.families import name_of
from inference.engine.loaded import Loaded
from inference.engine.optimisation_specs import Needs, Speedup
from inference.engine.optimise.base import Optimisation, Undo

if TYPE_CHECKING:
    from kernels.mount.sparse import Method

WINDOWS = "sliding_tile_attention"
BLOCKS = "video_sparse_attention"
BOTH = (WINDOWS, BLOCKS)
FAMILIES = ("wan", "ltx")
LONG = 16_384
"""Tokens from which on published figures show a gain."""
HEADS = (64, 128)


def _no_triton() -> str | None:
    return None if importlib.util.find_spec("triton") else "triton is not installed"


def lacks(loaded: Loaded, method: Method) -> str | None:
    """Say what keeps sparse attention off this pipeline, None if nothing does."""
    from kernels.mount import sparse

    for name in BOTH:
        if name in loaded.mounted:
            return f"{name} is on"
    if name_of(loaded.family) not in FAMILIES:
        return f"it does not know {name_of(loaded.family)}"
    denoiser = loaded.denoiser
    head = denoiser.config.attention_head_dim
    if head not in HEADS:
        return f"kernels have heads of 64 or 128 channels, the model has {head}"
    return sparse.problem_with(method, head, loaded.device.device, denoiser.dtype)


def put(loaded: Loaded, method: Method, dense_layers: int = 0, *, references: bool = False) -> Undo:
    """Let the self-attention of all denoisers attend by `method`.

    The first `dense_layers` layers stay as they are: they gather what lies far apart. With
    `references` plain torch stands in for the kernels. Raises ValueError for a model without a
    video's size.
    """
    from kernels.mount.sparse import mount_sparse

    if dense_layers < 0:
        raise ValueError(f"dense_layers is a whole number from 0 up, not {dense_layers}")
    with contextlib.ExitStack() as stack:  # what is on comes off again where the next one fails
        for denoiser in loaded.denoisers:
            mounting = mount_sparse(
                denoiser, method, dense_layers=dense_layers, references=references
            )
            stack.callback(mounting.undo)
        return stack.pop_all().close


def windows(tile: Sequence[int], window: Sequence[int]) -> Method:
    """Make windows of options. Raises ValueError where they are none."""
    from kernels.mount.sparse import Windows

    return Windows(_triple(tile, "tile"), _triple(window, "window"))


def blocks(tile: Sequence[int], density: float) -> Method:
    """Make a choice of blocks of options. Raises ValueError where they are none."""
    from kernels.mount.sparse import Blocks

    return Blocks(_triple(tile, "tile"), density)


def _triple(sizes: Sequence[int], name: str) -> tuple[int, int, int]:
    if len(sizes) != 3:
        raise ValueError(f"{name} has three numbers, of frames, rows and columns, not {sizes}")
    return sizes[0], sizes[1], sizes[2]


# The gains are estimates after published figures of other engines, on models that were tuned or
# trained for it; the losses are guesses for models that were not. Neither is measured here.
_NEEDS = Needs(device="cuda", capability=(8, 0), machine=_no_triton, families=FAMILIES, tokens=LONG)
_TILES, _WINDOW = (6, 8, 8), (3, 3, 3)
_TILE, _DENSITY = (4, 4, 4), 0.3
SLIDING_TILE_ATTENTION = Optimisation(
    name=WINDOWS,
    summary="each tile of a video attends to the tiles around it (quality unmeasured)",
    stage="denoise",
    loss=5.0,
    # Before our kernels, whose rotation it then runs within.
    order=23,
    apply=lambda loaded, dense_layers, **given: put(loaded, windows(**given), dense_layers),
    lacks=lambda loaded: lacks(loaded, windows(_TILES, _WINDOW)),
    options={"tile": _TILES, "window": _WINDOW, "dense_layers": 2},
    needs=_NEEDS,
    denoise=Speedup(attention=2.5),
    group="attention",
)
VIDEO_SPARSE_ATTENTION = Optimisation(
    name=BLOCKS,
    summary="each block of a video attends to the blocks that matter to it (quality unmeasured)",
    stage="denoise",
    loss=3.0,
    order=22,
    apply=lambda loaded, dense_layers, **given: put(loaded, blocks(**given), dense_layers),
    lacks=lambda loaded: lacks(loaded, blocks(_TILE, _DENSITY)),
    options={"tile": _TILE, "density": _DENSITY, "dense_layers": 2},
    needs=_NEEDS,
    denoise=Speedup(attention=2.5),
    group="attention",
)
