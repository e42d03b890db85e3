"""What a sweep that is carried on counts as done: by content, by class, and by what is asked for now."""

import io
from dataclasses import replace
from datetime import timedelta

import pytest
from results_examples import START, SWEEP, accuracy_outcome, add, begin, cell, facts, failed, measure, succeeded
from rich.console import Console

from harness.analysis.summary import summarize
from harness.benchmark.invocation import Pass
from harness.errors import DeviceError, Failure, FailureClass, UsageError
from harness.export.tables import summary_frame
from harness.report.terminal.sweep_table import sweep_table
from harness.spec.sweep import SweepSpec, change_sweep_spec
from harness.store.rows import FinishedInvocation
from harness.store.store import Store
from harness.sweep.resume import UNKNOWN, changed_settings, labels_so_far, read_state, require_same_system

CELL = cell()
SPEC = SweepSpec.model_validate({"measurement": {"memory_invocations": 0, "op_profile_invocations": 0}})


@pytest.fixture
def store(tmp_path):
    with Store.open(tmp_path) as store:
        begin(store)
        yield store


def earlier(store, *cells, evidence=None, **measurement):
    settings = SPEC.measurement.model_copy(update=measurement)
    return read_state(store, SWEEP, cells or [CELL], settings, evidence_sha256=evidence)


def fail(store, failure_class, index=0, *, wall_s=1.25, times=1):
    store.add_cell(SWEEP, CELL)
    for _ in range(times):
        add(store, CELL, index, replace(failed(Failure(failure_class, "it failed")), wall_s=wall_s))


def test_nothing_is_told_of_a_sweep_that_has_nothing(store):
    assert not earlier(store).is_any


def test_what_was_cut_short_is_made_again_once_it_has_longer(store):
    fail(store, FailureClass.TIMEOUT, wall_s=180.2, times=2)
    place = (CELL.key, Pass.LATENCY, 0)
    assert place not in earlier(store, timeout_s=180.0).reopened
    assert CELL.key in earlier(store, timeout_s=180.0).abandoned
    assert place in earlier(store, timeout_s=300.0).reopened
    assert CELL.key not in earlier(store, timeout_s=300.0).abandoned


def test_a_try_that_a_kill_prevented_is_made(store):
    fail(store, FailureClass.CRASHED)
    assert (CELL.key, Pass.LATENCY, 0) in earlier(store).reopened
    fail(store, FailureClass.CRASHED)
    left = earlier(store)
    assert not left.reopened
    assert left.abandoned == {CELL.key}


def test_a_cell_that_was_given_up_needs_nothing_more(store):
    fail(store, FailureClass.UNSUPPORTED_OP)
    left = earlier(store)
    assert (left.complete, left.cells, left.processes_left) == (1, 1, 0)
    assert left.sentence("R58M").endswith("nothing remains.")


def test_a_phone_that_was_lost_gives_no_cell_up(store):
    fail(store, FailureClass.DEVICE_LOST, times=3)
    left = earlier(store)
    assert not left.abandoned
    assert left.processes_left == 5


def test_processes_that_are_not_needed_do_not_remain(store):
    measure(store, CELL, [1000.0] * 12, memory=False)
    assert earlier(store, invocations=30).processes_left == 18
    assert earlier(store, invocations=30, interval_width=0.02).processes_left == 0


def test_outputs_are_checked_again_with_other_samples_or_limits_alone(store):
    outcome = accuracy_outcome()
    outcome = replace(outcome, check=replace(outcome.check, evidence_sha256="a" * 64))
    measure(store, CELL, [1000.0] * 5, outcome=outcome, memory=False)
    assert not earlier(store, evidence="a" * 64).stale_checks
    assert earlier(store, evidence="a" * 64).complete == 1
    assert not earlier(store, evidence=UNKNOWN).stale_checks
    other = earlier(store, evidence="b" * 64)
    assert other.stale_checks == {CELL.key}
    assert (other.complete, other.processes_left) == (0, 0)


def test_a_check_that_a_kill_prevented_is_made(store):
    crash = accuracy_outcome(failure=Failure(FailureClass.CRASHED, "it crashed"))
    measure(store, CELL, [1000.0] * 5, outcome=crash, memory=False)
    assert earlier(store, evidence=UNKNOWN).stale_checks == {CELL.key}
    store.add_accuracy(SWEEP, CELL.key, crash)
    assert not earlier(store, evidence=UNKNOWN).stale_checks


