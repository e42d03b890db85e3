"""The parts that training is made of, each against what NumPy says."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from harness.compression.weights.clusters import share
from harness.compression.weights.rounding import quantize_weight

pytestmark = pytest.mark.training


def _network(**options: Any) -> Any:
    import keras

    keras.utils.set_random_seed(5)
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((6, 6, 2)),
            layers.Conv2D(8, 3, **options),
            layers.Flatten(),
            layers.Dense(3, activation="softmax"),
        ]
    )


def test_factors_of_full_rank_compute_the_same() -> None:
    import keras

    from harness.compression.training.factorization import factorized

    random = np.random.default_rng(1)
    model = keras.Sequential([keras.Input((9, 9, 16)), keras.layers.Conv2D(64, 3, strides=2, activation="relu")])
    few = random.normal(size=(144, 5)) @ random.normal(size=(5, 64))  # nine taps of sixteen channels, of rank five
    model.set_weights([few.reshape(3, 3, 16, 64), random.normal(size=64)])
    smaller, ranks = factorized(model, energy=0.9999999, ratio=None)
    assert list(ranks.values()) == [5]
    images = random.normal(size=(2, 9, 9, 16)).astype(np.float32)
    assert np.allclose(smaller(images), model(images), atol=1e-2)
    assert smaller.count_params() < 0.2 * model.count_params()


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_convolutions_of_a_backbone_are_factored_in_all_dimensions(axes: int) -> None:
    import keras

    from harness.compression.training.factorization import factorized

    random = np.random.default_rng(7)
    layer = getattr(keras.layers, f"Conv{axes}D")
    shape = (6,) * axes
    backbone = keras.Sequential([keras.Input((*shape, 8)), layer(24, 2, padding="same", strides=2, name="wide")])
    few = random.normal(size=(8 * 2**axes, 3)) @ random.normal(size=(3, 24))
    backbone.set_weights([few.reshape(*[2] * axes, 8, 24), random.normal(size=24)])
    model = keras.Sequential([keras.Input((*shape, 8)), backbone, keras.layers.Flatten(), keras.layers.Dense(2)])
    smaller, ranks = factorized(model, energy=0.9999999, ratio=None)
    assert ranks["wide"] == 3
    images = random.normal(size=(2, *shape, 8)).astype(np.float32)
    assert np.allclose(smaller(images), model(images), atol=1e-2)


def test_the_rank_follows_the_energy_and_the_error_is_what_was_cut_off() -> None:
    import keras

    from harness.compression.training.factorization import best_rank, factorized

    random = np.random.default_rng(2)
    left, _ = np.linalg.qr(random.normal(size=(40, 30)))
    right, _ = np.linalg.qr(random.normal(size=(30, 30)))
    values = 10.0 / (1 + np.arange(30)) ** 2
    model = keras.Sequential([keras.Input((40,)), keras.layers.Dense(30, use_bias=False)])
    model.set_weights([(left * values) @ right.T])
    rank = best_rank(values, 0.99)
    assert (values[:rank] ** 2).sum() >= 0.99 * (values**2).sum() > (values[: rank - 1] ** 2).sum()
    smaller, ranks = factorized(model, energy=0.99, ratio=None)
    assert list(ranks.values()) == [rank]
    thin, wide = (layer.get_weights()[0] for layer in smaller.layers if layer.weights)
    error = np.linalg.norm(thin @ wide - model.get_weights()[0])
    assert error == pytest.approx(np.sqrt((values[rank:] ** 2).sum()), rel=1e-3), "Eckart and Young's optimum"


def test_each_view_shows_what_numpy_computes() -> None:
    from harness.compression.training.kernels import find_kernels
    from harness.compression.training.views import Masked, OnGrid, Shared, settle

    network = _network()
    kernels = find_kernels(network)
    assert [kernel.channel_axes for kernel in kernels] == [(3,), (1,)]
    weight = kernels[0].variable.numpy()
    mask = np.abs(weight) > np.median(np.abs(weight))
    assert np.allclose(Masked(mask)(weight), weight * mask)
    shared = share(weight, 9, reduced_axes=kernels[0].reduced_axes)
    assert np.allclose(Shared(shared)(weight), shared.values(), atol=1e-6)
    codes, scales = quantize_weight(weight, 4, axis=3, rule="largest")
    assert np.allclose(OnGrid(4, kernels[0].reduced_axes)(weight), codes * scales, atol=1e-6)
    settle(kernels, {kernels[0].name: [Masked(mask), OnGrid(4, kernels[0].reduced_axes)]})
    settled = kernels[0].variable.numpy()
    assert ((settled == 0) >= ~mask).all()
    assert np.allclose(quantize_weight(settled, 4, axis=3, rule="largest")[0] * scales, settled, atol=1e-5)


def test_gradients_pass_a_grid_and_stop_at_a_mask() -> None:
    import tensorflow as tf

    from harness.compression.training.views import Masked, OnGrid

    weight = tf.Variable(np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4))
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(OnGrid(4, (0,))(Masked(np.eye(3, 4, dtype=bool))(weight)))
    assert np.array_equal(tape.gradient(loss, weight), np.eye(3, 4))


def test_the_teachers_share_of_the_loss_is_hintons_formula() -> None:
    from harness.compression.training.learner import Learner, Lesson

    student, teacher = _network(), _network(kernel_initializer="he_normal")
    images = np.random.default_rng(3).normal(size=(5, 6, 6, 2)).astype(np.float32)
    labels = np.array([0, 1, 2, 1, 0])
    learner = Learner(student, lesson=Lesson(teacher, share=0.7, temperature=3.0))
    answer = np.asarray(student(images))
    found = float(learner.compute_loss(images, labels, answer))

    def soften(probabilities: Any) -> Any:
        powered = np.asarray(probabilities) ** (1 / 3.0)
        return powered / powered.sum(1, keepdims=True)

    hard = -np.log(answer[np.arange(5), labels]).mean()
    soft = -(soften(teacher(images)) * np.log(soften(answer))).sum(1).mean() * 9.0
    assert found == pytest.approx(0.3 * hard + 0.7 * soft, rel=1e-4)
    assert float(learner.compute_loss(images, labels, answer, training=False)) == pytest.approx(hard, rel=1e-5)


@pytest.mark.parametrize("ending", ["layer", "reshaped", "function", "of another format", "logits", "small logits"])
def test_answers_show_whether_they_are_probabilities(ending: str) -> None:
    """What is known of the network is its answers: the softmax may be anything and anywhere before them."""
    import keras

    from harness.compression.training.learner import gives_probabilities

    keras.utils.set_random_seed(6)
    layers = keras.layers
    inputs = keras.Input((4,))
    scores = layers.Dense(3)(inputs)
    endings = {
        "layer": lambda: layers.Softmax()(scores),
        "reshaped": lambda: layers.Reshape((3,))(layers.Softmax()(layers.Reshape((1, 1, 3))(scores))),
        "function": lambda: keras.ops.softmax(scores),
        "of another format": lambda: layers.Activation("linear", dtype="float32")(
            layers.Softmax(dtype="float16")(scores)
        ),
        "logits": lambda: scores,
        "small logits": lambda: layers.ReLU(1.0)(scores),
    }
    network = keras.Model(inputs, endings[ending]())
    samples = np.random.default_rng(6).normal(size=(20, 4)).astype(np.float32)
    assert gives_probabilities(network, samples) == ("logits" not in ending)


def test_a_student_of_logits_learns_from_a_teacher_of_probabilities() -> None:
    import keras

    from harness.compression.training.learner import Learner, Lesson

    teacher = _network()
    student = keras.Model(teacher.inputs, keras.layers.Dense(3)(teacher.layers[-2].output))
    images = np.random.default_rng(3).normal(size=(5, 6, 6, 2)).astype(np.float32)
    labels = np.array([0, 1, 2, 1, 0])
    learner = Learner(student, lesson=Lesson(teacher, share=1.0, temperature=1.0), from_logits=True)
    answer, taught = np.asarray(student(images)), np.asarray(teacher(images))
    log_softmax = answer - np.log(np.exp(answer).sum(1, keepdims=True))
    wanted = -(taught * log_softmax).sum(1).mean()
    assert float(learner.compute_loss(images, labels, answer)) == pytest.approx(wanted, rel=1e-4)


def test_activations_are_rounded_where_an_integer_runtime_keeps_them() -> None:
    import keras

    from harness.compression.training.activations import RoundedActivation, with_rounded_activations
    from harness.paths import shipped

    model = keras.models.load_model(shipped("models") / "fashion-dscnn" / "model.keras", compile=False)
    rounded = with_rounded_activations(model, 8)
    found = [layer.name for layer in rounded.layers if isinstance(layer, RoundedActivation)]
    kinds = {type(model.get_layer(name.removeprefix("rounded_"))).__name__ for name in found}
    assert kinds == {"ReLU", "GlobalAveragePooling2D"}, "convolution, normalization and ReLU6 are one operator there"
    assert rounded.get_layer("class") is model.get_layer("class"), "shared, so that training reaches the model"
    images = np.random.default_rng(1).uniform(-1, 1, (8, 28, 28, 1)).astype(np.float32)
    rounded(images, training=True)
    assert np.abs(np.asarray(rounded(images)) - np.asarray(model(images))).max() < 0.1


def _rounded(network: Any) -> list[str]:
    """Return the names of a network's roundings, those inside nested networks after the network's name."""
    from harness.compression.training.activations import RoundedActivation

    names = [layer.name for layer in network.layers if isinstance(layer, RoundedActivation)]
    for nested in network.layers:
        if hasattr(nested, "layers"):
            names += [f"{nested.name}/{name}" for name in _rounded(nested)]
    return sorted(names)


def test_products_with_numbers_are_rounded() -> None:
    """Keras takes a product with a number for sparse; a residual's scale and a hard swish are such products."""
    import keras

    from harness.compression.training.activations import with_rounded_activations

    layers = keras.layers
    image = keras.Input((6, 6, 3))
    x = layers.Conv2D(4, 1, name="conv")(image)
    x = x * layers.ReLU(6.0)(x + 3.0) * (1 / 6.0)
    x = keras.ops.multiply(x + 0.17 * layers.Conv2D(4, 1)(x), 0.5)
    model = keras.Model(image, layers.Dense(3)(layers.GlobalAveragePooling2D()(x)))
    rounded = with_rounded_activations(model, 8)
    assert sum(name.startswith("rounded_multiply") for name in _rounded(rounded)) == 4
    images = np.random.default_rng(1).uniform(-1, 1, (8, 6, 6, 3)).astype(np.float32)
    rounded(images, training=True)
    difference = np.abs(np.asarray(rounded(images)) - np.asarray(model(images))).max()
    assert 0 < difference < 0.05


