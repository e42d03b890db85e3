"""SavedModel folders of TensorFlow. Their graph is run by TensorFlow alone; no Python comes out of the folder."""

from __future__ import annotations

from pathlib import Path

from harness.compression.sources.reading import (
    conversion_failed,
    digest_of_files,
    first_line,
    invalid_model,
    require_bounded,
)
from harness.tflite.library_types import TensorFlowFunction

SIGNATURE = "serving_default"
_GRAPH = "saved_model.pb"


def is_saved_model(folder: Path) -> bool:
    """Return True if a folder holds a SavedModel."""
    return (folder / _GRAPH).is_file()


def digest_saved_model(folder: Path) -> str:
    """Return the SHA-256 of all that is in the folder. Raises `CompressionError` for what is no SavedModel."""
    if not is_saved_model(folder):
        raise invalid_model(f"{folder} is not a SavedModel folder: there is no {_GRAPH} in it.")
    files = [path for path in folder.rglob("*") if path.is_file()]
    require_bounded(sum(path.stat().st_size for path in files), folder)
    return digest_of_files(folder, files)


def convert_saved_model(folder: Path) -> bytes:
    """Return the float graph of the serving signature, with a batch of one. Raises `CompressionError`."""
    import tensorflow as tf

    from harness.compression.sources.float_graph import computes_in_other_floats, in_float32

    try:
        loaded = tf.saved_model.load(folder)
    except Exception as error:  # TensorFlow raises all kinds
        raise invalid_model(f"{folder} cannot be loaded as a SavedModel: {first_line(error)}", error) from error
    signature = _serving_signature(loaded, folder)
    inputs = signature.structured_input_signature[1]
    shapes = {name: tf.TensorSpec(_closed_shape(name, spec), spec.dtype, name=name) for name, spec in inputs.items()}
    try:
        closed = tf.function(signature).get_concrete_function(**shapes)
        if computes_in_other_floats(closed):
            closed, loaded = in_float32(closed), tf.Module()  # its variables are constants now
        return bytes(tf.lite.TFLiteConverter.from_concrete_functions([closed], loaded).convert())
    except Exception as error:  # as above
        raise conversion_failed(f"TensorFlow's converter refused the model: {first_line(error)}", str(error)) from error


def _serving_signature(loaded: TensorFlowFunction, folder: Path) -> TensorFlowFunction:
    signatures = dict(loaded.signatures)
    if SIGNATURE in signatures:
        return signatures[SIGNATURE]
    if len(signatures) == 1:
        return next(iter(signatures.values()))
    found = ", ".join(signatures) or "none"
    raise invalid_model(
        f"{folder} has no signature {SIGNATURE!r} (found: {found}), so it does not say what goes in and what comes "
        "out. Save it again with one: model.export(FOLDER) in Keras."
    )


def _closed_shape(name: str, spec: TensorFlowFunction) -> tuple[int, ...]:
    if spec.shape.rank is None or None in tuple(spec.shape)[1:]:
        raise conversion_failed(
            f"The model's input {name} has the open shape {spec.shape}: fix every size but the first."
        )
    sizes = tuple(spec.shape)
    return (1, *sizes[1:]) if sizes and sizes[0] is None else sizes
