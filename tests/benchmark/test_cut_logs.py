"""A log that ends in the middle says nothing wrong: its last figure may have had more digits."""

import pytest

from harness.benchmark.benchmark_model.log import parse_log
from harness.benchmark.benchmark_model.outcome import log_as_dict


def read(text, requested="cpu"):
    return [log_as_dict(run, requested) for run in parse_log(text)]


def figures(run, *names):
    return tuple(run[name] for name in names)


HEADER = (
    "Running benchmark for at least {} iterations and at least {} seconds but terminate if exceeding 150 seconds.\n"
)


COUNT = "count=25 first=37601 curr=37528 min=37413 max=37605 avg=37531.9 std=45"


@pytest.mark.parametrize(
    ("end", "names"),
    [
        (COUNT[: COUNT.index("5 avg")], ("count", "first", "curr", "min")),
        (COUNT[: COUNT.index("01 curr")], ("count",)),
        (COUNT[: COUNT.index(".9")], ("count", "first", "curr", "min", "max")),
        (COUNT[: COUNT.index(" std")], ("count", "first", "curr", "min", "max")),
        (COUNT, ("count", "first", "curr", "min", "max", "avg", "std")),
    ],
)
def test_the_figure_in_which_a_log_was_cut_is_absent(end, names):
    text = f"STARTING!\n{HEADER.format(4, 0.5)}count=1 curr=39195\n\n{HEADER.format(10, 1)}{end}"
    (run,) = read(text)
    assert tuple(run["run_stats"]) == names
    assert run["ok"] is ("std" in names)


TIMINGS = (
    "Inference timings in us: Init: 31930, First inference: 40037, Warmup (avg): 22013.8, Inference (avg): 33329.7"
)


@pytest.mark.parametrize(
    ("end", "found"),
    [
        (TIMINGS[: TIMINGS.index("30, First")], (None, None, None, None)),
        (TIMINGS[: TIMINGS.index(", First")], (None, None, None, None)),
        (TIMINGS[: TIMINGS.index(" First")], (31930, None, None, None)),
        (TIMINGS[: TIMINGS.index("13.8")], (31930, 40037, None, None)),
        (TIMINGS[: TIMINGS.index("29.7")], (31930, 40037, 22013.8, None)),
        (TIMINGS, (31930, 40037, 22013.8, 33329.7)),
    ],
)
def test_a_summary_cut_in_a_figure_says_nothing_of_it(end, found):
    block = "count=120 first=25867 curr=37586 min=24979 max=46407 avg=33329.7 std=2946\n"
    (run,) = read(f"{HEADER.format(1, 0.5)}count=1 curr=40037\n{HEADER.format(120, 1)}{block}{end}")
    assert figures(run, "init_us", "first_inference_us", "warmup_avg_us", "inference_avg_us") == found
    assert run["run_stats"]["avg"] == 33329.7


@pytest.mark.parametrize("end", ["", HEADER.format(50, 1), HEADER.format(50, 1)[:60], HEADER.format(50, 1) + "W [Hand"])
def test_promise_h11_a_log_cut_behind_its_warm_up_has_no_measurement(end):
    warmup = "count=6 first=100521 curr=80282 min=79211 max=100521 avg=83420.5 std=7670\n\n"
    (run,) = read("STARTING!\nInitialized session in 65.973ms.\n" + HEADER.format(1, 0.5) + warmup + end)
    assert (run["warmup_stats"]["count"], run["run_stats"], run["ok"]) == (6, None, False)
