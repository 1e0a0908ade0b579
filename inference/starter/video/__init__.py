"""The starter video model: a shape that moves as told; its data, training, judge and figures."""
