"""Measures the engine against stock diffusers: speed, and what each optimisation costs."""
