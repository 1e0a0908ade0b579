"""Loads diffusion models from verified weights and runs requests on one device."""
