"""Both planes read WEIGHTS_S3_BUCKETS and WEIGHTS_HUB_OWNERS; a space must not part them."""

import json
import os
import subprocess
import sys

import pytest

from inference.engine.weights.settings import WeightsSettings

PRINT = """
import json
from marketplace import settings
print(json.dumps([settings.WEIGHTS_S3_BUCKETS, settings.WEIGHTS_HUB_OWNERS]))
"""


@pytest.mark.parametrize("listed", ["a, b", " a ,,b,"])
def test_a_list_means_the_same_to_both_planes(listed):
    names = {"WEIGHTS_S3_BUCKETS": listed, "WEIGHTS_HUB_OWNERS": listed}
    env = {**os.environ, **names, "DEBUG": "1"}
    said = subprocess.run(
        [sys.executable, "-c", PRINT], env=env, capture_output=True, text=True, check=True
    )
    workers = WeightsSettings.from_env(names)
    assert (workers.s3_buckets, workers.hub_owners) == (("a", "b"), ("a", "b"))
    assert json.loads(said.stdout) == [["a", "b"], ["a", "b"]]