def test_nested_and_shared_networks_are_rounded_inside() -> None:
    """Each call has ranges of its own; a convolution that ends a nested network fuses with what follows outside."""
    import keras

    from harness.compression.training.activations import with_rounded_activations

    layers = keras.layers
    keras.utils.set_random_seed(1)
    stem = keras.Sequential(
        [keras.Input((8, 8, 3)), layers.Conv2D(4, 3, name="a"), layers.ReLU(name="b"), layers.Conv2D(4, 3, name="c")],
        name="stem",
    )
    inner = keras.Input((8, 8, 3))
    x = layers.ReLU(name="d")(stem(inner))
    backbone = keras.Model(inner, layers.Conv2D(4, 1, name="e")(x), name="backbone")
    image = keras.Input((8, 8, 3))
    both = [backbone(image), backbone(layers.Rescaling(0.5, name="half")(image))]
    shared = layers.Dense(4, name="f")
    x = shared(shared(layers.GlobalAveragePooling2D(name="g")(layers.Concatenate(name="h")(both))[:, 4:]))
    model = keras.Model(image, layers.Dense(2, name="end")(x))
    rounded = with_rounded_activations(model, 4)
    found = [name for name in _rounded(rounded) if "get_item" not in name]
    inside = ["rounded_d", "stem/rounded_b"]
    assert found == sorted(
        [f"{network}/{name}" for network in ("backbone", "backbone_1") for name in inside]
        + [f"rounded_{name}" for name in ("backbone", "backbone_1", "half", "h", "g", "f", "f_1")]
    )
    assert {id(weight) for weight in rounded.trainable_weights} == {id(weight) for weight in model.trainable_weights}
    images = np.random.default_rng(1).uniform(0, 1, (4, 8, 8, 3)).astype(np.float32)
    rounded(images, training=True)
    within = np.abs(np.asarray(rounded.get_layer("backbone")(images)) - np.asarray(backbone(images))).max()
    assert within > 0.001, "four bits inside the nested network change what comes out of it"


