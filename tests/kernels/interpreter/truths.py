"""The references in float64, and how properties are drawn."""

import torch
from hypothesis import Phase, settings
from hypothesis import strategies as st

# The interpreter is slow: a case that fails is told as it was drawn, not made smaller.
QUICK = settings(deadline=None, derandomize=True, phases=(Phase.explicit, Phase.generate))


LAYOUTS = st.sampled_from(["together", "heads first", "packed", "apart"])


def laid(x, layout):
    """Lay `x` [B, S, H, D] out in memory in one of LAYOUTS, with the same values."""
    if layout == "heads first":
        return x.transpose(1, 2).contiguous().transpose(1, 2)
    if layout == "packed":  # one of q, k and v, as one product makes them
        return torch.stack((x, x + 1, x - 1), 2)[:, :, 0]
    if layout == "apart":  # channels two places apart: to be copied
        return torch.stack((x, x + 1), -1)[..., 0]
    return x.contiguous()


def normalised(x, weight, bias, multiplier, shift, eps, kind):
    h = x.double()
    if kind == "layer":
        h = h - h.mean(-1, keepdim=True)
    h = h * (h.pow(2).mean(-1, keepdim=True) + eps).rsqrt()
    h = h if weight is None else h * weight.double()
    h = h if bias is None else h + bias.double()
    h = h if multiplier is None else h * multiplier.double()
    return h if shift is None else h + shift.double()


def attended(q, k, v, scale=None, mask=None):
    """Attention [B, S, H, D] and its log-sum-exp; mask [.., M, N] is true where a key counts."""
    q, k, v = (t.double().transpose(1, 2) for t in (q, k, v))
    scores = q @ k.mT * (q.shape[-1] ** -0.5 if scale is None else scale)
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))
    lse = scores.logsumexp(-1)
    out = (scores - lse[..., None]).exp().nan_to_num() @ v
    return out.transpose(1, 2), lse
