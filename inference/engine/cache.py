"""Keeps the pipelines that were used last on the device."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from inference.engine.device import Device
from inference.engine.errors import DeviceMemoryError, EngineError, WeightsUnavailableError
from inference.engine.families import get_family
from inference.engine.families.base import Family
from inference.engine.weights import Model, WeightsStore


class PipelineCache:
    """At most `limit` loaded pipelines, least recently used out first. Engine thread only."""

    def __init__(self, weights: WeightsStore, device: Device, limit: int) -> None:
        self._weights = weights
        self._device = device
        self._limit = limit
        self._loaded: OrderedDict[Model, tuple[Family, Any]] = OrderedDict()

    def get(self, model: Model) -> tuple[Family, Any]:
        """Return the adapter and the pipeline of `model`, verified and loaded if need be.

        Raises WeightsUnavailableError, WeightsMismatchError or DeviceMemoryError.
        """
        if model in self._loaded:
            self._loaded.move_to_end(model)
            return self._loaded[model]
        family = get_family(model.family)
        directory = self._weights.open(model)
        while len(self._loaded) >= self._limit:
            self._loaded.popitem(last=False)
            self._device.release()
        try:
            pipeline = family.load(directory, self._device)
        except EngineError:
            raise
        except MemoryError as error:
            raise DeviceMemoryError(f"{model.uri} does not fit in memory") from error
        except Exception as error:
            if type(error).__name__ == "OutOfMemoryError":
                self._device.release()
                raise DeviceMemoryError(f"{model.uri} does not fit on the device") from error
            raise WeightsUnavailableError(
                f"{model.uri} does not load ({type(error).__name__})"
            ) from error
        self._loaded[model] = family, pipeline
        return family, pipeline

    def models(self) -> list[Model]:
        """Return what is loaded; safe from any thread."""
        return list(self._loaded)
