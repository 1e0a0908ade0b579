"""`images.edit` sends a form; what is transparent in its mask is white in ours."""

import base64
import io

import httpx
import openai
import pytest
from PIL import Image

from marketplace.jobs.models import File, Job
from tests.clients.conftest import working
from tests.clients.openai.conftest import png, stored

PROMPT = "a red circle"


def mask(size=(16, 12)):
    """Return a mask whose left half is transparent."""
    made = Image.new("RGBA", size, (0, 0, 0, 255))
    made.paste((255, 255, 255, 0), (0, 0, size[0] // 2, size[1]))
    body = io.BytesIO()
    made.save(body, "PNG")
    return body.getvalue()


def refused(client, model, **given):
    with pytest.raises(openai.UnprocessableEntityError) as caught:
        client.images.edit(**{"model": model, "prompt": PROMPT, "image": png(), **given})
    assert Job.objects.count() == 0
    assert len(client.sent) == 1
    client.sent.clear()
    return caught.value


def test_a_picture_and_its_mask(market, client, painter):
    with working():
        made = client.images.edit(model=painter, prompt=PROMPT, image=png(), mask=mask(), n=2)
    assert len(made.data) == 2
    given = Job.objects.get().input
    assert stored(given["image"]) == png()
    ours = Image.open(io.BytesIO(stored(given["mask_image"])))
    assert (ours.mode, ours.size, ours.getpixel((2, 2)), ours.getpixel((12, 2))) == (
        "L", (16, 12), 255, 0,
    )  # fmt: skip
    assert given["num_images"] == 2, "a number, though a form holds texts"


def test_half_transparent_is_half_redrawn(market, client, painter):
    with working():
        client.images.edit(
            model=painter, prompt=PROMPT, image=png(), mask=png("RGBA", (0, 0, 0, 55))
        )
    ours = Image.open(io.BytesIO(stored(Job.objects.get().input["mask_image"])))
    assert ours.getpixel((0, 0)) == 200


def test_one_picture_in_a_list(market, client, painter):
    with working():
        assert client.images.edit(model=painter, prompt=PROMPT, image=[png()]).data
    assert stored(Job.objects.get().input["image"]) == png()


def test_several_pictures_are_refused(market, client, painter):
    error = refused(client, painter, image=[png(), png()])
    assert (error.param, File.objects.count()) == ("image", 0)


def test_a_model_that_takes_no_picture(market, client):
    assert refused(client, market.ref).param == "image"


def test_what_is_no_picture(market, client, painter):
    assert refused(client, painter, image=b"GIF89a nothing").param == "image"


@pytest.mark.parametrize(
    "bad",
    [png(), png("RGBA", (0, 0, 0, 255)), b"nothing", mask()[:60], png("RGBA", 0, (4096, 4096))],
    ids=["no alpha", "all opaque", "no picture", "cut off", "huge"],
)
def test_a_bad_mask_is_named(market, client, painter, bad):
    error = refused(client, painter, mask=bad)
    assert (error.param, File.objects.count()) == ("mask", 0)


def test_fields_with_brackets(market, client, painter):
    """Lists and objects in forms, as the client writes them."""
    nowhere = {"loras": [{"uri": "atelier/ink:1", "scale": 0.5}]}
    error = refused(client, painter, extra_body=nowhere)
    assert error.param == "loras.0.uri", "it got there: there is no such LoRA"
    error = refused(client, painter, extra_body={"o": {"a": 1}})
    assert error.param == "o"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("guidance_scale", "nan"),
        ("guidance_scale", "1e999"),
        ("seed", "9" * 5000),
        ("seed", "9" * 400),
        ("loras", '["\\u0000"]'),
        ("loras", '{"uri": NaN}'),
        ("loras", "[" * 2000),
        ("n", "two"),
        ("image", []),
    ],
)
def test_texts_that_are_no_such_value(market, client, painter, name, value):
    """What a form holds is text, and may be any."""
    image = "data:image/png;base64," + base64.b64encode(png()).decode()
    given = {"model": painter, "prompt": PROMPT, "image": image, name: value}
    with pytest.raises(openai.UnprocessableEntityError) as caught:
        client.post("/images/edits", cast_to=object, body=given)
    assert (caught.value.param, Job.objects.count()) == (name, 0)


@pytest.mark.parametrize(
    "name", ["a[", "[a]", "a]b", "a[b]c", "a" + "[b]" * 9, "image[x]", "image[]", "a[][b][c][]"]
)
def test_names_that_are_none(market, painter, name):
    answer = httpx.post(
        f"{market.url}/openai/v1/images/edits",
        headers={"Authorization": f"Bearer {market.secret}"},
        data={"model": painter, "prompt": PROMPT, name: ["1", "2"]},
        files={"image": png()},
    )
    assert answer.status_code == 422, answer.text
    assert Job.objects.count() == 0


def test_a_picture_by_its_address(market, client, painter):
    given = {"model": painter, "prompt": PROMPT, "url": ["data:image/png;base64,"]}
    given["url"][0] += base64.b64encode(png()).decode()
    with working():
        assert client.post("/images/edits", cast_to=object, body=given)["data"]
    assert stored(Job.objects.get().input["image"]) == png()


def test_the_same_edit_with_the_same_key_is_one_call(market, client, painter):
    header = {"Idempotency-Key": "once"}
    with working():
        for _ in range(2):
            client.images.edit(model=painter, prompt=PROMPT, image=png(), extra_headers=header)
    assert (Job.objects.count(), File.objects.filter(purpose="input").count()) == (1, 1)


def test_a_large_body_without_a_key_is_refused_unread(market, make_client, painter):
    with pytest.raises(openai.AuthenticationError):
        make_client("nonsense").images.edit(model=painter, prompt=PROMPT, image=b"x" * 5_000_000)


def test_a_picture_may_be_larger_than_other_bodies(market, client, painter, settings):
    big = png() + b"x" * (settings.DATA_UPLOAD_MAX_MEMORY_SIZE + 1000)
    with working():
        client.images.edit(model=painter, prompt=PROMPT, image=big)
    assert stored(Job.objects.get().input["image"]) == big


def test_variations_say_what_to_call(market, client):
    with pytest.raises(openai.NotFoundError, match="images/edits"):
        client.post(
            "/images/variations",
            cast_to=object,
            files={"image": png()},
            options={"headers": {"Content-Type": "multipart/form-data"}},
        )
