"""tensorflow-model-optimization without training, for `compression_quality.py`: `... MODEL CALIBRATION FOLDER`.

Writes float `.tflite` files with 32 and 64 clusters per tensor and with 30 % and 50 % zeros, and prints one JSON line
with the seconds that each took. CALIBRATION is a `.npy` file of inputs as the network takes them. Clustering needs no
training at all; pruning chooses its zeros in a step of training, which runs with a learning rate of 0 on one sample.
Needs `pip install tf-keras tensorflow-model-optimization`: it works with Keras 2 alone, so the network is rebuilt.
"""

from __future__ import annotations

import inspect
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

os.environ["TF_USE_LEGACY_KERAS"] = "1"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf
import tensorflow_model_optimization as tfmot
import tf_keras

from harness.compression.sources.load import load_keras_model
from harness.spec.model import find_model

MOST_DIFFERENCE = 1e-5
"""Outputs of the rebuilt network that differ by more mean that it is another network."""


def main() -> None:
    """Rebuild the network, check it, and write its variants."""
    name, calibration, folder = sys.argv[1], np.load(sys.argv[2]), Path(sys.argv[3])
    original = load_keras_model(find_model(name))
    network = rebuilt(original)
    wanted, found = (np.asarray(model.predict(calibration[:4], verbose=0)) for model in (original, network))
    difference = float(np.abs(found - wanted).max())
    if difference > MOST_DIFFERENCE:
        raise SystemExit(f"Cannot rebuild {name} in Keras 2: outputs differ by {difference:.2g}.")
    seconds = {}
    for variant, make in (
        ("32 clusters", lambda network: clustered(network, 32)),
        ("64 clusters", lambda network: clustered(network, 64)),
        ("30 % pruned", lambda network: pruned(network, 0.3, calibration[:1])),
        ("50 % pruned", lambda network: pruned(network, 0.5, calibration[:1])),
    ):
        started = time.monotonic()
        (folder / f"{variant}.tflite").write_bytes(convert(make(rebuilt(original))))  # a fresh one: they change it
        seconds[variant] = time.monotonic() - started
    print(json.dumps({"difference": difference, "seconds": seconds}))


def rebuilt(original: Any) -> Any:
    """Return a functional Keras 3 network in Keras 2 with the same weights; networks inside it are flattened."""
    twins: dict[int, tuple[Any, Any]] = {}

    def twin(layer: Any) -> Any:
        if hasattr(layer, "_run_through_graph"):
            return lambda inputs, **_: layer._run_through_graph(inputs, twin)
        if id(layer) not in twins:
            twins[id(layer)] = layer, same_layer(layer)
        return twins[id(layer)][1]

    inputs = [tf_keras.Input(tensor.shape[1:]) for tensor in original.inputs]
    network = tf_keras.Model(inputs, original._run_through_graph(inputs, twin))
    for layer, new in twins.values():
        new.set_weights(layer.get_weights())
    return network


def same_layer(layer: Any) -> Any:
    """Return a Keras 3 layer in Keras 2, untrained: initializers and the like mean nothing for given weights."""
    kind = getattr(tf_keras.layers, type(layer).__name__)
    known = {name for base in kind.__mro__ for name in inspect.signature(base.__init__).parameters}
    plain = (bool, int, float, str, list, tuple)
    settings = {key: item for key, item in layer.get_config().items() if key in known and isinstance(item, plain)}
    settings.pop("trainable", None)  # the package leaves out layers that were saved frozen
    return kind(**settings)


def clustered(network: Any, count: int) -> Any:
    """Return the network with at most `count` values per tensor, as the project's guide does it, but untrained."""
    start = tfmot.clustering.keras.CentroidInitialization.KMEANS_PLUS_PLUS
    model = tfmot.clustering.keras.cluster_weights(network, number_of_clusters=count, cluster_centroids_init=start)
    return tfmot.clustering.keras.strip_clustering(model)


def pruned(network: Any, sparsity: float, sample: Any) -> Any:
    """Return the network with zeros in the kernels that the package prunes by default."""
    schedule = tfmot.sparsity.keras.ConstantSparsity(sparsity, begin_step=0, frequency=1)
    model = tfmot.sparsity.keras.prune_low_magnitude(network, pruning_schedule=schedule)
    for layer in model.layers:  # else the step would move its averages
        if isinstance(getattr(layer, "layer", layer), tf_keras.layers.BatchNormalization):
            layer.trainable = False
    model.compile(tf_keras.optimizers.SGD(0.0), "mse")
    answer = model.predict(sample, verbose=0)
    model.fit(sample, answer, epochs=1, verbose=0, callbacks=[tfmot.sparsity.keras.UpdatePruningStep()])
    return tfmot.sparsity.keras.strip_pruning(model)


def convert(model: Any) -> bytes:
    """Return the float graph of the network, with a batch of one."""
    image = tf_keras.Input(batch_shape=(1, *model.inputs[0].shape[1:]))
    closed = tf_keras.Model(image, model(image, training=False))
    return bytes(tf.lite.TFLiteConverter.from_keras_model(closed).convert())


if __name__ == "__main__":
    main()
