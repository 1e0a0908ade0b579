"""What the GPU benchmark measures, in the order of worth: a budget that ends early cuts the rest.

The shapes and step counts are those at which other engines publish their figures.
"""

from __future__ import annotations

from dataclasses import dataclass

from inference.bench.gpu.tiny import TINY
from inference.engine.shapes import Shape
from inference.engine.sizes import Sizes, get

TINY_SIDE = 32
TINY_FRAMES = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One model at one size. Pixels, frames (1: a picture), steps.

    `measured` of the `steps` are run, and the rest of a long request is extrapolated from them.
    `guidance` above 1 runs the model twice a step where the family has a negative branch.
    `seconds` is about what one system needs for it on an H100, set-up not included (an estimate,
    by which the budget decides what still fits).
    """

    name: str
    model: str
    width: int
    height: int
    num_frames: int = 1
    steps: int
    measured: int
    guidance: float
    concurrency: int = 1
    seconds: float
    tiny: bool = False

    @property
    def extrapolated(self) -> bool:
        """Whether fewer steps are run than a request has."""
        return self.measured < self.steps

    @property
    def sizes(self) -> Sizes:
        """The model."""
        return TINY[self.model] if self.tiny else get(self.model)

    @property
    def guided(self) -> bool:
        """Whether a step runs the denoiser twice."""
        return self.sizes.guided and self.guidance > 1

    @property
    def shape(self) -> Shape:
        """What the cost model wants to know."""
        return Shape(
            width=self.width,
            height=self.height,
            num_frames=self.num_frames,
            text_tokens=self.sizes.text_tokens,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One system on one case. `system` is diffusers, compile, cache-dit or ours.

    `quality` is ours; `extra` are optimisations beyond what the quality puts on; `tokens` bounds
    a forward pass of ours, None leaves the engine's own bound.
    """

    case: Case
    system: str
    quality: str = "exact"
    extra: tuple[str, ...] = ()
    tokens: int | None = None

    @property
    def label(self) -> str:
        """How the file and the progress call it."""
        extra = "".join(f"+{name}" for name in self.extra)
        tokens = f"@{self.tokens}" if self.tokens else ""
        quality = f" {self.quality}{extra}{tokens}" if self.system == "ours" else ""
        return f"{self.case.name}: {self.system}{quality}"

    @property
    def seconds(self) -> float:
        """About what it needs, set-up included."""
        return self.case.seconds + SETUP_SECONDS[self.system]


SETUP_SECONDS = {"diffusers": 8.0, "cache-dit": 10.0, "compile": 40.0, "ours": 50.0}
"""Building the model and compiling its blocks: guesses on the safe side, not measurements."""

FLUX_28 = Case(
    name="flux-1024-28",
    model="flux-dev",
    width=1024,
    height=1024,
    steps=28,
    measured=28,
    guidance=3.5,
    seconds=8,
)
FLUX_4 = Case(
    name="flux-1024-4",
    model="flux-schnell",
    width=1024,
    height=1024,
    steps=4,
    measured=4,
    guidance=0.0,
    seconds=3,
)
FLUX_16 = Case(
    name="flux-512-16-at-once",
    model="flux-schnell",
    width=512,
    height=512,
    steps=4,
    measured=4,
    guidance=0.0,
    concurrency=16,
    seconds=12,
)
WAN_3 = Case(
    name="wan2.1-480p-3",
    model="wan2.1-1.3b",
    width=832,
    height=480,
    num_frames=81,
    steps=3,
    measured=3,
    guidance=1.0,
    seconds=14,
)
WAN_50 = Case(
    name="wan2.1-480p-50",
    model="wan2.1-1.3b",
    width=832,
    height=480,
    num_frames=81,
    steps=50,
    measured=4,
    guidance=5.0,
    seconds=22,
)
WAN22_3 = Case(
    name="wan2.2-704p-3",
    model="wan2.2-ti2v-5b",
    width=1280,
    height=704,
    num_frames=121,
    steps=3,
    measured=3,
    guidance=1.0,
    seconds=25,
)
SDXL_30 = Case(
    name="sdxl-1024-30",
    model="sdxl",
    width=1024,
    height=1024,
    steps=30,
    measured=30,
    guidance=5.0,
    seconds=6,
)
CASES = (FLUX_28, WAN_3, FLUX_16, FLUX_4, WAN22_3, SDXL_30, WAN_50)


def cells() -> list[Cell]:
    """Return all that is measured, the most telling first; cells of one model stay together.

    A cell without a stock one before it could not be compared, so stock leads in every case.
    """
    return [
        Cell(case=FLUX_28, system="diffusers"),
        Cell(case=FLUX_28, system="ours"),
        Cell(case=FLUX_28, system="ours", quality="high"),
        Cell(case=FLUX_28, system="compile"),
        Cell(case=WAN_3, system="diffusers"),
        Cell(case=WAN_3, system="ours"),
        Cell(case=WAN_3, system="ours", quality="high"),
        Cell(case=FLUX_16, system="diffusers"),
        Cell(case=FLUX_16, system="ours"),
        Cell(case=FLUX_16, system="ours", tokens=8192),
        Cell(case=FLUX_4, system="diffusers"),
        Cell(case=FLUX_4, system="ours"),
        Cell(case=WAN22_3, system="diffusers"),
        Cell(case=WAN22_3, system="ours"),
        Cell(case=SDXL_30, system="diffusers"),
        Cell(case=SDXL_30, system="ours"),
        Cell(case=WAN_50, system="diffusers"),
        Cell(case=WAN_50, system="ours", quality="fast"),
        Cell(case=FLUX_28, system="ours", quality="fast", extra=("taylor",)),
        Cell(case=FLUX_28, system="cache-dit"),
        Cell(case=FLUX_28, system="ours", quality="fast"),
        Cell(case=WAN_3, system="ours", quality="fast"),
        Cell(case=WAN_3, system="compile"),
        Cell(case=FLUX_4, system="ours", quality="high"),
        Cell(case=WAN22_3, system="ours", quality="high"),
        Cell(case=FLUX_4, system="compile"),
        Cell(case=SDXL_30, system="compile"),
        Cell(case=WAN22_3, system="compile"),
        Cell(case=WAN_50, system="ours"),
        Cell(case=FLUX_4, system="ours", quality="fast"),
        Cell(case=SDXL_30, system="ours", quality="fast"),
        Cell(case=FLUX_16, system="ours", quality="fast", tokens=8192),
        Cell(case=WAN22_3, system="ours", quality="fast"),
        Cell(case=WAN_50, system="compile"),
    ]


def tiny(cell: Cell) -> Cell:
    """Return `cell` at a size that a CPU draws in less than a second."""
    import dataclasses

    case = dataclasses.replace(
        cell.case,
        width=TINY_SIDE,
        height=TINY_SIDE,
        num_frames=TINY_FRAMES if cell.case.num_frames > 1 else 1,
        seconds=0.0,
        tiny=True,
    )
    return dataclasses.replace(cell, case=case)
