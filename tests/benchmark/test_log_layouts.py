"""A log says the same in every layout of logcat, quoted, wrapped, in CI, and with other runs around it."""

import functools
import itertools

import pytest
from log_layouts import LAYOUTS, PASTES, run_lines

from harness.benchmark.benchmark_model.log import parse_log
from harness.benchmark.benchmark_model.outcome import log_as_dict

GPU = [
    "Created TensorFlow Lite delegate for GPU.",
    "Replacing 48 out of 90 node(s) with delegate (TfLiteGpuDelegateV2) node, yielding 2 partitions for subgraph 0.",
    "Explicitly applied GPU delegate, and the model graph will be partially executed by the delegate w/ 1 delegate "
    "kernels.",
]
FAILURE = [
    "NN API returned error ANEURALNETWORKS_OP_FAILED at line 3779 while completing NNAPI compilation.",
    "Node number 248 (TfLiteNnapiDelegate) failed to prepare.",
    "Restored original execution plan after delegate application failure.",
    "Failed to apply NNAPI delegate.",
    "Benchmarking failed.",
]
RUNS = {
    "gpu": {"delegates": GPU},
    "fast": {"average": 40000, "memory": (10.5, 20.25)},
    "failed": {"failure": FAILURE},
    "profiled": {"profile": True},
}
WRAPPED = [name for name in PASTES if "wrapped" in name or "folded" in name]
COMBINATIONS = [("gpu",), ("failed",), ("gpu", "fast"), ("fast", "fast", "fast"), ("gpu", "failed", "fast")]
NOT_WRAPPED = {
    "color": "terminals do not count escape sequences",
    "process": "its tag stands behind two blanks, of which wrapping leaves one",
    **dict.fromkeys(
        ["studio until 2022", "studio of 2014", "studio since 2022", "studio, no package", "logcat in ci"],
        "its prefix alone fills most of a mail's line",
    ),
}


def read(text, requested="gpu"):
    """Return what is read of each run, `error_text` without the levels that logcat keeps elsewhere."""
    runs = [log_as_dict(run, requested) for run in parse_log(text)]
    return [run | {"error_text": (run["error_text"] or "").replace("ERROR: ", "")} for run in runs]


def written(names, layout, *, starting=True):
    return LAYOUTS[layout]([line for name in names for line in run_lines(starting=starting, **RUNS[name])])


@functools.cache
def expected_of(name):
    return read(LAYOUTS["plain"](run_lines(**RUNS[name])))[0]


def expected(names):
    return [expected_of(name) for name in names]


def test_the_plain_log_is_read_as_written():
    (gpu,) = expected(["gpu"])
    assert (gpu["inference_avg_us"], gpu["run_stats"]["count"], gpu["warmup_stats"]["count"]) == (145528, 50, 3)
    assert (gpu["memory_init_mb"], gpu["memory_overall_mb"], gpu["first_inference_us"]) == (54.2852, 73.4102, 187533)
    assert (gpu["delegated_nodes"], gpu["total_nodes"], gpu["partitions"], gpu["fell_back"]) == (48, 90, 2, True)
    (failed,) = expected(["failed"])
    assert failed["error_class"] == "delegate_failed"
    assert failed["error_text"] == " / ".join(line for line in FAILURE if "Restored" not in line)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_says_the_same(layout):
    for names, starting in itertools.product(COMBINATIONS, (True, False)):
        assert read(written(names, layout, starting=starting)) == expected(names), names


@pytest.mark.parametrize("paste", PASTES)
def test_every_paste_says_the_same(paste):
    layouts = [name for name in LAYOUTS if not (name in NOT_WRAPPED and paste in WRAPPED)]
    for names, layout in itertools.product(COMBINATIONS[:2], layouts):
        assert read(PASTES[paste](written(names, layout))) == expected(names), (names, layout)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_an_op_profile_stays_with_its_run(layout):
    profiled, fast = read(written(["profiled", "fast"], layout, starting=False))
    assert [row["node_type"] for row in profiled["op_profile_nodes"]] == ["CONV_2D"]
    assert profiled["memory_init_mb"] == 54.2852
    assert (fast["op_profile_nodes"], fast["memory_init_mb"]) == (None, 10.5)
