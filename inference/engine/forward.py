"""Runs one forward pass for rows of several samples, and says which rows are in it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from inference.engine.sample import Row, Sample

if TYPE_CHECKING:
    import torch


class _Current(threading.local):
    rows: list[Row] | None = None


_current = _Current()


def current_rows() -> list[Row] | None:
    """Return the rows of the forward pass that this thread is in, in the order of the batch.

    None outside of one: what is mounted on a model must then act as if it were not there.
    """
    return _current.rows


@contextmanager
def only(rows: list[Row] | None) -> Iterator[None]:
    """Let `current_rows` return `rows` for a while, as where only some of a batch are run here."""
    before = _current.rows
    _current.rows = rows
    try:
        yield
    finally:
        _current.rows = before


def forward(rows: list[Row]) -> list[torch.Tensor]:
    """Return the denoiser's prediction for each row, each with a leading dimension of 1.

    All rows must have one key. Raises whatever the model raises.
    """
    import torch

    sample = rows[0].sample
    names = rows[0].inputs
    inputs = {name: torch.cat([row.inputs[name] for row in rows]) for name in names}
    with only(rows):
        predicted: torch.Tensor = sample.loaded.predict(inputs, sample.shared)
    return list(predicted.split(1))


def advance(samples: list[Sample]) -> dict[Sample, Exception]:
    """Take every sample one step further, in one forward pass; return those that failed, and why.

    Raises what the model raises, before any sample is changed: the pass can be tried again.
    """
    rows = [row for sample in samples for row in sample.loaded.family.rows(sample)]
    predicted: dict[Sample, dict[str, torch.Tensor]] = {sample: {} for sample in samples}
    for row, prediction in zip(rows, forward(rows), strict=True):
        predicted[row.sample][row.branch] = prediction
    failed: dict[Sample, Exception] = {}
    for sample in samples:
        try:
            sample.loaded.family.advance(sample, predicted[sample])
        except Exception as error:
            failed[sample] = error
    return failed
