"""Networks that hold other networks as layers."""

from __future__ import annotations

from harness.errors import CompressionError, Failure, FailureClass
from harness.tflite.library_types import JsonValue, KerasModel, KerasTensor


def flattened(network: KerasModel) -> KerasModel:
    """Return a functional network of the same layers without networks nested in it. Raises `CompressionError`."""
    import keras

    def call(layer: KerasModel, *arguments: KerasTensor, **options: JsonValue) -> KerasTensor:
        if not isinstance(layer, keras.Model):
            return layer(*arguments, **options)
        inner = keras.Model(layer.inputs, layer.outputs)
        return inner._run_through_graph(*arguments, operation_fn=lambda operation: operation, call_fn=call)

    if isinstance(network, keras.Sequential):
        network = keras.Model(network.inputs, network.outputs, name=network.name)
    nested = [layer.name for layer in network.layers if isinstance(layer, keras.Model)]
    if not nested:
        return network
    try:
        return keras.models.clone_model(network, clone_function=lambda layer: layer, call_function=call)
    except (AttributeError, TypeError, ValueError) as error:  # no graph inside, or two layers of one name
        message = f"The model holds models as layers ({', '.join(nested)}): save it as one flat functional model."
        raise CompressionError(Failure(FailureClass.CONVERSION_FAILED, message)) from error
