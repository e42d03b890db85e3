"""Attacks keep their bounds and raise the loss; the copy that they are made on is the variant, with a true gradient."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.accuracy.reference import HostOutputs
from harness.compression.make import make_variant
from harness.compression.recipes import find_recipe
from harness.datasets.labelled import Dataset
from harness.evaluation.attack_child import ATTACKS, EPSILONS, fgsm, pgd
from harness.evaluation.attacks import Attacker
from harness.evaluation.fidelity import probabilities
from harness.progress import SilentObserver
from harness.spec.model import find_model

pytestmark = pytest.mark.slow

MODELS = Path(__file__).parents[1] / "accuracy/data"
LIMITS = (-1.0, 1.0)
WEIGHTS = np.random.default_rng(5).normal(size=(12, 3))


def losses(inputs, labels):
    """Cross-entropy of a linear model."""
    scores = inputs.astype(float) @ WEIGHTS
    scores -= scores.max(axis=1, keepdims=True)
    return np.log(np.exp(scores).sum(axis=1)) - scores[np.arange(len(labels)), labels]


def gradient(inputs, labels):
    scores = inputs.astype(float) @ WEIGHTS
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    errors = powers / powers.sum(axis=1, keepdims=True) - np.eye(3)[labels]
    return (errors @ WEIGHTS.T).astype(np.float32)


def samples(seed, count=40):
    generator = np.random.default_rng(seed)
    inputs = generator.uniform(-1, 1, (count, 12)).astype(np.float32)
    inputs[:5] = np.sign(inputs[:5])  # at the ends of what an input can be
    return inputs, generator.integers(0, 3, count)


@pytest.mark.parametrize("name", ATTACKS)
@given(seed=st.integers(0, 10**6), epsilon=st.floats(0, 3))
def test_bounds_are_kept(name, seed, epsilon):
    inputs, labels = samples(seed)
    found = ATTACKS[name](inputs, labels, gradient, epsilon, LIMITS)
    assert found.dtype == np.float32
    assert np.abs(found - inputs).max() <= epsilon + 1e-6
    assert LIMITS[0] <= found.min() <= found.max() <= LIMITS[1]


@given(seed=st.integers(0, 10**6))
def test_both_raise_the_loss_of_a_convex_model(seed):
    inputs, labels = samples(seed)
    clean = losses(inputs, labels)
    for attack in (fgsm, pgd):
        assert losses(attack(inputs, labels, gradient, 0.05, LIMITS), labels).mean() > clean.mean()


def test_small_steps_find_what_one_step_walks_past():
    def bent(inputs, labels):
        """The gradient of a loss with its peak at 0.3, on which one step of 0.5 lands behind it."""
        return (0.3 - inputs).astype(np.float32)

    inputs, labels = np.full((1, 1), 0.2, np.float32), np.array([0])
    one, many = (attack(inputs, labels, bent, 0.5, LIMITS)[0, 0] for attack in (fgsm, pgd))
    assert one == pytest.approx(0.7)
    assert abs(many - 0.3) < abs(one - 0.3)


def test_no_bound_no_change():
    inputs, labels = samples(1)
    for attack in ATTACKS.values():
        assert (attack(inputs, labels, gradient, 0.0, LIMITS) == inputs).all()


# -- on real files; TensorFlow gives the gradient --


def ready(name, tmp_path):
    model = find_model(str(MODELS / f"{name}.tflite"))
    return make_variant(model, find_recipe("as-is"), cache=tmp_path, observer=SilentObserver())


@pytest.fixture(scope="module")
def dataset():
    with np.load(MODELS / "samples.npz") as archive:
        labels = archive["test_labels"].astype(np.int64)
        return Dataset(archive["test_images"][..., None], labels, 2 / 255, -1.0)


@pytest.mark.training
def test_every_file_is_attacked_by_its_own_gradient(tmp_path, dataset):
    floats, reference = ready("pooled-float", tmp_path), HostOutputs(tmp_path / "reference")
    attacker = Attacker(dataset, 100, floats, reference)
    names = [f"{name} {pixels}/255" for name in ("FGSM", "PGD") for pixels in EPSILONS]
    assert [changed.name for changed in attacker.transferred] == names

    def accuracy(variant, changed):
        return (probabilities(reference.outputs(variant, changed)[0]).argmax(axis=1) == changed.labels).mean()

    for changed in attacker.transferred:
        moved = changed.samples.inputs[0] - attacker.samples.inputs[0]
        assert np.abs(moved).max() <= int(changed.name.split()[1].split("/")[0]) * 2 / 255 + 1e-6
        assert -1 <= changed.samples.inputs[0].min() <= changed.samples.inputs[0].max() <= 1
    for name, drop in (("pooled-int8", 0.1), ("pooled-int8-io", 0.1), ("flatten-float", 0.02)):  # the last is untrained
        variant = ready(name, tmp_path)
        own = attacker.own(variant)
        assert own.surrogacy.agreement >= 0.98, (name, own.surrogacy)
        clean = accuracy(variant, attacker.samples)
        under = {changed.name: accuracy(variant, changed.samples) for changed in own.changed}
        assert under["FGSM 8/255"] < clean - drop, name
        assert under["PGD 8/255"] <= under["FGSM 8/255"] + 0.05
        assert own.changed[0].float_samples is attacker.transferred[0].samples


@pytest.mark.training
def test_a_graph_without_a_copy_says_why(tmp_path, dataset):
    attacker = Attacker(dataset, 20, ready("pooled-float", tmp_path), HostOutputs(tmp_path / "reference"))
    own = attacker.own(ready("two-inputs", tmp_path))
    assert own.changed == ()
    assert own.surrogacy.refusal == "as-is cannot be attacked by its own gradient: it takes 2 inputs."


@pytest.mark.training
def test_the_gradient_is_that_of_keras(tmp_path, dataset):
    import keras
    import tensorflow as tf

    from harness.datasets.labelled import choose_samples, load_dataset
    from harness.evaluation.surrogate import Surrogate

    model = find_model("fashion-dscnn")
    made = make_variant(model, find_recipe("fp32"), cache=tmp_path, observer=SilentObserver())
    chosen = choose_samples(load_dataset(model), 20)
    inputs, labels = chosen.inputs[0][..., None], chosen.labels
    network = keras.models.load_model(model.locate(model.source.path))
    with tf.GradientTape() as tape:
        watched = tf.constant(inputs)
        tape.watch(watched)
        answers = network(watched, training=False)
        loss = -tf.reduce_sum(tf.math.log(tf.gather(answers, labels, batch_dims=1)))
    exact = tape.gradient(loss, watched).numpy()
    found = Surrogate(made.path).gradient(inputs, labels)
    assert np.abs(found - exact).max() < 1e-3 * np.abs(exact).max()
