"""Measures models of real size, with random weights, on one GPU within a budget of time."""
