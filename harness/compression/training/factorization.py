"""Replace layers of a Keras network by two thinner ones, by singular value decomposition."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from harness.compression.training.kernels import set_weights
from harness.compression.training.nested import flattened
from harness.tflite.library_types import JsonValue, KerasModel, KerasTensor

DEFAULT_ENERGY = 0.95
_CONVOLUTIONS = (keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D)

Matrix = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class _Pair:
    """Two layers in place of one, and the kernels that they get once the network has been rebuilt."""

    first: Any
    second: Any
    thin: Matrix
    wide: Matrix


def factorized(network: KerasModel, *, energy: float | None, ratio: float | None) -> tuple[KerasModel, dict[str, int]]:
    """Return the network with thinner layers and the rank of each layer that was replaced, by its name.

    A dense kernel (inputs, outputs) becomes (inputs, rank) and (rank, outputs). A convolution (height, width, inputs,
    outputs), or one of another dimension, becomes one of `rank` filters and a pointwise one (Zhang et al. 2016,
    "Accelerating Very Deep Convolutional Networks", section 3.1). With `ratio` the rank leaves at most that share of
    weights; else it keeps `energy`.
    """
    network = flattened(network)
    ranks: dict[str, int] = {}
    pairs: dict[str, _Pair] = {}
    for layer in network.layers:
        matrix = _matrix(layer)
        if matrix is None:
            continue
        rank = _rank(matrix, energy=energy, ratio=ratio)
        if rank * sum(matrix.shape) < matrix.size:
            ranks[layer.name] = rank
            pairs[layer.name] = _two_layers(layer, matrix, rank)

    def call(layer: KerasModel, *arguments: KerasTensor, **options: JsonValue) -> KerasModel:
        if layer.name not in pairs:
            return layer(*arguments, **options)
        pair = pairs[layer.name]
        return pair.second(pair.first(*arguments))

    if not ranks:
        return network, ranks
    smaller = keras.models.clone_model(network, call_function=call)
    _copy_weights(network, smaller, pairs)
    return smaller, ranks


def best_rank(singular_values: Matrix, energy: float) -> int:
    """Return the smallest rank that keeps a share of the squared singular values (Eckart and Young 1936)."""
    kept = np.cumsum(singular_values**2) / np.sum(singular_values**2)
    return int(np.searchsorted(kept, energy) + 1)


def _matrix(layer: KerasModel) -> Matrix | None:
    """Return a layer's kernel as (everything else, outputs); None for what cannot be split."""
    if isinstance(layer, keras.layers.Dense):
        return np.asarray(layer.kernel.numpy())
    if type(layer) in _CONVOLUTIONS and layer.groups == 1:
        kernel = layer.kernel.numpy()
        return np.asarray(kernel.reshape(-1, kernel.shape[-1]))
    return None


def _rank(matrix: Matrix, *, energy: float | None, ratio: float | None) -> int:
    if ratio is not None:
        return max(1, int(ratio * matrix.size / sum(matrix.shape)))
    values = np.linalg.svd(matrix, compute_uv=False)
    return best_rank(values, energy or DEFAULT_ENERGY) if values.any() else 1


def _two_layers(layer: KerasModel, matrix: Matrix, rank: int) -> _Pair:
    left, values, right = np.linalg.svd(matrix, full_matrices=False)
    root = np.sqrt(values[:rank])
    factors = left[:, :rank] * root, root[:, None] * right[:rank]
    config = layer.get_config()
    size = "filters" if type(layer) in _CONVOLUTIONS else "units"
    pointwise = (1,) * (layer.kernel.ndim - 2)
    first = type(layer).from_config(
        {**config, "name": f"{layer.name}_thin", size: rank, "use_bias": False, "activation": "linear"}
    )
    last = {**config, "name": layer.name}
    if size == "filters":
        last |= {"kernel_size": pointwise, "strides": pointwise, "dilation_rate": pointwise, "padding": "valid"}
    second = type(layer).from_config(last)
    wide = factors[1].reshape((*pointwise, *factors[1].shape))
    return _Pair(first, second, factors[0].reshape(*layer.kernel.shape[:-1], rank), wide)


def _copy_weights(network: KerasModel, smaller: KerasModel, pairs: dict[str, _Pair]) -> None:
    for layer in network.layers:
        if layer.name not in pairs:
            if layer.weights:
                set_weights(smaller.get_layer(layer.name), layer.get_weights())
            continue
        pair = pairs[layer.name]
        pair.first.kernel.assign(pair.thin)
        pair.second.kernel.assign(pair.wide)
        if layer.use_bias:
            pair.second.bias.assign(layer.bias)
