"""Channel pruning: the rebuilt network equals the masked one, on real architectures and on a case done by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from harness.compression.channels import analyse, choose_kept, importance, masked, multiply_adds, rebuild, scaled_width
from harness.errors import CompressionError
from harness.paths import shipped

pytestmark = pytest.mark.training


def _randomised(model: Any) -> Any:
    """Give batch normalizations statistics that folding or forgetting would show."""
    random = np.random.default_rng(0)
    for layer in model.layers:
        if type(layer).__name__ == "BatchNormalization":
            for weight in layer.weights:
                positive = weight.name in ("gamma", "moving_variance")
                value = random.uniform(0.5, 1.5, weight.shape) if positive else random.normal(size=weight.shape) * 0.1
                weight.assign(value)
    return model


def _same_outputs(model: Any, *, multiply: float = 0.5, **options: Any) -> None:
    graph = analyse(model)
    kept = choose_kept(graph, importance(graph, options.pop("measure", "magnitude")), multiply_adds=multiply, **options)
    smaller = rebuild(graph, kept)
    images = np.random.default_rng(1).random((3, *model.inputs[0].shape[1:])).astype(np.float32)
    expected = np.asarray(masked(graph, kept)(images, training=False))
    found = np.asarray(smaller(images, training=False))
    assert np.abs(found - expected).max() <= 1e-5 * max(1.0, np.abs(expected).max())
    before = multiply_adds(graph.model)
    assert 0.3 * multiply * before < multiply_adds(smaller) <= multiply * before, "no more than asked is taken away"
    assert smaller.count_params() < model.count_params()


@pytest.mark.parametrize("scope", ["uniform", "global"])
def test_the_default_model(scope: Any) -> None:
    import keras

    model = keras.models.load_model(shipped("models") / "fashion-dscnn" / "model.keras", compile=False)
    _same_outputs(model, scope=scope, measure="batch-norm", multiple=4)


@pytest.mark.parametrize("name", ["MobileNet", "MobileNetV2", "MobileNetV3Small", "ResNet50", "EfficientNetB0"])
def test_real_architectures_with_residuals_and_squeeze_and_excite(name: str) -> None:
    import keras

    keras.utils.set_random_seed(2)
    _same_outputs(_randomised(getattr(keras.applications, name)(weights=None, input_shape=(32, 32, 3), classes=10)))


def test_nested_backbones_become_one_flat_network() -> None:
    import keras

    layers = keras.layers
    keras.utils.set_random_seed(2)
    stem = keras.Sequential([keras.Input((12, 12, 3)), layers.Conv2D(16, 3), layers.BatchNormalization()])
    inner = keras.Input((12, 12, 3))
    x = layers.ReLU()(stem(inner))
    backbone = keras.Model(inner, layers.Add()([x, layers.DepthwiseConv2D(3, padding="same")(x)]))
    head = [layers.Conv2D(16, 1), layers.GlobalAveragePooling2D(), layers.Dense(4)]
    model = _randomised(keras.Sequential([keras.Input((12, 12, 3)), layers.Rescaling(0.5), backbone, *head]))
    _same_outputs(model, multiple=4)


def test_efficientnet_lite0() -> None:
    import keras

    from harness.compression.sources.efficientnet_lite import build_efficientnet_lite0

    keras.utils.set_random_seed(2)
    _same_outputs(_randomised(build_efficientnet_lite0()))


def test_concatenation_flatten_transposed_and_separable_convolutions() -> None:
    import keras

    layers = keras.layers
    inputs = layers.Input((8, 8, 3))
    one = layers.Conv2D(16, 3, padding="same", activation="relu")(inputs)
    two = layers.SeparableConv2D(24, 3, padding="same", activation="relu")(one)
    x = layers.Concatenate()([one, two])
    x = layers.Conv2DTranspose(16, 3, strides=2, padding="same")(x)
    x = layers.Flatten()(layers.MaxPooling2D(4)(x))
    model = keras.Model(inputs, layers.Dense(5)(layers.Dense(32, activation="tanh")(x)))
    _same_outputs(model, multiple=2)


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_series_images_and_volumes_are_cut_alike(axes: int) -> None:
    import keras

    def layer(kind: str, *arguments: Any, **options: Any) -> Any:
        return getattr(keras.layers, f"{kind}{axes}D")(*arguments, **options)

    inputs = keras.layers.Input((8,) * axes + (3,))
    x = layer("Conv", 16, 3, padding="same", use_bias=False)(layer("ZeroPadding", 1)(inputs))
    x = layer("MaxPooling", 2)(keras.layers.ReLU()(keras.layers.BatchNormalization()(x)))
    if axes < 3:  # Keras has neither in three dimensions
        x = layer("SeparableConv", 24, 3, padding="same", activation="relu")(x)
        x = layer("DepthwiseConv", 3, padding="same")(x)
    x = getattr(keras.layers, f"Conv{axes}DTranspose")(16, 2, strides=2)(layer("SpatialDropout", 0.1)(x))
    x = layer("GlobalAveragePooling")(layer("UpSampling", 2)(layer("Cropping", 1)(layer("AveragePooling", 2)(x))))
    model = _randomised(keras.Model(inputs, keras.layers.Dense(5)(keras.layers.Dense(16)(x))))
    free = [layer.name for group in analyse(model).groups for layer in group.makers]
    kinds = ("Conv", "Separable", "Dense")
    able = [layer.name for layer in model.layers[:-1] if type(layer).__name__.startswith(kinds)]
    assert free == able, "all but the answers can be cut"
    _same_outputs(model, multiple=2)


def test_adapted_normalization_softmax_and_constants_stay_what_they_are() -> None:
    import keras

    layers = keras.layers
    keras.utils.set_random_seed(3)
    random = np.random.default_rng(3)
    normalization = layers.Normalization()
    normalization.adapt(random.normal(5, 2, (64, 6, 6, 3)).astype(np.float32))
    inputs = layers.Input((6, 6, 3))
    x = layers.Conv2D(16, 3, activation="relu")(normalization(inputs))
    attention = layers.Conv2D(16, 1, activation="softmax")(x)
    x = layers.Multiply()([layers.Conv2D(16, 1)(x), attention])
    x = layers.Conv2D(24, 3)(x) + np.linspace(0, 1, 24, dtype=np.float32)
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(16, 1)(x))
    model = keras.Model(inputs, layers.Dense(3)(x))
    graph = analyse(model)
    everything = {group.number: np.arange(group.channels) for group in graph.groups}
    images = random.normal(5, 2, (4, 6, 6, 3)).astype(np.float32)
    assert np.allclose(masked(graph, everything)(images), model(images), atol=1e-5), "nothing is lost by copying"
    _same_outputs(model, multiply=0.8, multiple=4)
    student = scaled_width(model, 0.5, seed=1)
    assert np.allclose(student.layers[1](images), normalization(images))


def test_a_target_out_of_reach_is_told() -> None:
    import keras

    model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(16), keras.layers.Dense(2)])
    graph = analyse(model)
    with pytest.raises(CompressionError, match="with 8 channels a layer, 50 % are left"):
        choose_kept(graph, importance(graph, "magnitude"), multiply_adds=0.2)


def test_a_layer_that_is_used_twice_stays_whole() -> None:
    import keras

    layers = keras.layers
    one, two = layers.Input((8,)), layers.Input((8,))
    shared = layers.Dense(16)
    x = layers.Dense(32)(layers.Add()([shared(one), layers.Dense(16)(shared(two))]))
    model = keras.Model([one, two], layers.Dense(2)(x))
    graph = analyse(model)
    assert [group.channels for group in graph.groups] == [32]


def test_by_hand() -> None:
    """Two dense layers: the unit with the shortest weights goes, and with it its row in the next layer."""
    import keras

    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3), keras.layers.Dense(1)])
    first = np.array([[3.0, 0.1, 1.0], [4.0, 0.0, 2.0]], np.float32)
    bias = np.array([0.5, 7.0, -1.0], np.float32)
    second = np.array([[1.0], [10.0], [2.0]], np.float32)
    model.set_weights([first, bias, second, np.zeros(1, np.float32)])
    graph = analyse(model)
    (group,) = graph.groups
    scores = importance(graph, "magnitude")
    lengths = np.array([5.0, 0.1, 5**0.5])
    assert scores[group.number] == pytest.approx(lengths / lengths.mean())
    kept = choose_kept(graph, scores, multiply_adds=0.7, multiple=1)
    assert kept[group.number].tolist() == [0, 2]
    inputs = np.array([[1.0, 2.0]], np.float32)
    by_hand = (inputs @ first[:, [0, 2]] + bias[[0, 2]]) @ second[[0, 2]]
    assert np.allclose(rebuild(graph, kept)(inputs), by_hand)
    assert multiply_adds(model) == 9


def test_the_gradient_finds_the_channel_that_the_loss_needs() -> None:
    import keras

    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(4), keras.layers.Dense(2)])
    second = np.zeros((4, 2), np.float32)
    second[2] = [3.0, -3.0]  # all that the answer depends on
    model.set_weights([np.eye(4, dtype=np.float32) * [5, 5, 1, 5], np.zeros(4), second, np.zeros(2)])
    images = np.random.default_rng(4).normal(size=(128, 4)).astype(np.float32)
    labels = (images[:, 2] < 0).astype(np.int64)
    graph = analyse(model)
    (scores,) = importance(graph, "taylor", images=images, labels=labels).values()
    assert scores.argmax() == 2
    (lengths,) = importance(graph, "magnitude").values()
    assert lengths.argmin() == 2, "magnitude alone would have dropped it"


def test_a_student_has_the_same_architecture_in_fewer_channels() -> None:
    import keras

    model = keras.models.load_model(shipped("models") / "fashion-dscnn" / "model.keras", compile=False)
    student = scaled_width(model, 0.5, seed=1)
    assert [type(layer) for layer in student.layers] == [type(layer) for layer in model.layers]
    assert student.count_params() < 0.35 * model.count_params()
    assert np.array_equal(student.get_weights()[0], scaled_width(model, 0.5, seed=1).get_weights()[0])


def test_what_has_no_channels_to_spare_is_refused_with_the_reason() -> None:
    import keras

    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    with pytest.raises(CompressionError, match="an output of the model"):
        analyse(model)
    twins = [keras.Sequential([keras.Input((4,)), keras.layers.Dense(4, name="one")], name=name) for name in "ab"]
    with pytest.raises(CompressionError, match="holds models as layers"):
        analyse(keras.Sequential([keras.Input((4,)), *twins, keras.layers.Dense(2)]))
