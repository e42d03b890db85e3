"""Fidelity, corruptions, shifts and layer errors: against plain counting, and on the default model."""

import json
import re
import tomllib
from dataclasses import replace

import numpy as np
import pytest
import results_examples
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from harness.accuracy.output_check import signal_to_noise_db
from harness.datasets.labelled import Samples
from harness.errors import UsageError
from harness.evaluation.changed_images import (
    SEVERITIES,
    SHIFTS,
    Changed,
    corrupt,
    corruption_names,
    inverted,
    mirrored,
    rotated,
    translated,
)
from harness.evaluation.fidelity import calibration_error, compare_fidelity, compare_paired, probabilities
from harness.evaluation.layers import LayerError, compare_tensors, mixed_recipe, suggest_layers
from harness.evaluation.suite import _groups, _outputs


def paired(lost, won, both=100, neither=10):
    right = [False] * lost + [True] * won + [True] * both + [False] * neither
    float_right = [True] * lost + [False] * won + [True] * both + [False] * neither
    return compare_paired(np.array(right), np.array(float_right))


def test_only_discordant_samples_count():
    found = paired(lost=3, won=1)
    assert (found.lost, found.won, found.samples) == (3, 1, 114)
    assert found.drop_points == pytest.approx(100 * 2 / 114)
    assert found.drop_low < found.drop_points < found.drop_high
    assert found.p_value == pytest.approx(0.625)  # binomial: 2 * (1 + 4) / 16
    assert found.is_noise


def test_a_difference_that_chance_does_not_give():
    assert not paired(lost=20, won=2).is_noise
    assert paired(lost=0, won=0).p_value == 1.0
    assert paired(lost=0, won=0).drop_low < 0 < paired(lost=0, won=0).drop_high


def test_the_interval_covers_the_true_drop_as_often_as_it_says():
    generator = np.random.default_rng(5)
    share_lost, share_won, count, covered = 0.02, 0.01, 500, 0
    for _ in range(2000):
        drawn = generator.random(count)
        float_right = drawn < 0.9
        lost, won = drawn < share_lost, drawn > 1 - share_won
        found = compare_paired((float_right & ~lost) | won, float_right)
        covered += found.drop_low <= 100 * (share_lost - share_won) <= found.drop_high
    assert covered / 2000 > 0.93


def test_fidelity_of_a_model_to_itself():
    scores = np.random.default_rng(1).normal(size=(50, 4)).astype(np.float32)
    labels = np.arange(50) % 4
    found = compare_fidelity(scores, scores, labels)
    assert (found.agreement.value, found.flips, found.paired.lost) == (1.0, (), 0)
    assert found.kl_divergence == pytest.approx(0, abs=1e-12)
    assert found.cosine_mean == pytest.approx(1)
    assert found.calibration_error == found.float_calibration_error
    assert [one.label for one in found.by_class] == [0, 1, 2, 3]
    assert sum(one.paired.samples for one in found.by_class) == 50


def test_flips_are_told_those_that_were_lost_first():
    floats = np.eye(3, dtype=np.float32)[[0, 1, 2, 0]] * 5
    scores = np.eye(3, dtype=np.float32)[[0, 2, 1, 1]] * 5
    found = compare_fidelity(scores, floats, np.array([0, 2, 2, 0]))
    assert found.flips == (2, 3, 1)  # lost, lost, won
    assert (found.paired.lost, found.paired.won) == (2, 1)


@given(arrays(np.float32, (6, 3), elements=st.floats(-1e4, 1e4, width=32)))
def test_scores_become_distributions_with_the_same_order(scores):
    found = probabilities(scores)
    assert np.allclose(found.sum(axis=1), 1)
    assert (found >= 0).all()
    best = scores.max(axis=1)
    assert all(scores[row, found[row].argmax()] >= best[row] - 1e-3 * abs(best[row]) - 1e-6 for row in range(6))


def test_what_is_not_finite_is_never_the_answer():
    assert probabilities(np.array([[np.nan, 1.0, 0.5]], np.float32)).argmax() == 1


