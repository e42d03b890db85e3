"""Where a model comes from: each kind of source, as a Keras model or as a `.tflite` file's content."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness.compression.flatbuffer import MAX_BYTES
from harness.errors import CompressionError, Failure, FailureClass
from harness.spec.model import EfficientNetLite0, KerasApplication, KerasFile, ModelSpec, TfliteFile

SEED = 1
"""Seeds the weights of a network that is measured without trained ones, so that its variants stay the same."""


def source_file(model: ModelSpec) -> Path | None:
    """Return the file that holds the model, None for a network that is built by code."""
    if isinstance(model.source, KerasFile | TfliteFile):
        return model.locate(model.source.path)
    return None


def read_source_file(path: Path) -> bytes:
    """Return the content. Raises `CompressionError` (invalid_model) with the reason."""
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise _invalid(f"{path} has {size} bytes; models of more than 2 GiB cannot become a .tflite file.")
        content = path.read_bytes()
    except OSError as error:
        raise _invalid(f"{path}: the model file cannot be read ({error.strerror}).") from error
    if not content:
        raise _invalid(f"{path} is empty.")
    return content


def load_keras_model(model: ModelSpec) -> Any:  # noqa: ANN401 - Keras has no types
    """Load or build the Keras model. Imports TensorFlow. Raises `CompressionError`."""
    source = model.source
    if isinstance(source, KerasFile):
        return load_keras_file(model.locate(source.path))
    if isinstance(source, KerasApplication):
        return _load_application(source)
    if isinstance(source, EfficientNetLite0):
        from harness.compression.efficientnet_lite import pretrained_efficientnet_lite0

        return pretrained_efficientnet_lite0()
    raise CompressionError(
        Failure(
            FailureClass.CONVERSION_FAILED,
            f"Model {model.name!r} is a .tflite file: there is no Keras model that this recipe could train.",
        )
    )


def load_keras_file(path: Path) -> Any:  # noqa: ANN401 - as above
    """Load a Keras file safely. Raises `CompressionError` (invalid_model)."""
    import keras

    read_source_file(path)
    try:
        # safe_mode refuses Lambda layers and everything else that would run code out of the file.
        return keras.models.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # Keras raises all kinds, from zipfile to TypeError
        raise _invalid(f"{path} is not a Keras model that can be loaded safely: {_first_line(error)}", error) from error


def _load_application(source: KerasApplication) -> Any:  # noqa: ANN401 - as above
    import keras

    build = getattr(keras.applications, source.application, None)
    if not callable(build):
        raise _invalid(f"keras.applications has no network called {source.application!r}.")
    keras.utils.set_random_seed(SEED)
    weights = None if source.weights == "none" else source.weights
    try:
        return build(weights=weights, input_shape=source.input_shape)
    except Exception as error:  # downloads and shape checks raise all kinds
        message = f"{source.application} could not be built: {_first_line(error).rstrip('.')}."
        if weights:
            message += ' Without a network, set weights = "none" to measure latency and memory alone.'
        raise CompressionError(Failure(FailureClass.CONVERSION_FAILED, message, str(error))) from error


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _invalid(message: str, error: Exception | None = None) -> CompressionError:
    return CompressionError(Failure(FailureClass.INVALID_MODEL, message, "" if error is None else str(error)))
