"""The log parser against every recorded log, field for field, and against noise."""

import dataclasses
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from recorded_logs import real_logs, situations

from harness.benchmark.benchmark_model.log import parse_log
from harness.benchmark.benchmark_model.outcome import judge_log, log_as_dict
from harness.files import decode_saved

FIELDS = (
    "init_us",
    "first_inference_us",
    "warmup_avg_us",
    "inference_avg_us",
    "warmup_stats",
    "run_stats",
    "memory_init_mb",
    "memory_overall_mb",
    "memory_label",
    "peak_memory_mb",
    "delegations",
    "delegated_nodes",
    "total_nodes",
    "partitions",
    "delegate_kernels",
    "explicit_apply",
    "op_profile",
    "op_profile_nodes",
    "op_profile_init_nodes",
    "model_file_mb",
    "session_init_ms",
)
"""What the log itself says. The other fields of the records (title, device, notes, ...) were written by people."""

DELEGATES = {"GPU": "gpu", "NNAPI": "nnapi", "EXTERNAL": "external:lib.so", "XNNPACK": "cpu", "CPU": "cpu"}

NOT_IN_THE_LOG = {
    "078": "no fall-back by the poster's own words and command line; the excerpt does not show it",
}
"""Records whose `fell_back` a person knew from elsewhere."""

SHORTENED_BY_HAND = {"037": "the record writes (...) for a long condition"}


def runs_of(identity):
    data, facts = real_logs()[identity]
    return parse_log(decode_saved(data)), facts


def requested_of(facts):
    """Return the delegate that a record says was asked for; None where the page shows no command at all."""
    if facts["delegate_requested"]:
        return DELEGATES[facts["delegate_requested"][-1].split(":")[0].split(" ")[0]]
    return None if facts["title"] == "official APK README sample" else "cpu"


def test_all_fifty_logs_are_there():
    assert len(real_logs()) == 50


@pytest.mark.parametrize("identity", sorted(real_logs()))
def test_every_field_agrees_with_the_record(identity):
    runs, facts = runs_of(identity)
    if "runs" in facts:
        assert len(runs) == len(facts["runs"])
        for run, expected in zip(runs, facts["runs"], strict=True):
            values = log_as_dict(run)
            assert {field: values[field] for field in expected} == expected
        return
    (run,) = runs
    values = log_as_dict(run)
    assert {field: values[field] for field in FIELDS} == {field: facts[field] for field in FIELDS}
    for field in ("litert_results", "option_runs"):
        if field in facts:
            assert values[field] == facts[field]


@pytest.mark.parametrize("identity", sorted(real_logs()))
def test_the_verdict_agrees_with_the_record(identity):
    runs, facts = runs_of(identity)
    verdict = judge_log(runs[-1], requested_of(facts))
    assert verdict.ok is facts["ok"]
    if identity in SHORTENED_BY_HAND:
        assert verdict.error_text.endswith(facts["error_text"].split("(...)")[1])
    else:
        assert verdict.error_text == facts["error_text"]
    assert (verdict.error_class is None) is facts["ok"]
    expected = None if facts["fell_back"] == "unknown" or identity in NOT_IN_THE_LOG else facts["fell_back"]
    assert verdict.fell_back is expected


@pytest.mark.parametrize(
    ("identity", "failure_class"),
    [
        ("015", "delegate_failed"),
        ("016", "delegate_failed"),
        ("017", "delegate_failed"),
        ("020", "delegate_failed"),
        ("037", "unsupported_op"),
        ("061", "wrong_abi"),
    ],
)
def test_failed_runs_have_their_class(identity, failure_class):
    runs, _ = runs_of(identity)
    assert judge_log(runs[-1]).error_class == failure_class


def test_promise_h11_warm_up_is_never_the_measurement():
    text = "Running benchmark for at least 1 iterations\ncount=9 first=87112 curr=51629 min=5 max=8 avg=58147.4 std=1\n"
    (run,) = parse_log(text)
    assert run.warmup_stats.count == 9
    assert run.run_stats is None


def test_promise_h11_of_two_blocks_the_last_is_the_measurement():
    (run,) = parse_log(
        "count=9 first=90 curr=50 min=50 max=90 avg=60 std=1\ncount=30 first=41 curr=40 avg=40.5 std=1\n"
    )
    assert (run.warmup_stats.count, run.run_stats.count, run.run_stats.avg) == (9, 30, 40.5)


def test_promise_h11_scientific_notation_is_seconds_not_microseconds():
    (run,) = parse_log(
        "Inference timings in us: Init: 1, First inference: 2, Warmup (avg): 3, Inference (avg): 1.29e+06"
    )
    assert run.inference_avg_us == 1.29e6


def test_a_log_saved_by_powershell():
    data, facts = real_logs()["040"]
    text = data.decode().replace("\n", "\r\n").encode("utf-16")
    (run,) = parse_log(decode_saved(text))
    assert run.inference_avg_us == facts["inference_avg_us"]


@given(st.text())
def test_noise_never_raises(text):
    for run in parse_log(text):
        judge_log(run, "gpu")
        log_as_dict(run)


@given(st.data())
def test_a_log_cut_anywhere_or_with_a_line_lost_never_raises_and_never_invents(data):
    text = data.draw(st.sampled_from([s["out"] + s["err"] for s in situations().values()]))
    cut = text[: data.draw(st.integers(0, len(text)))]
    for run in parse_log(cut):
        log_as_dict(run, "nnapi")
        if run.inference_avg_us is not None:
            assert "timings in us" in cut


NOISE = {
    "digits": "count=" + "9" * 5000,
    "nodes": "Replacing " + "9" * 5000 + " out of 3 node(s) with delegate (x) node, yielding 2 partitions",
    "no counter": "cat /sys/inference_count\n\u00b2",
    "table": "Summary by node type =====\n[Node type]\na" + " " * 100_000 + "x\n",
    "empty table": "Summary by node type =====\n",
    "logcat": "11-24 10:10:10.000 1 1 I " + " " * 100_000 + "x\n",
    "one word": "count=5 " + "first=" * 100_000,
    "sentences": "Failed to apply " * 50_000 + "Though " * 50_000 + "Explicitly applied " * 50_000,
    "runs": "STARTING!\n" * 5_000,
}


@pytest.mark.parametrize("name", NOISE)
def test_hostile_noise_neither_raises_nor_hangs(name):
    for run in parse_log(NOISE[name]):
        assert log_as_dict(run, "gpu")["ok"] is False


@given(st.floats(allow_nan=True, allow_infinity=True), st.integers(0, 10**9))
def test_numbers_come_back_as_printed(value, count):
    (run,) = parse_log(
        f"Running benchmark\nRunning benchmark\ncount={count} first=1 curr=1 min=1 max=1 avg={value:g} std=0"
    )
    assert run.run_stats.count == count
    if math.isfinite(value):
        assert run.run_stats.avg == float(f"{value:g}")
    else:
        assert run.run_stats.avg is None


def test_value_objects_do_not_change():
    (run,) = parse_log("")
    with pytest.raises(dataclasses.FrozenInstanceError):
        run.init_us = 1.0