def test_blocks_are_counted_on(store):
    measure(store, CELL, [1000.0] * 5)
    assert earlier(store).next_block == 5


def test_what_has_another_key_is_set_aside_with_what_changed(store):
    measure(store, CELL, [1000.0] * 5, memory=False)
    now = replace(CELL, core_mask="f0", mode={"runs": 50})
    left = earlier(store, now)
    assert left.set_aside == {CELL.key: "core_mask: unknown against f0; mode: runs 30 against 50"}
    assert left.reasons("R58M") == [f"R58M: measuring again because {left.set_aside[CELL.key]}: int8 cpu."]
    store.set_aside(SWEEP, left.set_aside, planned={now.key})
    measure(store, now, [900.0] * 5, outcome=accuracy_outcome(), memory=False)
    rows = {row["cell_key"]: row for row in summary_frame(summarize(store, SWEEP)).to_dict("records")}
    assert rows[CELL.key]["verdict"] == "set_aside"
    assert rows[CELL.key]["latency_median_us"] == 1000.0
    assert rows[now.key]["verdict"] == "ranked"
    store.set_aside(SWEEP, {}, planned={CELL.key})
    assert summary_frame(summarize(store, SWEEP))["set_aside"].isna().all()


def test_a_row_of_another_sitting_is_marked_and_its_rank_is_doubted(store):
    other = cell("fp16")
    measure(store, CELL, [1000.0] * 5, outcome=accuracy_outcome(), memory=False)
    later = START + timedelta(days=1)
    store.note_sitting(SWEEP, SPEC.model_dump(mode="json"), {"started_at_utc": later.isoformat(), "changes": {}})
    store.add_cell(SWEEP, other)
    for index in range(5):
        store.add_invocation(
            SWEEP,
            other.key,
            FinishedInvocation(
                purpose=Pass.LATENCY,
                index=index,
                block=5 + index,
                invocation=succeeded(800.0),
                started_at=later + timedelta(seconds=index),
            ),
        )
    store.add_accuracy(SWEEP, other.key, accuracy_outcome())
    summary = summary_frame(summarize(store, SWEEP))
    assert dict(zip(summary["variant"], summary["sittings"], strict=True)) == {"int8": "1", "fp16": "2"}
    assert "not measured in turns" in _printed(summarize(store, SWEEP))


def _printed(summary):
    file = io.StringIO()
    Console(file=file, width=250).print(sweep_table(summary))
    return file.getvalue()


def test_a_phone_keeps_the_labels_under_which_it_was_measured(store):
    store.add_device(SWEEP, facts(), "generic", ["low battery"])
    assert labels_so_far(store, SWEEP, "R58M") == ()
    measure(store, CELL, [1000.0])
    assert labels_so_far(store, SWEEP, "R58M") == ("low battery",)


def test_a_phone_with_another_system_is_refused_only_where_it_was_measured(store):
    updated = replace(facts(), fingerprint="new")
    require_same_system(store, SWEEP, updated)
    measure(store, CELL, [1000.0])
    require_same_system(store, SWEEP, facts())
    with pytest.raises(DeviceError) as caught:
        require_same_system(store, SWEEP, updated)
    assert caught.value.failure.failure_class is FailureClass.DEVICE_CHANGED


def test_settings_that_change_are_told_and_those_that_cannot_are_refused(store):
    store.note_sitting(SWEEP, SPEC.model_dump(mode="json"), {"started_at_utc": "2026-11-24T09:00:00Z", "changes": {}})
    record = store.find_sweep(SWEEP)
    standard = change_sweep_spec(record.spec, {"preset": "standard", "measurement": {"runs": 40}}, origin="test")
    changes = changed_settings(record, standard)
    assert changes["measurement.invocations"] == (5, 18)
    assert changes["measurement.runs"] == (30, 40)
    assert changes["preset"] == ("quick", "standard")
    other = change_sweep_spec(record.spec, {"model": "other"}, origin="test")
    with pytest.raises(UsageError, match="model fashion-dscnn -> other"):
        changed_settings(record, other)
