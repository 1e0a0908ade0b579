"""Settings of what vendors list, read from the environment: a part of `marketplace.settings`."""

import environ

__all__ = [
    "GPU_COST_USD_PER_HOUR",
    "ORGANISATIONS_PER_USER",
    "TEST_RUNS_MARKET_PER_HOUR",
    "TEST_RUNS_PER_HOUR",
    "TEST_RUN_ENGINE_S_PER_HOUR",
    "TEST_RUN_MAX_ENGINE_S",
    "WEIGHTS_KEEP_MAX_BYTES",
    "WEIGHTS_UPLOAD_MAX_BYTES",
]
env = environ.Env()

# What an hour on a device of each hardware class costs whoever runs the market, in USD: shown to
# vendors beside their price. CLASS=USD, separated by commas.
GPU_COST_USD_PER_HOUR = env.dict("GPU_COST_USD_PER_HOUR", default={"small": "0.40"})
# Test runs of an organisation, and of a person in all of theirs; then those of the whole market.
TEST_RUNS_PER_HOUR = env.int("TEST_RUNS_PER_HOUR", default=20)
TEST_RUN_ENGINE_S_PER_HOUR = env.int("TEST_RUN_ENGINE_S_PER_HOUR", default=1200)
TEST_RUNS_MARKET_PER_HOUR = env.int("TEST_RUNS_MARKET_PER_HOUR", default=500)
ORGANISATIONS_PER_USER = env.int("ORGANISATIONS_PER_USER", default=10)  # that one person owns
TEST_RUN_MAX_ENGINE_S = env.int("TEST_RUN_MAX_ENGINE_S", default=120)  # of one test run
WEIGHTS_UPLOAD_MAX_BYTES = env.int("WEIGHTS_UPLOAD_MAX_BYTES", default=64 * 2**30)
WEIGHTS_KEEP_MAX_BYTES = env.int("WEIGHTS_KEEP_MAX_BYTES", default=200 * 2**30)  # of a vendor
