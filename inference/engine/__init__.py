"""Runs diffusion pipelines on one device; knows nothing of the market."""
