"""Networks of `keras.applications`."""

from __future__ import annotations

from typing import Any

from harness.compression.sources.reading import conversion_failed, first_line, invalid_model
from harness.spec.model import KerasApplication

SEED = 1
"""Seeds the weights of a network that is measured without trained ones, so that its variants stay the same."""


def build_application(source: KerasApplication) -> Any:  # noqa: ANN401 - Keras has no types
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
