"""The references in float64."""


def normalised(x, weight, bias, multiplier, shift, eps, kind):
    h = x.double()
    if kind == "layer":
        h = h - h.mean(-1, keepdim=True)
    h = h * (h.pow(2).mean(-1, keepdim=True) + eps).rsqrt()
    h = h if weight is None else h * weight.double()
    h = h if bias is None else h + bias.double()
    h = h if multiplier is None else h * multiplier.double()
    return h if shift is None else h + shift.double()
