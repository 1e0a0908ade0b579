"""LoRA: small changes to a model that a request brings, many at once in one forward pass."""
