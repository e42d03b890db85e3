"""tensorflow-model-optimization's guides on the default model, for `compression.py`: `... FOLDER`.

Needs `pip install tf-keras tensorflow-model-optimization`: it works with Keras 2 alone, so the network is built anew
there and takes over the trained weights. Follows the project's guides: pruning to 50 % and to 80 % (polynomial decay),
clustering in 16, quantization-aware training, and pruning, clustering and quantization-aware training one after the
other, each preserving what came before; then TFLiteConverter's default optimization. Epochs are those of harness's own
recipes of the kind, but for pruning to 80 %: 4 instead of 10.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

os.environ["TF_USE_LEGACY_KERAS"] = "1"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf
import tensorflow_model_optimization as tfmot
import tf_keras

ROOT = Path(__file__).resolve().parent.parent
BATCH = 128


def main() -> None:
    """Train and convert each, into the folder named on the command line."""
    folder = Path(sys.argv[1])
    data = training_data()
    sparse50 = pruned(data, 0.5, epochs=3)
    sparse80 = pruned(data, 0.8, epochs=4)
    clustered = cluster(trained(), data, epochs=2, keep_zeros=False)
    both = cluster(sparse50, data, epochs=1, keep_zeros=True)
    aware = fitted(tfmot.quantization.keras.quantize_model(trained()), data, epochs=2, rate=5e-4)
    all_three = tfmot.quantization.keras.quantize_apply(
        tfmot.quantization.keras.quantize_annotate_model(both),
        tfmot.experimental.combine.Default8BitClusterPreserveQuantizeScheme(preserve_sparsity=True),
    )
    fitted(all_three, data, epochs=1, rate=5e-4)
    for name, model in (
        ("prune50-dynamic", sparse50),
        ("prune80-dynamic", sparse80),
        ("cluster16-dynamic", clustered),
        ("prune50-cluster16-dynamic", both),
        ("qat-int8", aware),
        ("prune50-cluster16-qat-int8", all_three),
    ):
        (folder / f"{name}.tflite").write_bytes(convert(model))


def trained() -> Any:
    """Return the default model in Keras 2, with its trained weights."""
    layers = tf_keras.layers

    def normalised(x: Any) -> Any:
        return layers.ReLU(6.0)(layers.BatchNormalization(momentum=0.9)(x))

    image = x = layers.Input((28, 28, 1))
    x = normalised(layers.Conv2D(32, 3, strides=2, padding="same", use_bias=False)(x))
    for filters, strides in [(64, 2), (64, 1), (128, 2), (128, 1)]:
        x = normalised(layers.DepthwiseConv2D(3, strides=strides, padding="same", use_bias=False)(x))
        x = normalised(layers.Conv2D(filters, 1, use_bias=False)(x))
    x = layers.Dropout(0.2)(layers.GlobalAveragePooling2D()(x))
    model = tf_keras.Model(image, layers.Dense(10, activation="softmax")(x))
    import keras  # Keras 3, for the file alone

    model.set_weights(keras.models.load_model(ROOT / "models/fashion-dscnn/model.keras", compile=False).get_weights())
    return model


def pruned(data: Any, sparsity: float, *, epochs: int) -> Any:
    """Return the model pruned while training."""
    steps = epochs * (len(data[0]) // BATCH + 1)
    schedule = tfmot.sparsity.keras.PolynomialDecay(0.0, sparsity, 0, int(0.75 * steps))
    model = tfmot.sparsity.keras.prune_low_magnitude(trained(), pruning_schedule=schedule)
    fitted(model, data, epochs=epochs, rate=2e-3, callbacks=[tfmot.sparsity.keras.UpdatePruningStep()])
    return tfmot.sparsity.keras.strip_pruning(model)


def cluster(model: Any, data: Any, *, epochs: int, keep_zeros: bool) -> Any:
    """Return the model with 16 clusters a tensor."""
    settings: dict[str, Any] = {
        "number_of_clusters": 16,
        "cluster_centroids_init": tfmot.clustering.keras.CentroidInitialization.KMEANS_PLUS_PLUS,
    }
    if keep_zeros:
        from tensorflow_model_optimization.python.core.clustering.keras.experimental import cluster as experimental

        clustered = experimental.cluster_weights(model, preserve_sparsity=True, **settings)
    else:
        clustered = tfmot.clustering.keras.cluster_weights(model, **settings)
    fitted(clustered, data, epochs=epochs, rate=5e-4)
    return tfmot.clustering.keras.strip_clustering(clustered)


def fitted(model: Any, data: Any, *, epochs: int, rate: float, callbacks: Any = ()) -> Any:
    """Train a model in place and return it."""
    model.compile(tf_keras.optimizers.Adam(rate), "sparse_categorical_crossentropy")
    model.fit(*data, batch_size=BATCH, epochs=epochs, verbose=0, callbacks=list(callbacks))
    return model


def convert(model: Any) -> bytes:
    """Return the model with the converter's default optimization: dynamic range, or int8 if trained for it."""
    closed = tf_keras.Model(image := tf_keras.Input(batch_shape=(1, 28, 28, 1)), model(image, training=False))
    converter = tf.lite.TFLiteConverter.from_keras_model(closed)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    return bytes(converter.convert())


def training_data() -> tuple[Any, Any]:
    """Return the images that harness's recipes train on, and their labels."""
    from harness.datasets.training import as_input, load_training_data
    from harness.spec.model import find_model

    model = find_model("fashion-dscnn")
    data = load_training_data(model, (28, 28, 1)).training
    return np.asarray(as_input(data.images, model.preprocessing)), data.labels


if __name__ == "__main__":
    main()