def test_int8_outputs_that_nearly_sum_to_one_are_probabilities():
    assert probabilities(np.array([[0.99, 0.0, 0.0]], np.float32))[0, 0] == 1.0


def test_calibration_is_confidence_against_accuracy():
    sure_and_wrong = np.array([[0.95, 0.05]] * 10)
    assert calibration_error(sure_and_wrong, np.ones(10, np.int64)) == pytest.approx(0.95)
    assert calibration_error(sure_and_wrong, np.zeros(10, np.int64)) == pytest.approx(0.05)


# -- images --

IMAGES = np.random.default_rng(2).integers(0, 256, (6, 28, 28), np.uint8)


@pytest.mark.parametrize("name", corruption_names())
@pytest.mark.parametrize("images", [IMAGES, np.stack([IMAGES] * 3, axis=-1)], ids=["grey", "colour"])
def test_corruptions_grow_and_keep_the_form(name, images):
    distances = []
    for severity in SEVERITIES:
        changed = corrupt(images, name, severity)
        assert (changed.shape, changed.dtype) == (images.shape, np.uint8)
        assert (changed == corrupt(images, name, severity)).all()
        distances.append(np.abs(changed.astype(float) - images).mean())
    assert distances[0] > 0
    assert distances[-1] > distances[0]


def test_every_family_is_there():
    assert set(corruption_names().values()) == {"noise", "blur", "weather", "digital"}


def test_shifts():
    assert (inverted(inverted(IMAGES)) == IMAGES).all()
    assert (mirrored(mirrored(IMAGES)) == IMAGES).all()
    assert (translated(IMAGES, 0.25)[:, 7:, 7:] == IMAGES[:, :21, :21]).all()
    assert (translated(IMAGES, 0.25)[:, :7] == 0).all()
    assert (rotated(IMAGES, 0) == IMAGES).all()
    assert all((shift(IMAGES) != IMAGES).any() for shift in SHIFTS.values())


# -- layers --


def test_signal_to_noise():
    exact = np.ones((2, 50), np.float32)
    assert signal_to_noise_db(exact, exact) == 120
    assert signal_to_noise_db(exact * 1.1, exact) == pytest.approx(20, abs=1e-4)
    assert signal_to_noise_db(exact * np.nan, exact) == -120


def test_what_a_layer_adds():
    exact = {name: np.ones((1, 4), np.float32) for name in ("a", "b", "c", "gone")}
    found = {"a": exact["a"] * 1.01, "b": exact["b"] * 1.1, "c": exact["c"] * 1.05}
    first, second, third = compare_tensors(found, exact)
    assert (first.name, second.name, third.name) == ("a", "b", "c")
    assert second.added_noise == pytest.approx(0.01 - 0.0001, rel=1e-3)
    assert third.added_noise == 0
    assert [error.name for error in suggest_layers([second, third], 1)] == ["b"]


@given(st.lists(st.text(min_size=1, max_size=30), min_size=1, max_size=3))
def test_any_name_stands_in_a_recipe(names):
    step = {"technique": "quantization", "settings": {"weights": "int8", "layers": [], "max_drop_points": None}}
    card = results_examples.card("int8").model_copy(update={"steps": ({"technique": "pruning", "settings": {}}, step)})
    recipe = tomllib.loads(mixed_recipe(card, [LayerError(name, (1,), 10.0, 1.0) for name in names]))
    assert recipe["name"] == "int8-mixed"
    assert recipe["steps"][1]["settings"]["weights"] == "int8"
    for layer, name in zip(recipe["steps"][1]["settings"]["layers"], names, strict=True):
        assert re.fullmatch(layer["match"], name)
    assert step["settings"]["layers"] == []


def test_a_variant_that_is_not_quantized_has_no_mixed_recipe():
    with pytest.raises(UsageError, match="fp32 has no quantization step"):
        mixed_recipe(results_examples.card("fp32"), [])


# -- the whole of it --


