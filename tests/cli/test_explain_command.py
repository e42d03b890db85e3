"""`harness explain` as a user meets it, on a small real store."""

import json
import re
import sys

import pytest
from results_examples import START, accuracy_outcome, begin, card, cell, facts, measure, succeeded, tool

from harness.accuracy.outcome import AccuracyOutcome, OutputCheck
from harness.analysis.evidence import RowName, read_evidence
from harness.analysis.promises import judge_promises, promise_titles
from harness.benchmark.invocation import Invocation, Pass
from harness.cli.main import main
from harness.errors import Failure, FailureClass
from harness.report.terminal.explain import explain_screen
from harness.store.rows import FinishedInvocation
from harness.store.store import Store

PREPARATION = {
    "knobs": [
        {
            "name": "fixed_performance",
            "label": "fixed performance",
            "outcome": "set",
            "reason": "",
            "confirmed": "read back",
            "restored": "read back",
        },
        {
            "name": "cpu_clocks",
            "label": "locked",
            "outcome": "unavailable",
            "reason": "This phone has no root.",
            "confirmed": None,
            "restored": None,
        },
    ],
    "found": [],
}
LOOK = {
    "thermal_status": 0,
    "temperatures_c": {"skin": 31.0},
    "battery_percent": 80,
    "screen_on": True,
    "load_1min": 0.5,
    "core_frequencies_khz": {"4": 2_370_000},
}
GATE = {"waited_s": 4.0, "looks": 3, "held_by": "skin at 41.0 °C, limit 38 °C", "open": True, "cool": True}
PINNED = cell("int8", "cpu", core_mask="f0")
COMMAND = ("/data/local/tmp/harness/tool", f"--graph=/data/local/tmp/harness/{PINNED.variant_sha256}", "--num_runs=30")


def add(store, index, invocation, *, look=LOOK, gate=GATE, purpose=Pass.LATENCY, of=PINNED):
    store.add_invocation(
        store.find_sweep("latest").id,
        of.key,
        FinishedInvocation(
            purpose=purpose,
            index=index,
            block=index,
            invocation=invocation,
            started_at=START,
            telemetry_before=look,
            telemetry_after=look,
            gate=gate,
        ),
    )


def process(latency_us=1000.0, command=COMMAND, allowed="f0", **changes):
    done = succeeded(latency_us, **changes)
    return Invocation(command, done.log, done.wall_s, measurement=done.measurement, cores_allowed=allowed)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "results"


@pytest.fixture
def store(folder):
    """Hold one row for which everything that harness does yet is as it should be, and one on the GPU."""
    with Store.open(folder) as store:
        begin(store, variants=("int8",))
        store.set_preparation(store.find_sweep("latest").id, "R58M", PREPARATION)
        store.add_cell(store.find_sweep("latest").id, PINNED)
        store.add_accuracy(store.find_sweep("latest").id, PINNED.key, accuracy_outcome())
        hot = Failure(FailureClass.THROTTLED, "The phone held back while the tool ran: thermal status 2.")
        add(store, 0, Invocation(COMMAND, "log", 1.0, measurement=succeeded(9000.0).measurement, failure=hot))
        for index in range(5):
            add(store, index, process(1000.0 + index))
        measure(store, cell("int8", "gpu"), [500.0] * 5, fell_back=True, achieved="cpu")
        yield store


@pytest.fixture
def explain(folder, capsys, monkeypatch):
    def run(*arguments):
        monkeypatch.setenv("COLUMNS", "80")
        monkeypatch.setattr(sys, "argv", ["harness", "explain", *arguments, "--results", str(folder)])
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code or 0, *capsys.readouterr()

    return run


def promises(store, variant="int8", delegate="cpu", **name):
    found = judge_promises(read_evidence(store, "latest", RowName(variant, delegate, **name)))
    return {promise.number: promise for promise in found}


def test_one_screen_holds_the_evidence_and_fits(store, explain):
    code, out, _ = explain("int8", "cpu")
    assert code == 0
    assert max(map(len, out.splitlines())) <= 80
    flat = re.sub(r"\s+", " ", out)
    for part in (
        "1.00 ms (95 % interval",
        "benchmark_model (interpreter) from test",
        "--num_runs=30",
        "mask f0",
        "fixed_performance set, restored: read back",
        "This phone has no root.",
        "thermal status 0",
        "held by skin at 41.0 °C",
        "latency 0 attempt 1: throttled",
        "31 of 31 nodes in 1 partition",
        "cosine 0.999",
        "H22",
    ):
        assert part in flat, part
    assert out.count("●") == 5  # the throttled one is told, not drawn


def test_the_raw_log_that_is_named_is_there(store, explain, folder):
    _, out, _ = explain("latest", "int8", "gpu", "--json")
    document = json.loads(out)
    assert document["schema_version"] == 1
    assert all((folder / row["log_path"]).is_file() for row in document["invocations"])
    assert [promise["number"] for promise in document["promises"]] == sorted(promise_titles())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("int8", "nnapi"), "fits no row"),
        (("fp32", "cpu"), "int8 gpu --device R58M --threads 1"),
        (("int8",), "two or three names"),
        (("latest~3", "int8", "cpu"), "does not exist"),
        (("int8", "cpu", "--threads", "4"), "fits no row"),
    ],
)
def test_unknown_names_list_what_there_is(store, explain, arguments, said):
    code, _, error = explain(*arguments)
    assert code == 2
    assert said in error


