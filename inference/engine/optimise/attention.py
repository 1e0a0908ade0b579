"""Computes attention with faster kernels than torch picks by itself, where this machine has some.

A kernel is tried on random numbers beside torch's own before it is trusted: one that fails or
differs is left alone. FlashAttention 3 and sageattention are chosen model by model, through
diffusers. cuDNN's is one of torch's own, and only goes to the head of those that torch tries in
turn, for the whole process: diffusers' way to it switches the others off and on around every call,
which two threads cannot do at once.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from inference.engine.loaded import Loaded
from inference.engine.optimisation_specs import Needs, Speedup
from inference.engine.optimise.base import Optimisation, Undo
from inference.engine.optimise.sparse_attention import BOTH as SPARSE

if TYPE_CHECKING:
    import torch

AUTO = "auto"
CUDNN = "cudnn"
FLASH_3 = "_flash_3"
MASKED = frozenset({"LTXVideoTransformer3DModel", "QwenImageTransformer2DModel"})
"""Models that mask padding, which FlashAttention 3 and sageattention cannot."""
TOLERANCE = {"sage": 0.1}
"""Largest difference from torch's own attention, as a share of its largest value."""
HOPPER_ON = (9, 10)
"""Major numbers of the compute capability of devices for which torch's own kernel is not best."""
EXACT_TOLERANCE = 0.02
"""For kernels that only round elsewhere: a few steps of bfloat16."""


def _processors(denoiser: Any) -> list[Any]:
    """Return what computes attention, where diffusers lets one choose how."""
    found = (getattr(module, "processor", None) for module in denoiser.modules())
    return [processor for processor in found if hasattr(processor, "_attention_backend")]


def _head_width(denoiser: Any) -> int:
    width = denoiser.config.get("attention_head_dim", 64)
    return width if isinstance(width, int) else 64


def _random(width: int, device: torch.device, dtype: torch.dtype) -> list[torch.Tensor]:
    """Return queries, keys and values, [rows, tokens, heads, width]."""
    import torch

    generator = torch.Generator(device).manual_seed(0)
    size = (2, 320, 4, width)
    return [torch.randn(size, generator=generator, device=device, dtype=dtype) for _ in range(3)]


def problem_with(kernel: str, width: int, device: torch.device, dtype: torch.dtype) -> str | None:
    """Try a kernel on heads `width` wide; return what is wrong with it, None if nothing is.

    It is called as diffusers calls it, or "cudnn".
    """
    import torch

    given = _random(width, device, dtype)
    try:
        with torch.inference_mode():
            expected = _own(given).float()
            got = (_cudnn(given) if kernel == CUDNN else _diffusers(kernel, given)).float()
            difference = float((got - expected).abs().max() / expected.abs().max())
    except Exception as error:  # what kernels of others raise is theirs
        return str(error).splitlines()[0] if str(error) else type(error).__name__
    if not difference <= TOLERANCE.get(kernel, EXACT_TOLERANCE):
        return f"it differs from torch's attention by {difference:.2g}"
    return None


def _own(given: list[torch.Tensor]) -> torch.Tensor:
    import torch

    query, key, value = (tensor.transpose(1, 2) for tensor in given)
    out = torch.nn.functional.scaled_dot_product_attention(query, key, value)
    return out.transpose(1, 2)


def _cudnn(given: list[torch.Tensor]) -> torch.Tensor:
    import torch

    query, key, value = (tensor.transpose(1, 2) for tensor in given)
    out = torch.ops.aten._scaled_dot_product_cudnn_attention(query, key, value, None, False)[0]
    return out.transpose(1, 2)


def _diffusers(kernel: str, given: list[torch.Tensor]) -> torch.Tensor:
    from diffusers.models import attention_dispatch as dispatch

    name = dispatch.AttentionBackendName(kernel)
    dispatch._check_attention_backend_requirements(name)
    out: torch.Tensor = dispatch.dispatch_attention_fn(*given, backend=name)
    return out