def evaluated(harness_cli, *options):
    finished = harness_cli("evaluate", "fashion-dscnn", *options, "--samples", "500", "--json")
    assert finished.returncode == 0, finished.stderr
    return json.loads(finished.stdout)["evaluations"]


def kl(evaluation):
    return evaluation["compared"][0]["comparison"]["fidelity"]["kl_divergence"]


@pytest.mark.training
def test_the_suggested_layers_make_a_better_variant(harness_cli, tmp_path):
    """Finer scales for the layers that the table names cost fewer bytes than finer scales everywhere.

    Each weight is rounded to the nearest code, so that there is noise to find.
    """
    (tmp_path / "coarse.toml").write_text(
        'name = "coarse"\n'
        'steps = [{ technique = "quantization", '
        'settings = { weights = "int8", activations = "int8", granularity = "tensor" } }]\n'
    )
    before, eight = evaluated(harness_cli, "-r", "coarse.toml", "-r", "int8", "--mixed", "4", "--finer", "-o", "mixed")
    assert len(before["layers"]) > 8
    recipe = tomllib.loads((tmp_path / "mixed/coarse-mixed.toml").read_text())
    layers = recipe["steps"][0]["settings"]["layers"]
    assert {layer["granularity"] for layer in layers} == {"channel"}
    (noisy,) = evaluated(harness_cli, "-r", "mixed/coarse-mixed.toml")
    assert before["size_bytes"] < noisy["size_bytes"] < eight["size_bytes"]
    assert kl(noisy) < kl(before)


@pytest.mark.parametrize(
    ("settings", "finer"),
    [
        ({"weights": "int4", "activations": "int8"}, {"weights": "int8", "activations": "int8"}),
        ({"weights": "int8", "activations": "int8", "granularity": "channel"}, {"weights": "float"}),
        (
            {"weights": "int8", "activations": "float", "granularity": "tensor"},
            {"weights": "int8", "activations": "float", "granularity": "channel"},
        ),
        ({"weights": "fp16", "activations": "float", "granularity": "channel"}, {"weights": "float"}),
    ],
)
def test_the_next_finer_format(settings, finer):
    step = {"technique": "quantization", "settings": {**settings, "layers": []}}
    card = results_examples.card("mine").model_copy(update={"steps": (step,)})
    recipe = tomllib.loads(mixed_recipe(card, [LayerError("a/b", (1,), 10.0, 1.0)], finer=True))
    assert recipe["steps"][0]["settings"]["layers"] == [{"match": "^a/b;?$", **finer}]


@pytest.mark.training
@pytest.mark.timeout(900)
def test_the_suite_as_a_table(harness_cli):
    options = ["--recipe", "int8", "--samples", "100", "--suite", "--suite-samples", "50", "--attack"]
    finished = harness_cli("evaluate", "fashion-dscnn", *options, timeout_s=800, COLUMNS="80")
    assert finished.returncode == 0, finished.stderr
    for words in (
        "gaussian-noise",
        "rotated 25",
        "layers that add most noise",
        "float model: top-1",
        "FGSM on",
        "PGD on",
    ):
        assert words in finished.stdout + finished.stderr
    assert max(map(len, finished.stdout.splitlines())) <= 80
    assert "…" not in finished.stdout


def test_what_goes_through_one_process_stays_apart():
    changed = [
        Changed(str(size), "noise", 1, Samples((np.full((size, 2), size, np.float32),), None)) for size in (3, 1, 5)
    ]

    class Runner:
        calls = 0

        def outputs(self, variant, samples):
            self.calls += 1
            return (samples.inputs[0],)

    for most, processes in ((1, 3), (40, 2), (10**6, 1)):
        runner = Runner()
        found = [
            one for group in _groups(changed, most) for one in _outputs(runner, None, [one.samples for one in group])
        ]
        assert [one.tolist() for one in found] == [one.samples.inputs[0].tolist() for one in changed]
        assert runner.calls == processes


def test_paired_results_are_values():
    assert replace(paired(1, 1)) == paired(1, 1)