def test_batches_depend_on_seed_and_epoch_alone() -> None:
    from harness.compression.training.fit import Batches
    from harness.datasets.training import LabelledImages
    from harness.spec.model import Augmentation, Preprocessing

    random = np.random.default_rng(1)
    data = LabelledImages(random.integers(0, 255, (50, 6, 6, 1)).astype(np.uint8), np.arange(50))

    def batches(epoch: int) -> Any:
        made = Batches(data, Preprocessing(), Augmentation(shift_pixels=1, mirror=True), batch=16, seed=3)
        made.start_epoch(epoch)
        return [made[index] for index in range(len(made))]

    for one, other in zip(batches(2), batches(2), strict=True):
        assert np.array_equal(one[0], other[0])
        assert np.array_equal(one[1], other[1])
    assert not np.array_equal(batches(1)[0][1], batches(2)[0][1])
    assert sorted(label for _, labels in batches(0) for label in labels) == list(range(50))


@pytest.mark.parametrize(
    ("shapes", "outputs", "labels", "augmentation", "says"),
    [
        ([(6, 6, 2), (4,)], [3], 3, "", "it has 2 inputs.*Choose a recipe without training"),
        ([(6, 6, 2)], [3, 4], 3, "", "it has 2 outputs.*Choose a recipe without training"),
        ([(6, 6, 2)], [1], 2, "", r"its output has the shape \(1,\) per sample.*at least two"),
        ([(6, 6, 2)], [3], 4, "", "it gives 3 scores, but its training labels go from 0 to 3"),
        ([(6, 2)], [3], 3, "augmentation = { mirror = true }", r"its input has the shape \(6, 2\).*Leave augmentation"),
        ([(6, 2)], [3], 3, "", ""),
    ],
)
def test_what_cannot_learn_is_refused_in_one_sentence(
    tmp_path: Path, shapes: list[tuple[int, ...]], outputs: list[int], labels: int, augmentation: str, says: str
) -> None:
    import keras

    from harness.compression.training.fit import load_fitting_data
    from harness.errors import CompressionError
    from harness.spec.model import load_model_spec

    inputs = [keras.Input(shape) for shape in shapes]
    flat = keras.layers.Concatenate()([keras.layers.Flatten()(tensor) for tensor in (*inputs, inputs[0])])
    network = keras.Model(inputs, [keras.layers.Dense(count)(flat) for count in outputs])
    np.savez(
        tmp_path / "training.npz",
        train_images=np.zeros((30, *shapes[0]), np.uint8),
        train_labels=np.arange(30) % labels,
    )
    (tmp_path / "odd.toml").write_text(
        f'name = "odd"\n[source]\nkind = "keras"\npath = "odd.keras"\n[training]\n{augmentation}\n'
        '[training.data]\nkind = "numpy"\npath = "training.npz"\n'
    )
    work: Any = SimpleNamespace(model=load_model_spec(tmp_path / "odd.toml"), keras_model=lambda: network)
    if not says:
        assert len(load_fitting_data(work, limit=7).training) == 7
        return
    with pytest.raises(CompressionError, match=f"Cannot train odd: {says}"):
        load_fitting_data(work, limit=None)


def test_an_unstable_training_ends_and_says_what_to_lower() -> None:
    from harness.compression.training.fit import _Watcher
    from harness.errors import CompressionError

    watcher = _Watcher(SimpleNamespace(progress=print), "fine-tuning", [0] * 9, epochs=2)  # type: ignore[arg-type]
    watcher.on_train_batch_end(0, {"loss": 1.5})
    with pytest.raises(CompressionError, match="lower learning_rate"):
        watcher.on_train_batch_end(1, {"loss": float("nan")})