def _leads() -> bool:
    """Tell whether torch tries cuDNN first. It settles on an order at its first attention."""
    import torch
    from torch.nn.attention import SDPBackend

    return bool(torch._C._get_sdp_priority_order()[0] == SDPBackend.CUDNN_ATTENTION.value)


def _best(loaded: Loaded) -> str | None:
    """Return the kernel that beats torch's choice on this device, None if that is the best.

    Before Hopper torch's own FlashAttention 2 is; on Hopper FlashAttention 3 and cuDNN use what it
    cannot.
    """
    import torch

    device, denoiser = loaded.device.device, loaded.denoiser
    major, _ = torch.cuda.get_device_capability(device)
    place = _head_width(denoiser), device, denoiser.dtype
    maskless = bool(_processors(denoiser)) and type(denoiser).__name__ not in MASKED
    if major == 9 and maskless and problem_with(FLASH_3, *place) is None:
        return FLASH_3
    return CUDNN if problem_with(CUDNN, *place) is None and not _leads() else None


def _exact_lacks(loaded: Loaded) -> str | None:
    if found := _sparse(loaded):
        return found
    if "sage_attention" in loaded.mounted:
        return "sage_attention does the same"
    return None if _best(loaded) else "torch's own choice is the best that is here"


def _sparse(loaded: Loaded) -> str | None:
    """Say what attends in the place of any backend, None if nothing does."""
    on = [name for name in SPARSE if name in loaded.mounted]
    return f"{on[0]} attends in its place" if on else None


def _sage_lacks(loaded: Loaded) -> str | None:
    if found := _sparse(loaded):
        return found
    device, denoiser = loaded.device.device, loaded.denoiser
    if not _processors(denoiser):
        return "diffusers does not let one choose this model's attention"
    if type(denoiser).__name__ in MASKED:
        return "the model masks its text, which sageattention cannot"
    return problem_with("sage", _head_width(denoiser), device, denoiser.dtype)


def _set(loaded: Loaded, kernel: str) -> Undo:
    """Let diffusers use `kernel` in this model."""
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


_users = 0
_order: list[int] = []
_lock = threading.Lock()


def _lead() -> Undo:
    """Put cuDNN first among torch's kernels until the last who asked for it is gone."""
    import torch
    from torch.nn.attention import SDPBackend

    global _users, _order
    with _lock:
        if not _users:
            _order = list(torch._C._get_sdp_priority_order())
            first = SDPBackend.CUDNN_ATTENTION.value
            torch._C._set_sdp_priority_order([first, *(k for k in _order if k != first)])
        _users += 1

    def undo() -> None:
        global _users
        with _lock:
            _users -= 1
            if not _users:
                torch._C._set_sdp_priority_order(_order)

    return undo


def _exact(loaded: Loaded, backend: str = AUTO) -> Undo:
    """Set a kernel by diffusers' name or "cudnn"; "auto" takes the best that is exact."""
    kernel = _best(loaded) if backend == AUTO else backend
    if kernel is None:
        raise ValueError("no backend is better than torch's own choice here")
    return _lead() if kernel == CUDNN else _set(loaded, kernel)


ATTENTION_BACKEND = Optimisation(
    name="attention_backend",
    summary="FlashAttention 3 or cuDNN attention, where the device gains by it",
    stage="denoise",
    loss=0.0,
    order=25,
    apply=_exact,
    lacks=_exact_lacks,
    options={"backend": AUTO},
    # Estimates after published figures: FlashAttention 2 to 3 took Wan 1.3B from 2.88 to 2.14 s on
    # an H200. It takes Hopper; of all devices with float8 that is the nearest the planner knows.
    needs=Needs(device="cuda", generations=HOPPER_ON),
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
    lacks=_sage_lacks,
    # A rough estimate after published figures of other engines; not measured here.
    needs=Needs(device="cuda", capability=(8, 0)),
    denoise=Speedup(attention=2.0),
    group="attention",
)
