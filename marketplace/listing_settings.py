"""Settings of what vendors list, read from the environment: a part of `marketplace.settings`."""

import environ

__all__ = ["GPU_COST_USD_PER_HOUR", "TEST_RUNS_PER_HOUR", "WEIGHTS_UPLOAD_MAX_BYTES"]
env = environ.Env()

# What an hour on a device of each hardware class costs whoever runs the market, in USD: shown to
# vendors beside their price. CLASS=USD, separated by commas.
GPU_COST_USD_PER_HOUR = env.dict("GPU_COST_USD_PER_HOUR", default={"small": "0.40"})
TEST_RUNS_PER_HOUR = env.int("TEST_RUNS_PER_HOUR", default=20)  # of an organisation; they are free
WEIGHTS_UPLOAD_MAX_BYTES = env.int("WEIGHTS_UPLOAD_MAX_BYTES", default=64 * 2**30)
