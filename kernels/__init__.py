"""GPU kernels of the engine, each beside its reference; imports nothing from the other packages."""
