"""What operations on images and videos share: channels beside pixels, in either order in memory."""

from __future__ import annotations

import torch

from kernels._triton import jit, tl


def planes(x: torch.Tensor) -> tuple[torch.Tensor, bool]:
    """Return `x` [N, C, ...] dense, and whether its channels are adjacent in memory.

    Copies what lies in neither order.
    """
    if x.is_contiguous():
        return x, False
    format_ = {4: torch.channels_last, 5: torch.channels_last_3d}.get(x.ndim)
    if format_ is None:
        return x.contiguous(), False
    last = x.is_contiguous(memory_format=format_)
    return (x, True) if last else (x.contiguous(), False)


@jit
def places(pixel, channel, pixels, channels, LAST: tl.constexpr):
    """Offsets [P, C] of `pixel` [P] and `channel` [C] in one image, in 64 bits.

    A decoder's last layers have 256 channels at full size: 2048 x 4096 pixels pass 2**31.
    """
    pixel, channel = pixel.to(tl.int64), channel.to(tl.int64)
    if LAST:
        at = pixel[:, None] * channels + channel[None, :]
    else:
        at = channel[None, :] * pixels + pixel[:, None]
    return at