def test_a_name_of_several_rows_asks_for_more(store, explain):
    store.add_cell(store.find_sweep("latest").id, cell("int8", "cpu", threads=2))
    code, _, error = explain("int8", "cpu")
    assert code == 2
    assert "fits 2 rows" in error
    assert "--threads 2" in error
    assert explain("int8", "cpu", "--threads", "1")[0] == 0


def test_nothing_from_outside_is_markup(folder, explain):
    with Store.open(folder) as store:
        begin(store, devices=[facts(model="[red]evil[/red]\x1b[2J")])
        measure(store, PINNED, [1000.0] * 5)
    _, out, _ = explain("int8", "cpu")
    assert "[red]evil[/red]" in out
    assert "\x1b" not in out


def test_a_row_that_was_never_measured_has_a_screen(store):
    store.add_cell(store.find_sweep("latest").id, cell("int8", "nnapi"))
    evidence = read_evidence(store, "latest", RowName("int8", "nnapi"))
    assert explain_screen(evidence, judge_promises(evidence))


NOT_YET = {6, 17, 18}


def test_what_the_evidence_shows_is_kept_and_nothing_else(store):
    """H9 needs A/A sweeps, H19 facts that this phone does not tell, H21 the spec's time limit."""
    kept = {number for number, promise in promises(store).items() if promise.kept}
    assert kept == set(range(1, 23)) - NOT_YET - {9, 19, 21}


def test_promise_h6_is_claimed_only_where_a_test_found_the_warm_up(store):
    assert promises(store)[6].kept is False
    assert "no test said" in promises(store)[6].sentence


def test_promise_h17_is_claimed_only_with_a_cold_and_a_warm_load(store):
    assert promises(store)[17].kept is False


def test_promise_h18_is_claimed_only_for_a_cell_that_ran_for_minutes(store):
    assert promises(store)[18].kept is None


def _broken(store, **changes):
    """Add a sixth invocation that breaks one promise."""
    around = {name: changes.pop(name) for name in ("look", "gate") if name in changes}
    add(store, 5, process(**changes), **around)
    return promises(store)


@pytest.mark.parametrize(
    ("number", "changes", "said"),
    [
        (2, {"look": {**LOOK, "thermal_status": None}}, "no thermal service"),
        (2, {"gate": {**GATE, "cool": False}}, "1 of 6 invocations started hot"),
        (2, {"gate": None}, "passed no gate"),
        (3, {"look": None}, "not looked at"),
        (3, {"look": {**LOOK, "thermal_status": None}}, "cannot be seen"),
        (5, {"allowed": "0f"}, "did not confirm mask f0"),
        (7, {"runs": 29}, "did not make the 30 runs"),
        (10, {"command": (*COMMAND, "--report_peak_memory_footprint=true")}, "monitor"),
        (11, {"latency_min_us": 2000.0}, "contradict"),
        (12, {"command": (*COMMAND, "--unheard_of=1")}, "unheard_of"),
        (15, {"command": ("tool", "--graph=/model.tflite")}, "SHA-256"),
        (16, {"look": {**LOOK, "temperatures_c": {}}}, "temperatures"),
    ],
)
def test_a_promise_that_one_invocation_breaks_is_not_kept(store, number, changes, said):
    assert promises(store)[number].kept
    broken = _broken(store, **changes)[number]
    assert broken.kept is False
    assert said in broken.sentence


def test_what_was_not_given_back_is_told(store):
    lost = {**PREPARATION["knobs"][0], "restored": "failed"}
    store.set_preparation(store.find_sweep("latest").id, "R58M", {"knobs": [lost], "found": []})
    assert promises(store)[4].kept is False
    assert "fixed_performance" in promises(store)[4].sentence


def test_what_a_killed_harness_left_and_nobody_could_give_back_is_told(store):
    left = {**PREPARATION["knobs"][0], "name": "stay_awake", "restored": "differs"}
    store.set_preparation(store.find_sweep("latest").id, "R58M", {**PREPARATION, "found": [left]})
    assert promises(store)[4].kept is False
    assert "stay_awake" in promises(store)[4].sentence


def test_outputs_that_are_no_numbers_are_told(store, explain):
    check = OutputCheck(500, float("nan"), float("inf"), 0.1, False, True, False, "cosine at least 0.99")
    wrong = Failure(FailureClass.WRONG_OUTPUT, "The outputs are not finite.")
    store.add_accuracy(
        store.find_sweep("latest").id, PINNED.key, AccuracyOutcome(check, None, wrong, 500, "", "log", 1.0)
    )
    code, out, _ = explain("int8", "cpu")
    assert code == 0
    assert "DIFFER, not finite: 500 samples, smallest cosine -" in re.sub(r"\s+", " ", out)
    assert promises(store)[14].kept  # it was checked, found wrong, and has no rank


def test_a_fall_back_is_told_and_not_ranked(store):
    of_gpu = promises(store, delegate="gpu")
    assert of_gpu[13].kept
    assert "not ranked" in of_gpu[13].sentence
    assert of_gpu[14].kept is False


def test_the_tool_and_card_are_those_of_the_row(store):
    evidence = read_evidence(store, "latest", RowName("int8", "cpu"))
    assert evidence.tool.sha256 == tool().sha256
    assert evidence.variant.sha256 == card("int8").sha256
    assert [row.failure_class for row in evidence.discarded] == ["throttled"]
