"""Computes attention with faster kernels than torch picks by itself, where this machine has some.

A kernel is tried on random numbers beside torch's own before it is trusted: one that fails or
differs is left alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from inference.engine.loaded import Loaded
from inference.engine.optimisation_specs import Speedup, needs
from inference.engine.optimise.base import Optimisation, Undo

if TYPE_CHECKING:
    import torch

AUTO = "auto"
MASKLESS = frozenset({"flash", "_flash_3", "sage"})
MASKED = frozenset({"LTXVideoTransformer3DModel", "QwenImageTransformer2DModel"})
"""Models that mask padding, which the kernels of MASKLESS cannot."""
TOLERANCE = {"sage": 0.1}
"""Largest difference from torch's own attention, as a share of its largest value."""
EXACT_TOLERANCE = 0.02
"""For kernels that only round elsewhere: a few steps of bfloat16."""


def _exact_kernels(capability: tuple[int, int]) -> tuple[str, ...]:
    """Return kernels worth trying, best first.

    Before Hopper torch's own FlashAttention 2 is the best there is. On Hopper FlashAttention 3
    and cuDNN use what FlashAttention 2 cannot; consumer cards past it have cuDNN kernels only
    for some shapes.
    """
    if capability[0] == 9:
        return ("_flash_3", "_native_cudnn")
    return ("_native_cudnn",) if capability[0] == 10 else ()


def _processors(denoiser: Any) -> list[Any]:
    """Return what computes attention, where diffusers lets one choose how."""
    found = (getattr(module, "processor", None) for module in denoiser.modules())
    return [processor for processor in found if hasattr(processor, "_attention_backend")]


def _head_width(denoiser: Any) -> int:
    width = denoiser.config.get("attention_head_dim", 64)
    return width if isinstance(width, int) else 64


def problem_with(kernel: str, width: int, device: torch.device, dtype: torch.dtype) -> str | None:
    """Try a kernel on heads `width` wide; return what is wrong with it, None if nothing is."""
    import torch
    from diffusers.models import attention_dispatch as dispatch

    generator = torch.Generator(device).manual_seed(0)
    query, key, value = (
        torch.randn((2, 320, 4, width), generator=generator, device=device, dtype=dtype)
        for _ in range(3)
    )
    try:
        dispatch._check_attention_backend_requirements(dispatch.AttentionBackendName(kernel))
        with torch.inference_mode():
            expected, got = (
                dispatch.dispatch_attention_fn(
                    query, key, value, backend=dispatch.AttentionBackendName(name)
                ).float()
                for name in ("native", kernel)
            )
            difference = float((got - expected).abs().max() / expected.abs().max())
    except Exception as error:  # what third-party kernels raise is theirs
        return str(error).splitlines()[0] if str(error) else type(error).__name__
    allowed = TOLERANCE.get(kernel, EXACT_TOLERANCE)
    if not difference <= allowed:
        return f"it differs from torch's attention by {difference:.2g}"
    return None


def _unfit(loaded: Loaded) -> str | None:
    if loaded.device.device.type != "cuda":
        return "it is for CUDA devices"
    if not _processors(loaded.denoiser):
        return "diffusers does not let one choose this model's attention"
    return None


def _usable(loaded: Loaded, kernels: tuple[str, ...]) -> str | None:
    """Return the first of `kernels` that works here."""
    denoiser = loaded.denoiser
    masked = type(denoiser).__name__ in MASKED
    for kernel in kernels:
        if masked and kernel in MASKLESS:
            continue
        width, device = _head_width(denoiser), loaded.device.device
        if problem_with(kernel, width, device, denoiser.dtype) is None:
            return kernel
    return None


def _auto(loaded: Loaded) -> str | None:
    import torch

    capability = torch.cuda.get_device_capability(loaded.device.device)
    return _usable(loaded, _exact_kernels(capability))


def _exact_missing(loaded: Loaded) -> str | None:
    unfit = _unfit(loaded)
    if unfit is not None:
        return unfit
    if "sage_attention" in loaded.mounted:
        return "sage_attention does the same"
    return None if _auto(loaded) else "torch's own attention is the best that is here"


def _sage_missing(loaded: Loaded) -> str | None:
    import torch

    unfit = _unfit(loaded)
    if unfit is not None:
        return unfit
    if torch.cuda.get_device_capability(loaded.device.device) < (8, 0):
        return "it needs a device of compute capability 8.0 or more"
    if type(loaded.denoiser).__name__ in MASKED:
        return "the model masks its text, which sageattention cannot"
    width, device = _head_width(loaded.denoiser), loaded.device.device
    return problem_with("sage", width, device, loaded.denoiser.dtype)


def _set(loaded: Loaded, kernel: str) -> Undo:
    from diffusers.models import attention_dispatch as dispatch

    processors = [p for denoiser in loaded.denoisers for p in _processors(denoiser)]
    before = [processor._attention_backend for processor in processors]
    everywhere = dispatch._AttentionBackendRegistry.get_active_backend()[0]
    for denoiser in loaded.denoisers:
        denoiser.set_attention_backend(kernel)
    # diffusers makes it the default of all models besides; the others have chosen for themselves.
    dispatch._AttentionBackendRegistry.set_active_backend(everywhere)

    def undo() -> None:
        for processor, kept in zip(processors, before, strict=True):
            processor._attention_backend = kept

    return undo


def _exact(loaded: Loaded, backend: str = AUTO) -> Undo:
    """Set the kernel that diffusers calls `backend`; "auto" takes the best exact one."""
    kernel = _auto(loaded) if backend == AUTO else backend
    if kernel is None:
        raise ValueError("no backend is better than torch's own here")
    return _set(loaded, kernel)


ATTENTION_BACKEND = Optimisation(
    name="attention_backend",
    summary="FlashAttention 3 or cuDNN attention, where the device gains by it",
    stage="denoise",
    loss=0.0,
    order=25,
    apply=_exact,
    missing=_exact_missing,
    options={"backend": AUTO},
    # Estimates after published figures: FlashAttention 2 to 3 took Wan 1.3B from 2.88 to 2.14 s on
    # an H200. It takes Hopper; of all devices with float8 that is the nearest the planner knows.
    needs=needs(device="cuda", units="float8"),
    denoise=Speedup(attention=1.5),
    group="attention",
)
SAGE_ATTENTION = Optimisation(
    name="sage_attention",
    summary="attention with queries and keys in 8 bits (sageattention)",
    stage="denoise",
    loss=0.5,
    order=24,
    apply=lambda loaded: _set(loaded, "sage"),
    missing=_sage_missing,
    # An estimate after published figures; see PUBLISHED in optimisation_specs.
    needs=needs(device="cuda", units="int8"),
    denoise=Speedup(attention=2.0),
    group="attention",
)
