"""Tasks, intervals and inputs: against plain counting, and `harness evaluate` on ready files."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from harness.datasets.inputs import read_inputs
from harness.errors import UsageError
from harness.evaluation.intervals import mean_of, sum_statistic
from harness.evaluation.task import all_tasks, find_task, task
from harness.evaluation.tasks.embedding import nearest
from harness.tflite.variant import TensorType

MODELS = Path(__file__).parents[1] / "accuracy/data"
RANDOM = np.random.default_rng(3)
FLOATS = {"out": RANDOM.normal(size=(40, 6)).astype(np.float32)}


def compare(name, found, floats=FLOATS, labels=None):
    comparison = find_task(name).compare(found, floats, labels)
    return {measure.name: measure for measure in comparison.measures}, comparison.fidelity


def test_the_registry():
    assert list(all_tasks()) == ["classification", "embedding", "tensors"]
    assert all(one.summary.endswith(".") for one in all_tasks().values())
    with pytest.raises(UsageError, match="no task 'boxes'"):
        find_task("boxes")
    with pytest.raises(ValueError, match="two tasks"):
        task("tensors")(all_tasks()["tensors"].compare)


def test_an_interval_of_a_mean_covers_it_as_often_as_it_says():
    generator = np.random.default_rng(4)
    covered = sum(
        found.low <= 1.0 <= found.high for found in (mean_of(generator.exponential(1.0, 60)) for _ in range(200))
    )
    assert covered / 200 > 0.88  # the percentile bootstrap covers a little too rarely where values are skewed


def test_one_sample_has_no_interval():
    assert mean_of(np.array([2.0])) == type(mean_of(np.array([2.0])))(2.0, None, None)


@given(arrays(np.float64, st.tuples(st.integers(2, 20)), elements=st.floats(-1e6, 1e6)))
def test_an_interval_lies_within_the_values(values):
    found = mean_of(values)
    slack = 1e-6 * max(1, abs(values).max())
    assert values.min() - slack <= found.low <= found.high <= values.max() + slack
    assert found.value == pytest.approx(values.mean(), abs=slack)


def test_equal_samples_have_an_interval_of_no_width():
    found = sum_statistic(np.ones((10, 2)), lambda sums: sums[:, 0] / sums[:, 1])
    assert (found.value, found.low, found.high) == (1, 1, 1)


def test_equal_tensors():
    measures, fidelity = compare("tensors", FLOATS)
    assert measures["signal to noise"].value == 120
    assert measures["largest error"].value == 0
    assert measures["correlation"].value == pytest.approx(1)
    assert fidelity is None


def test_tensors_against_numpy():
    found = {"out": FLOATS["out"] + 0.1 * RANDOM.normal(size=(40, 6)).astype(np.float32)}
    measures, _ = compare("tensors", found)
    noise = np.square(found["out"] - FLOATS["out"]).sum()
    ratio = measures["signal to noise"]
    assert ratio.value == pytest.approx(10 * np.log10(np.square(FLOATS["out"]).sum() / noise), rel=1e-4)
    assert ratio.low < ratio.value < ratio.high
    exact = np.corrcoef(found["out"].ravel(), FLOATS["out"].ravel())[0, 1]
    assert measures["correlation"].value == pytest.approx(exact, rel=1e-6)
    assert measures["largest error"].value == pytest.approx(np.abs(found["out"] - FLOATS["out"]).max(), rel=1e-6)
    assert measures["largest error"].low is None


def test_tensors_far_from_zero_keep_their_correlation():
    far = {"out": FLOATS["out"] + 1e4}
    measures, _ = compare("tensors", {"out": far["out"] * 1.01}, far)
    assert measures["correlation"].value == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_outputs_that_are_not_finite(bad):
    found = {"out": FLOATS["out"].copy()}
    found["out"][3, 2] = bad
    measures, _ = compare("tensors", found)
    assert measures["signal to noise"].value == -120
    assert measures["largest error"].value == np.inf
    assert measures["correlation"].value == 0
    assert compare("embedding", found)[0]["smallest cosine"].value == 0


def test_the_length_of_an_embedding_does_not_count():
    lengths = RANDOM.uniform(0.1, 9, (40, 1)).astype(np.float32)
    measures, _ = compare("embedding", {"out": FLOATS["out"] * lengths})
    assert measures["cosine"].value == pytest.approx(1, abs=1e-6)
    assert measures["same neighbour"].value == 100


def test_neighbours_are_those_that_a_loop_finds():
    vectors = FLOATS["out"]
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    for row, found in enumerate(nearest(vectors)):
        others = [(float(units[row] @ units[other]), other) for other in range(40) if other != row]
        assert found == max(others)[1]
    noise, _ = compare("embedding", {"out": RANDOM.normal(size=(40, 6)).astype(np.float32)})
    assert noise["same neighbour"].value < 30


def test_what_is_no_vector_is_no_embedding():
    with pytest.raises(UsageError, match="none is a vector"):
        compare("embedding", {"out": np.ones((4, 1), np.float32)}, {"out": np.ones((4, 1), np.float32)})


def test_scores_with_and_without_labels():
    other = {"out": FLOATS["out"][:, ::-1]}
    measures, fidelity = compare("classification", other)
    same = (other["out"].argmax(axis=1) == FLOATS["out"].argmax(axis=1)).mean()
    assert measures["same class"].value == pytest.approx(100 * same)
    assert fidelity is None
    _, fidelity = compare("classification", other, labels=np.zeros(40, np.int64))
    assert fidelity.agreement.value == pytest.approx(same)
    with pytest.raises(UsageError, match="not one score per class"):
        compare("classification", {"out": np.ones((4, 2, 2), np.float32)})


# -- inputs --

TENSORS = [TensorType(name="first", shape=(1, 2), type="float32"), TensorType(name="x", shape=(1, 3), type="int8")]


def test_inputs_by_name_and_in_order(tmp_path):
    arrays = {"x": np.ones((5, 3)), "first": np.zeros((5, 2))}
    np.savez(tmp_path / "named.npz", **arrays)
    np.savez(tmp_path / "ordered.npz", arrays["first"], arrays["x"])
    for name in ("named.npz", "ordered.npz"):
        samples = read_inputs(tmp_path / name, TENSORS, 4)
        assert [array.shape for array in samples.inputs] == [(4, 2), (4, 3)]
        assert samples.inputs[1].mean() == 1
    np.save(tmp_path / "one.npy", arrays["x"])
    assert len(read_inputs(tmp_path / "one.npy", TENSORS[1:], None)) == 5


@pytest.mark.parametrize(
    ("array", "words"),
    [(np.ones((5, 4)), "takes"), (np.ones((0, 3)), "takes"), (np.array([{}], object), "holds Python objects")],
)
def test_inputs_that_do_not_fit(tmp_path, array, words):
    np.save(tmp_path / "bad.npy", array)
    with pytest.raises(UsageError, match=words):
        read_inputs(tmp_path / "bad.npy", TENSORS[1:], None)


def test_inputs_that_are_no_arrays(tmp_path):
    (tmp_path / "text.npy").write_text("no array")
    for name, words in (("text.npy", "is no NumPy file"), ("none.npy", "cannot be read")):
        with pytest.raises(UsageError, match=words):
            read_inputs(tmp_path / name, TENSORS, None)
    np.save(tmp_path / "one.npy", np.ones((5, 2)))
    with pytest.raises(UsageError, match="holds 1 arrays, but the model takes 2: first, x"):
        read_inputs(tmp_path / "one.npy", TENSORS, None)


# -- the command --

PAIR = [str(MODELS / "pooled-float.tflite"), str(MODELS / "pooled-int8.tflite")]


def test_ready_files_as_any_task(harness_cli, tmp_path):
    np.save(tmp_path / "inputs.npy", np.random.default_rng(1).uniform(-1, 1, (30, 14, 14, 1)).astype(np.float32))
    for name, measure in (("tensors", "correlation"), ("embedding", "cosine"), ("classification", "logit cosine")):
        finished = harness_cli("evaluate", *PAIR, "--task", name, "--inputs", "inputs.npy", "--json")
        assert finished.returncode == 0, finished.stderr
        document = json.loads(finished.stdout)
        assert document["task"] == name
        (one,) = document["evaluations"]
        assert (one["variant"], one["delegate"]) == ("pooled-int8", "host")
        (compared,) = one["compared"]
        assert (compared["data"], compared["samples"]) == ("inputs.npy", 30)
        found = {one["name"]: one for one in compared["comparison"]["measures"]}
        assert 0.5 < found[measure]["low"] <= found[measure]["value"] <= found[measure]["high"] <= 1
        assert one["layers"]


def test_a_bare_file_is_compared_with_what_needs_no_data(harness_cli):
    finished = harness_cli("evaluate", PAIR[0], "--json")
    assert finished.returncode == 0, finished.stderr
    document = json.loads(finished.stdout)
    assert [one["variant"] for one in document["evaluations"]] == ["fp16", "dynamic-int8"]
    assert document["evaluations"][0]["compared"][0]["data"] == "random"


def test_tables_fit_80_columns(harness_cli):
    finished = harness_cli("evaluate", *PAIR, COLUMNS="80")
    assert finished.returncode == 0, finished.stderr
    assert "signal to" in finished.stdout
    assert "…" not in finished.stdout
    assert max(map(len, finished.stdout.splitlines())) <= 80


def test_files_that_cannot_be_compared(harness_cli):
    flat = [str(MODELS / "pooled-float.tflite"), str(MODELS / "two-inputs.tflite")]
    refused = harness_cli("evaluate", *flat)
    assert refused.returncode != 0
    assert "two-inputs" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert harness_cli("evaluate", *PAIR, "--task", "boxes").returncode == 2
    assert harness_cli("evaluate", *PAIR, "--suite").returncode == 2
    assert harness_cli("evaluate", PAIR[0], "variant.onnx").returncode == 2
    assert "--delegate needs --device" in harness_cli("evaluate", *PAIR, "--delegate", "gpu").stderr


def test_evaluating_ready_files_loads_no_tensorflow(tmp_path):
    script = (
        "import sys\nfrom harness.cli.main import main\n"
        f"sys.argv = ['harness', 'evaluate', {PAIR[0]!r}, {PAIR[1]!r}]\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code\n"
        "heavy = {'tensorflow', 'keras', 'torch', 'vl_convert'} & set(sys.modules)\nassert not heavy, heavy\n"
    )
    finished = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=200
    )
    assert finished.returncode == 0, finished.stderr
