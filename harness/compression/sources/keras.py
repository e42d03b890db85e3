"""`.keras` and `.h5` files."""

from __future__ import annotations

import tempfile
from pathlib import Path

from harness.compression.sources.code import code_is_allowed, load_custom_objects
from harness.compression.sources.keras_config import loadable_copy
from harness.compression.sources.reading import conversion_failed, first_line, invalid_model, read_source_file
from harness.errors import CompressionError
from harness.spec.model import KerasApplication
from harness.tflite.library_types import KerasModel


def load_keras_file(path: Path, custom_objects: Path | None) -> KerasModel:
    """Load a Keras model, with the classes of the Python file `custom_objects`. Raises `CompressionError`."""
    read_source_file(path)
    objects = {} if custom_objects is None else load_custom_objects(custom_objects)
    import keras

    # safe_mode refuses Lambda layers and everything else that would run code out of the file.
    safe = not code_is_allowed()
    try:
        with tempfile.TemporaryDirectory(prefix="harness-keras-") as folder:
            copy = loadable_copy(path, Path(folder))
            return keras.models.load_model(copy, custom_objects=objects, compile=False, safe_mode=safe)
    except CompressionError:
        raise
    except Exception as error:  # Keras raises all kinds, from zipfile to TypeError
        safely = " safely" if safe else ""
        raise invalid_model(
            f"{path} is not a Keras model that can be loaded{safely}: {_reason(error)}", error
        ) from error


def _reason(error: Exception) -> str:
    """Return why Keras does not load a file, and what to do about code in it or a class that Keras does not know."""
    if "Lambda" in str(error) and "safe_mode" in str(error):
        return (
            "it has a Lambda layer, which is code. Give --allow-code if you trust the file, or export it in the "
            "environment that made it, tf.saved_model.save(model, FOLDER), and compress the folder."
        )
    if "register_keras_serializable" in str(error) or "Unknown layer" in str(error):
        return (
            f"{first_line(error)} A layer of your own needs its class: name the Python file in the model's TOML file "
            "as custom_objects under [source], and give --allow-code."
        )
    return first_line(error)


SEED = 1
"""Seeds the weights of a network that is measured without trained ones, so that its variants stay the same."""


def build_application(source: KerasApplication) -> KerasModel:
    """Build the network. Raises `CompressionError`."""
    import keras

    build = getattr(keras.applications, source.application, None)
    if not callable(build):
        raise invalid_model(f"keras.applications has no network called {source.application!r}.")
    keras.utils.set_random_seed(SEED)
    weights = None if source.weights == "none" else source.weights
    try:
        return build(weights=weights, input_shape=source.input_shape)
    except Exception as error:  # downloads and shape checks raise all kinds
        message = f"{source.application} could not be built: {first_line(error).rstrip('.')}."
        if weights:
            message += ' Without a network, set weights = "none" to measure latency and memory alone.'
        raise conversion_failed(message, str(error)) from error
