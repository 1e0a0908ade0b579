"""OpenAI's published client has a picture and a clip made by a real worker."""

import base64
import io

import openai
from PIL import Image

from tests.e2e.world import STARTER, World

FILMER = "starter-lab/starter-video"


def client_of(market: World) -> openai.OpenAI:
    return openai.OpenAI(api_key=market.key, base_url=f"{market.market.url}/openai/v1")


def picture(encoded: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(encoded)))


def test_a_picture_comes_back(market: World) -> None:
    made = client_of(market).images.generate(
        model=STARTER,
        prompt="a red circle",
        size="128x128",
        output_format="webp",
        extra_body={"num_inference_steps": 4, "seed": 3},
    )
    assert made.data
    shown = picture(made.data[0].b64_json or "")
    assert (shown.format, shown.size) == ("WEBP", (128, 128))
    assert (made.output_format, made.size) == ("webp", "128x128")
    told = made.model_extra or {}
    market.assert_charged_once(told["id"], told["charge_nano_usd"])


def test_partial_pictures_come_first(market: World) -> None:
    client, partial = client_of(market), "image_generation.partial_image"
    for _ in range(5):  # a worker makes previews within a share of its time, so not in each call
        events = list(
            client.images.generate(
                model=STARTER,
                prompt="a blue square",
                stream=True,
                partial_images=1,
                extra_body={"num_inference_steps": 24},
            )
        )
        kinds = [event.type for event in events]
        assert kinds[-1] == "image_generation.completed"
        if len(kinds) > 1:
            break
    assert kinds[:-1] == [partial]
    assert [picture(event.b64_json).format for event in events] == ["WEBP", "PNG"]


def test_a_clip_comes_back(market: World) -> None:
    client = client_of(market)
    made = client.videos.create(
        model=FILMER,
        prompt="a red circle moves to the right",
        seconds="2",
        size="64x64",  # type: ignore[arg-type]  # sizes are ours, not Sora's
        extra_body={"num_inference_steps": 2},
    )
    made = client.videos.poll(made.id)
    assert made.status == "completed", made.error
    content = client.videos.download_content(made.id).read()
    assert content[4:8] == b"ftyp"
    told = made.model_extra or {}
    market.assert_charged_once(made.id, told["charge_nano_usd"])
