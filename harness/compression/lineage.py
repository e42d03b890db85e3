"""Out of what a variant is made: everything that decides its bytes, and the key of the cache that follows from it."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json

from pydantic import BaseModel, ConfigDict

from harness.compression.calibration import describe_calibration
from harness.compression.recipes import calibration_request, step_settings, trains
from harness.compression.sources.load import source_digest, source_libraries
from harness.datasets.training import describe_training_data
from harness.spec.model import ModelSpec
from harness.spec.recipe import Recipe

GENERATION = 14
"""Raised when harness itself comes to make other bytes of the same inputs."""

_GRAPH_LIBRARIES = ("ai-edge-litert", "litert-quantizer")


class Lineage(BaseModel):
    """The part of a card that is known before the variant is made; see `VariantCard` for the fields."""

    model_config = ConfigDict(frozen=True)

    model: str
    model_sha256: str
    recipe: str
    steps: tuple[dict[str, object], ...]
    target_runtime: str
    libraries: dict[str, str]
    calibration: str | None
    training_data: str | None = None

    def key(self, model: ModelSpec) -> str:
        """Return the cache key of the variant: SHA-256 in hexadecimal."""
        return _digest({**self.model_dump(), **_input_settings(model)})

    def step_key(self, model: ModelSpec, steps: int) -> str:
        """Return the cache key of the result of the first `steps` steps; recipes that begin alike share it."""
        common: dict[str, object] = {
            "model_sha256": self.model_sha256,
            "libraries": self.libraries,
            "steps": self.steps[:steps],
        }
        if steps == 0:
            return _digest(common)
        return _digest({**common, "training_data": self.training_data, **_input_settings(model)})


def trace(model: ModelSpec, recipe: Recipe) -> Lineage:
    """Return a variant's lineage; imports neither TensorFlow nor NumPy.

    Raises `CompressionError` for a model or data that cannot be read and for missing calibration data, `UsageError`
    for an unknown technique or setting.
    """
    settings = step_settings(recipe, origin=f"recipe {recipe.name}")
    request = calibration_request(recipe)
    if request is not None and request.is_optional and model.data is None:
        request = None
    return Lineage(
        model=model.name,
        model_sha256=_model_digest(model),
        recipe=recipe.name,
        steps=tuple(
            {"technique": step.technique, "settings": values.model_dump(mode="json")}
            for step, values in zip(recipe.steps, settings, strict=True)
        ),
        target_runtime=recipe.target_runtime,
        libraries=_libraries(model),
        calibration=None if request is None else describe_calibration(model, request),
        training_data=describe_training_data(model) if trains(recipe) else None,
    )


def _input_settings(model: ModelSpec) -> dict[str, object]:
    """Return what decides how images reach the model, besides the images themselves."""
    training = model.training.model_dump(mode="json") if model.training else None
    return {"preprocessing": model.preprocessing.model_dump(), "training": training}


def _model_digest(model: ModelSpec) -> str:
    """Return the SHA-256 of the model's files, or of the description of a network that is built by code."""
    return source_digest(model) or _digest(model.source.model_dump(mode="json"))


def _libraries(model: ModelSpec) -> dict[str, str]:
    return {name: _version(name) for name in (*_GRAPH_LIBRARIES, *source_libraries(model))}


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "missing"


def _digest(values: dict[str, object]) -> str:
    text = json.dumps({"generation": GENERATION, **values}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
