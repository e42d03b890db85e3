"""One rule for every failure class: what is tried again, how often at most, and what is done before."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from results_examples import SWEEP
from scripted_sweep import ScriptedSweep

from harness.analysis.summary import summarize
from harness.devices.adb.discovery import open_device
from harness.errors import DEVICE_GONE, NOT_CAUSED_BY_THE_CELL, DeviceError, Failure, FailureClass
from harness.export.tables import summary_frame
from harness.sweep.fault_log import MOST_RESTARTS, FaultLog
from harness.sweep.retry import RULES, Remedy, Tries

COUNT = "n=$(($(cat /data/count 2>/dev/null) + 1)); echo $n >/data/count; "
"""Shell code: `n` is how often the tool has run."""

classes = st.sampled_from(list(FailureClass))


# -- the table --


def test_every_failure_class_has_a_rule_and_no_other():
    assert set(RULES) == set(FailureClass)


def test_the_documentation_tells_the_rules():
    lines = (Path(__file__).parents[2] / "docs" / "lab.md").read_text().splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| `")]
    told = {name: row[1:] for row in rows for name in row[0].replace("`", "").split(", ") if name in set(FailureClass)}
    assert any(line.startswith("| all others | 1 |") for line in lines)
    for failure_class, rule in RULES.items():
        if rule.tries == 1:
            assert failure_class not in told
            continue
        pause = f"{rule.backoff_s:g} s" if rule.backoff_s else "none"
        assert told[failure_class] == [str(rule.tries), pause, rule.remedy]


@given(classes)
def test_a_rule_makes_sense(failure_class):
    rule = RULES[failure_class]
    assert 1 <= rule.tries <= 3
    assert (rule.tries > 1) == (rule.remedy is not Remedy.NOTHING)
    assert (rule.remedy is Remedy.WAIT) == (failure_class in DEVICE_GONE)
    assert not rule.is_fault or failure_class in NOT_CAUSED_BY_THE_CELL  # what speaks against the phone is not final


@given(st.lists(classes, max_size=200), st.text())
def test_tries_are_bounded_whatever_fails_in_whatever_order(failures, seed):
    tries = Tries(seed)
    pauses = []
    for failure_class in failures:
        pause_s = tries.failed(failure_class)
        if pause_s is None:
            break
        pauses.append((failure_class, pause_s))
    assert len(pauses) <= sum(rule.tries - 1 for rule in RULES.values())
    for failure_class, pause_s in pauses:
        rule = RULES[failure_class]
        assert 0 <= pause_s <= 1.5 * rule.backoff_s * 2 ** (rule.tries - 2)


@given(classes, st.text())
def test_pauses_grow_and_are_the_same_for_the_same_seed(failure_class, seed):
    pauses = drawn(failure_class, seed)
    assert len(pauses) == RULES[failure_class].tries - 1
    assert pauses == drawn(failure_class, seed)
    for times, pause_s in enumerate(pauses):
        middle = RULES[failure_class].backoff_s * 2**times
        assert 0.5 * middle <= pause_s <= 1.5 * middle


def test_two_phones_do_not_pause_alike():
    assert drawn(FailureClass.DEVICE_LOST, "1/A/facts") != drawn(FailureClass.DEVICE_LOST, "1/B/facts")


def drawn(failure_class, seed):
    tries = Tries(seed)
    return list(iter(lambda: tries.failed(failure_class), None))


# -- the book of faults --


def test_a_phone_is_left_out_for_its_own_faults_with_what_and_how_often_and_when(clock):
    book = FaultLog(2, now=clock)
    lost = Failure(FailureClass.DEVICE_LOST, "A: it is not attached.")
    corrupt = Failure(FailureClass.PUSH_CORRUPT, "A: int8 arrived changed.")
    for failure in (lost, corrupt):
        book.note("A", failure)
        assert book.quarantine("A") is None
    book.note("A", corrupt)  # the very same, met again on its way up
    assert book.quarantine("A") is None
    book.note("A", Failure(FailureClass.DEVICE_LOST, "A: it is not attached."))
    reason = book.quarantine("A")
    assert reason.failure_class is FailureClass.DEVICE_LOST
    assert reason.message == (
        "A is left out of this sweep after 3 faults: "
        "device_lost 2 times (at 01:00:01, 01:00:03 UTC); push_corrupt (at 01:00:02 UTC)."
    )
    assert "2026-11-24 01:00:02 UTC push_corrupt: A: int8 arrived changed." in reason.evidence
    assert book.quarantine("B") is None


def test_a_restart_forgives_once(clock):
    book = FaultLog(0, now=clock)
    book.note("A", Failure(FailureClass.DEVICE_LOST, "first"))
    assert book.quarantine("A")
    assert MOST_RESTARTS == 1
    assert book.may_restart("A")
    book.restarted("A", book.quarantine("A"))
    assert book.quarantine("A") is None
    assert not book.may_restart("A")
    book.note("A", Failure(FailureClass.DEVICE_LOST, "again"))
    assert book.quarantine("A")
    told = book.as_dict("A")
    assert [fault["message"] for fault in told["faults"]] == ["first", "again"]
    assert len(told["restarts"]) == 1


# -- on a phone --


@pytest.mark.virtual_phone
def test_a_crash_is_done_once_more_and_both_attempts_are_kept(start_phone, tmp_path):
    device = open_device(start_phone().serial)
    sweep = ScriptedSweep(tmp_path, f"{COUNT}[ $n = 2 ] && kill -SEGV $$", prepare=False).run(device)
    places = [(row["invocation_index"], row["attempt"], row["failure_class"]) for row in sweep.invocations]
    assert places == [(0, 1, None), (1, 1, "crashed"), (1, 2, None), (2, 1, None), (3, 1, None), (4, 1, None)]
    assert any(note.endswith("Repeating it once.") for note in sweep.notebook.notes)
    (row,) = summary_frame(summarize(sweep.store, SWEEP)).to_dict("records")
    assert (row["invocations_ok"], row["invocations_failed"], row["verdict"]) == (5, 1, "unreliable")
    assert row["failure_class"] == "crashed"  # made good, and told all the same


@pytest.mark.virtual_phone
def test_what_no_second_try_mends_is_tried_once(start_phone, tmp_path):
    device = open_device(start_phone().serial)
    said = "echo 'ERROR: Could not open model'; echo 'ERROR: Failed to load model'; exit 1"
    sweep = ScriptedSweep(tmp_path, said, prepare=False).run(device)
    assert [row["failure_class"] for row in sweep.invocations] == ["invalid_model"]


@pytest.mark.virtual_phone
def test_what_arrives_changed_is_pushed_again(start_phone, tmp_path):
    device = open_device(start_phone().serial)
    push, calls = device.push, []

    def corrupt_once(local):
        calls.append(local.name)
        if calls == ["benchmark_model", "model.tflite"]:
            raise DeviceError(Failure(FailureClass.PUSH_CORRUPT, "model.tflite arrived changed."))
        return push(local)

    device.push = corrupt_once
    sweep = ScriptedSweep(tmp_path, prepare=False).run(device)
    assert calls == ["benchmark_model", "model.tflite", "model.tflite"]
    assert [row["failure_class"] for row in sweep.invocations] == [None] * 5
    assert [fault["failure_class"] for fault in sweep.preparation["faults"]] == ["push_corrupt"]
