"""Make the tiny models and samples in `data/` that the tests of this folder run; needs TensorFlow, the tests do not.

`python tests/accuracy/make_models.py` trains on the 500 calibration images of the default model, halved to 14 x 14.
"""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

HERE = Path(__file__).parent
SOURCE = HERE.parents[1] / "models" / "fashion-dscnn" / "data.npz"
SCALE, OFFSET = 2 / 255, -1.0
SAMPLES = 200
SEED = 3


def as_input(images: np.ndarray) -> np.ndarray:
    return (images.astype(np.float32) * SCALE + OFFSET)[..., None]


def train(images: np.ndarray, labels: np.ndarray) -> keras.Model:
    keras.utils.set_random_seed(SEED)
    model = keras.Sequential(
        [
            keras.Input((14, 14, 1)),
            keras.layers.Conv2D(8, 3, strides=2, activation="relu"),
            keras.layers.DepthwiseConv2D(3, activation="relu"),
            keras.layers.Conv2D(24, 3, activation="relu"),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(as_input(images), labels, epochs=60, batch_size=50, verbose=0)
    return model


def flattened(model: keras.Model) -> keras.Model:
    """Return a model with a Flatten, which becomes a RESHAPE to a constant shape: its batch cannot be resized."""
    features = model.layers[2].output
    scores = keras.layers.Dense(10, activation="softmax")(keras.layers.Flatten()(features))
    return keras.Model(model.inputs, scores)


def two_inputs() -> keras.Model:
    """Return a model with two inputs and two outputs: their sum pooled, and their difference."""
    first, second = keras.Input((4, 4, 2), name="first"), keras.Input((4, 4, 2), name="second")
    total = keras.layers.GlobalAveragePooling2D()(keras.layers.Add()([first, second]))
    return keras.Model([first, second], [total, keras.layers.Subtract()([first, second])])


def detector() -> keras.Model:
    """Return a model that reshapes boxes of two scales to a batch of one and joins them: a batch of two mixes them."""
    keras.utils.set_random_seed(SEED)
    inputs = keras.Input((6, 6, 1))
    scales = [keras.layers.Conv2D(2, 3, strides=strides)(inputs) for strides in (1, 3)]
    boxes = [keras.ops.reshape(boxes, (1, -1, 2)) for boxes in scales]
    return keras.Model(inputs, keras.ops.concatenate(boxes, axis=1))


def convert(
    model: keras.Model, batch: int | None = 1, calibration: np.ndarray | None = None, io: object = None
) -> bytes:
    inputs = [keras.Input(batch_shape=(batch, *tensor.shape[1:]), name=tensor.name) for tensor in model.inputs]
    closed = keras.Model(inputs, model(inputs if len(inputs) > 1 else inputs[0], training=False))
    converter = tf.lite.TFLiteConverter.from_keras_model(closed)
    if calibration is not None:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([image[None]] for image in calibration)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    if io is not None:
        converter.inference_input_type = converter.inference_output_type = io
    return bytes(converter.convert())


def main() -> None:
    with np.load(SOURCE) as archive:
        test = archive["test_images"][:: 2000 // SAMPLES, ::2, ::2], archive["test_labels"][:: 2000 // SAMPLES]
        calibration = archive["calibration_images"][:, ::2, ::2]
        more = archive["test_images"][1::2, ::2, ::2], archive["test_labels"][1::2]
    model = train(*more)
    inputs = as_input(calibration[:100])
    HERE.joinpath("data").mkdir(exist_ok=True)
    files = {
        "detector-float": convert(detector()),
        "pooled-float": convert(model),
        "pooled-int8": convert(model, calibration=inputs),
        "pooled-int8-io": convert(model, calibration=inputs, io=tf.int8),
        "pooled-dynamic-batch": convert(model, batch=None),
        "flatten-float": convert(flattened(model)),
        "two-inputs": convert(two_inputs()),
    }
    for name, content in files.items():
        HERE.joinpath("data", f"{name}.tflite").write_bytes(content)
        print(name, len(content))
    np.savez_compressed(
        HERE / "data" / "samples.npz", test_images=test[0], test_labels=test[1], calibration_images=calibration[:10]
    )
    print("float top-1", float((model.predict(as_input(test[0]), verbose=0).argmax(1) == test[1]).mean()))


if __name__ == "__main__":
    main()
