"""Replicate's published client runs the starter model on a real worker and gets its picture."""

import io

import httpx
import replicate
from PIL import Image

from tests.e2e.world import STARTER, World


def test_a_picture_comes_back(market: World) -> None:
    client = replicate.Client(api_token=market.key, base_url=f"{market.market.url}/replicate")
    given = {"prompt": "a red circle", "num_inference_steps": 4}
    made = client.models.predictions.create(model=STARTER, input=given, wait=60)
    made.wait()
    assert made.status == "succeeded", made.error
    output = made.output if isinstance(made.output, list) else [made.output]
    picture = Image.open(io.BytesIO(httpx.get(output[0]).content))
    assert picture.format == "PNG"
    progress = client.predictions.get(made.id).progress
    assert progress is not None
    assert progress.current == progress.total > 0
    market.assert_charged_once(made.id, made.metrics["charge_nano_usd"])
