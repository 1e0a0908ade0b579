"""A safetensors file whose header lies is refused before any tensor of it is read."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from inference.engine.errors import WeightsMismatchError
from inference.engine.weights import Model, WeightsStore
from inference.engine.weights.rules import MAX_HEADER_BYTES, check_header
from tests.inference.engine.weights.conftest import WEIGHTS
from tests.inference.engine.weights.models import write_model


def _tensor(start: int = 0, stop: int = 8, **changes: Any) -> dict[str, Any]:
    return {"dtype": "F32", "shape": [2], "data_offsets": [start, stop], **changes}


def _file(header: object, body: bytes = b"\0" * 8, length: int | None = None) -> bytes:
    head = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(head) if length is None else length) + head + body


GOOD = _file({"x": _tensor()})


def test_a_good_one_passes(tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").write_bytes(GOOD)
    check_header(tmp_path / "x.safetensors")
    save_file({"a": np.ones(3), "b": np.zeros((2, 2), np.float16)}, tmp_path / "y.safetensors")
    check_header(tmp_path / "y.safetensors")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\0" * 7,
        b"\x80\x04\x95pickled",
        _file({}, b"", length=2**63),
        _file({}, b"", length=2**64 - 1),
        _file({"x": _tensor()}, length=10**6),
        _file(b"not json"),
        _file(b"[1, 2]"),
        _file(b'{"x": ' * 10_000),
        _file(b"\xff\xfe{}"),
        _file({"x": _tensor(dtype="PICKLE")}),
        _file({"x": _tensor(shape=[3])}),
        _file({"x": _tensor(shape=[-2])}),
        _file({"x": _tensor(shape=[2**62, 4])}),
        _file({"x": _tensor(0, 2**40)}),
        _file({"x": _tensor(8, 0)}),
        _file({"x": _tensor(-8, 0)}),
        _file({"x": _tensor(0, 8), "y": _tensor(0, 8)}),
        _file({"x": _tensor(0, 8), "y": _tensor(4, 12)}, b"\0" * 12),
        _file({"x": _tensor(0, 8), "y": _tensor(12, 20)}, b"\0" * 20),
        _file({"x": _tensor()}, b"\0" * 9),
        _file({"x": _tensor()}, b"\0" * 7),
        _file({"x": {"dtype": "F32"}}),
        GOOD[:-1],
        GOOD + b"PK\x03\x04",
    ],
)
def test_a_header_that_lies_is_refused(tmp_path: Path, body: bytes) -> None:
    (tmp_path / "x.safetensors").write_bytes(body)
    with pytest.raises(WeightsMismatchError, match=r"^x\.safetensors "):
        check_header(tmp_path / "x.safetensors")


def test_a_header_that_would_fill_the_memory_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    with path.open("wb") as file:
        file.write(struct.pack("<Q", MAX_HEADER_BYTES + 1))
    os.truncate(path, 2**36)  # sparse: 64 GiB that take no room
    with pytest.raises(WeightsMismatchError, match="which is too long"):
        check_header(path)


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(at=st.integers(0, len(GOOD) - 9), byte=st.integers(0, 255))
def test_any_changed_byte_of_a_header_passes_or_is_one_clear_error(
    tmp_path: Path, at: int, byte: int
) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(GOOD[:at] + bytes([byte]) + GOOD[at + 1 :])
    try:
        check_header(path)
    except WeightsMismatchError as error:
        assert str(error).startswith("x.safetensors ")  # noqa: PT017 (either outcome is right)


def test_the_store_refuses_a_model_with_such_a_file(tmp_path: Path) -> None:
    directory = write_model(tmp_path / "model", 0.1)
    with (directory / WEIGHTS).open("ab") as file:
        file.write(b"appended")
    model = Model(uri=directory.as_uri(), digest=None, family="flux")
    with pytest.raises(WeightsMismatchError, match="is no safetensors file"):
        WeightsStore([tmp_path]).open(model)
