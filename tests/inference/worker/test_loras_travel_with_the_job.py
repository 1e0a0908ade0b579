"""A LoRA that was uploaded comes to the worker by URL, one of the catalogue by its address."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from inference.engine.weights import Model
from inference.protocol import RunJob, lora_field
from tests.inference.control import Control
from tests.inference.engine.lora.files import flux_peft, save, sha256

pytestmark = pytest.mark.usefixtures("worker")
GIVEN = {"prompt": "a red circle", "width": 64, "height": 64, "steps": 3, "seed": 7}


def _picture(control: Control, job: RunJob) -> np.ndarray:
    from io import BytesIO

    from PIL import Image

    control.finished(job)
    return np.asarray(Image.open(BytesIO(control.receiver.bodies[f"/{job.uploads[0].key}"])))


def _send(control: Control, model: Model, loras: list[dict[str, Any]], **inputs: str) -> RunJob:
    given = {**GIVEN, **({"loras": loras} if loras else {})}
    return control.send(control.job(model, input=given, inputs=inputs))


def test_an_uploaded_lora_acts_as_one_on_the_disk(
    control: Control, tiny_model: Model, weights_dir: Path
) -> None:
    path = save(weights_dir / "travels.safetensors", flux_peft(seed=3))
    url = control.input(path.read_bytes())
    uploaded = _send(
        control, tiny_model, [{"uri": "upload:1", "scale": 0.5}], **{lora_field(0): url}
    )
    known = {"uri": path.as_uri(), "digest": sha256(path), "scale": 0.5}
    there = _send(control, tiny_model, [known])
    plain = _send(control, tiny_model, [])
    drawn = _picture(control, uploaded)
    assert np.array_equal(drawn, _picture(control, there))
    assert not np.array_equal(drawn, _picture(control, plain))


def test_another_upload_of_the_same_name_is_another_lora(
    control: Control, tiny_model: Model, tmp_path: Path
) -> None:
    pictures = []
    for seed in (4, 5):
        path = save(tmp_path / f"{seed}.safetensors", flux_peft(seed=seed))
        job = _send(
            control,
            tiny_model,
            [{"uri": "upload:same"}],
            **{lora_field(0): control.input(path.read_bytes())},
        )
        pictures.append(_picture(control, job))
    assert not np.array_equal(*pictures)


def test_a_lora_that_is_a_pickle_is_refused(control: Control, tiny_model: Model) -> None:
    url = control.input(b"\x80\x04cbuiltins\nexec\n.")
    job = _send(control, tiny_model, [{"uri": "upload:1"}], **{lora_field(0): url})
    failed = control.failed(job)
    assert (failed.code, failed.retryable) == ("weights_mismatch", False)
    assert failed.message == "LoRA loras.0 is not a whole safetensors file"


def test_a_lora_with_another_digest_is_refused_without_its_address(
    control: Control, tiny_model: Model, weights_dir: Path
) -> None:
    path = save(weights_dir / "digest-travels.safetensors", flux_peft())
    wrong = {"uri": path.as_uri(), "digest": "sha256:" + "0" * 64}
    failed = control.failed(_send(control, tiny_model, [wrong]))
    assert failed.code == "weights_mismatch"
    assert failed.message.startswith("LoRA loras.0 has the digest sha256:")


def test_a_lora_in_a_directory_that_is_not_read_is_refused_without_its_address(
    control: Control, tiny_model: Model
) -> None:
    away = {"uri": "file:///srv/of-somebody/look.safetensors", "digest": "sha256:" + "0" * 64}
    failed = control.failed(_send(control, tiny_model, [away]))
    assert failed.code == "weights_unavailable"
    assert failed.message == "loras.0 is below no directory in MERCATO_WEIGHTS_DIRS"


def test_the_names_in_a_file_are_told_in_one_short_line(
    control: Control, tiny_model: Model, tmp_path: Path
) -> None:
    name = "a\0b\nc" + "d" * 100_000
    path = save(tmp_path / "names.safetensors", {f"{name}.lora_A.weight": torch.ones(4, 4)})
    url = control.input(path.read_bytes())
    job = _send(control, tiny_model, [{"uri": "upload:1"}], **{lora_field(0): url})
    failed = control.failed(job)
    assert (failed.code, failed.retryable) == ("invalid_input", False)
    assert failed.message.isprintable()
    assert "a b c" in failed.message
    assert len(failed.message) <= 2000


def test_an_upload_without_its_file_is_refused(control: Control, tiny_model: Model) -> None:
    failed = control.failed(_send(control, tiny_model, [{"uri": "upload:1"}]))
    assert failed.code == "weights_unavailable"
