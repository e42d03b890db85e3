"""`harness compare` and `harness noise` as a user meets them, on real small stores."""

import json
import sys
from typing import NamedTuple

import numpy as np
import pytest
from results_examples import (
    accuracy_outcome,
    card,
    cell,
    facts,
    failed,
    measure,
    succeeded,
    sweep_record,
    tool,
)
from results_examples import add as add_invocation

from harness.analysis.cell_comparison import Subject, compare_cells, pair_cells
from harness.analysis.comparable_cell import CONDITIONS, differences, read_comparable_cells
from harness.analysis.comparison import FindingVerdict
from harness.analysis.device_noise import DeviceNoise, read_noise
from harness.cli.main import main
from harness.devices.device import DeviceKind
from harness.errors import Failure, FailureClass
from harness.store.store import Store
from harness.tflite.variant import VariantCard

BEFORE, AFTER = "20261123-083000-aaaa", "20261124-083000-bbbb"
VARIANTS = ("fp32", "int8")


def latencies(seed, *, ratio=1.0, count=10, noise=0.01):
    return list(1000 * ratio * np.random.default_rng(seed).lognormal(0, noise, count))


def begin(store, sweep_id, *, phone=None, purpose="sweep", labels=(), spec=None):
    store.start_sweep(sweep_record(sweep_id, spec={"model": "fashion-dscnn", "purpose": purpose, **(spec or {})}))
    store.add_device(sweep_id, phone or facts(), "generic", labels)
    for name in VARIANTS:
        store.add_variant(sweep_id, card(name))
    store.add_tool(sweep_id, tool())


def add(store, sweep_id, values, variant="int8", delegate="cpu", *, outcome=None, cell_changes=None, **changes):
    measured = cell(variant, delegate, **(cell_changes or {}))
    measure(store, measured, values, outcome=outcome or accuracy_outcome(), sweep_id=sweep_id, **changes)


def add_noise(store, count=6, *, between=0.01):
    """Store A/A sweeps, as `harness noise` does."""
    generator = np.random.default_rng(99)
    for index in range(count):
        sweep_id = f"20261120-0{index}0000-cccc"
        begin(store, sweep_id, purpose="noise")
        add(store, sweep_id, latencies(100 + index, count=5, ratio=float(generator.lognormal(0, between))))


@pytest.fixture
def store(tmp_path):
    with Store.open(tmp_path / "results") as opened:
        yield opened


class Finished(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def run_main(store, monkeypatch, capsys):
    """Run a verb on the store as the console program does, in this process: a new one takes seconds to start."""

    def run(*arguments, results=None):
        monkeypatch.setenv("COLUMNS", "100")
        monkeypatch.setattr(sys, "argv", ["harness", *arguments, "--results", str(results or store.folder)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        return Finished(int(ended.value.code or 0), *capsys.readouterr())

    return run


@pytest.fixture
def compare(run_main):
    return lambda *arguments, **options: run_main("compare", *arguments, **options)


def rows(finished):
    return json.loads(finished.stdout)["rows"]


def findings(store, a=BEFORE, b=AFTER, **options):
    sides_a, sides_b = read_comparable_cells(store, a), read_comparable_cells(store, b)
    compared = compare_cells(
        pair_cells(sides_a, sides_b, Subject.SWEEP), read_noise(store, [*sides_a, *sides_b]), **options
    )
    return {(cells.cell.variant, cells.cell.delegate_requested): cells for cells in compared}


def test_promise_h9_a_slower_sweep_fails_the_gate_and_shows_its_noise_floor(store, compare):
    add_noise(store)
    for sweep_id in (BEFORE, AFTER):
        begin(store, sweep_id)
    add(store, BEFORE, latencies(1), "fp32")
    add(store, AFTER, latencies(2), "fp32")
    add(store, BEFORE, latencies(3))
    add(store, AFTER, latencies(4, ratio=1.2))
    finished = compare("latest~1", "latest", "--fail-on", "slower", "--json")
    assert finished.returncode == 1
    slower, other = rows(finished)  # what must be looked at first comes first
    assert (slower["variant_b"], slower["verdict"]) == ("int8", "slower")
    assert slower["ratio_low"] < 1.2 < slower["ratio_high"]
    assert 0.02 < slower["noise_floor"] < 0.15
    assert slower["noise_floor_source"] == "6 A/A sweeps, the last 20261120-050000-cccc"
    assert other["verdict"] == "inconclusive"  # with this floor, 2 % can be neither shown nor ruled out
    assert other["ratio_high"] / other["ratio"] - 1 >= other["noise_floor"] - 1e-9
    assert compare(AFTER, BEFORE, "--fail-on", "slower").returncode == 0  # the other way round it is faster
    assert compare().returncode == 0  # nothing to fail on


def test_promise_h9_without_a_noise_floor_two_sweeps_must_differ_by_a_lot(store):
    for sweep_id, ratio in ((BEFORE, 1.0), (AFTER, 1.2)):
        begin(store, sweep_id)
        add(store, sweep_id, latencies(5, ratio=ratio), "fp32")
        add(store, sweep_id, latencies(6, ratio=ratio**6))
    found = findings(store)
    small, large = found["fp32", "cpu"].finding, found["int8", "cpu"].finding
    assert small.verdict is FindingVerdict.INCONCLUSIVE
    assert "harness noise" in small.floor.source
    assert large.verdict is FindingVerdict.SLOWER


def test_promise_h9_the_floor_is_that_of_the_phone_as_it_is_now(store):
    add_noise(store, between=0.001)
    for sweep_id in (BEFORE, AFTER):
        begin(store, sweep_id)
        add(store, sweep_id, latencies(7))
    sides = read_comparable_cells(store, BEFORE), read_comparable_cells(store, AFTER)
    known = read_noise(store, [*sides[0], *sides[1]])
    assert known.between(sides[0][0], sides[1][0]).value < 0.05
    assert known.within(sides[0][0], sides[0][0], 10).source.startswith("6 A/A sweeps")
    updated = facts()
    begin(store, "20261125-083000-dddd", phone=type(updated)(**(vars(updated) | {"fingerprint": "new/os"})))
    add(store, "20261125-083000-dddd", latencies(8))
    (after_update,) = read_comparable_cells(store, "20261125-083000-dddd")
    assert known.between(sides[0][0], after_update).source.startswith("assumed")


def test_promise_h8_variants_of_one_sweep_are_paired_by_block(store, compare):
    begin(store, AFTER, spec={"recipes": ["fp32", "int8"]})
    heat = np.linspace(1, 1.3, 10)
    add(store, AFTER, list(latencies(9) * heat), "fp32")
    add(store, AFTER, list(latencies(10, ratio=0.9) * heat), "int8")
    (row,) = rows(compare("--by", "variant", "--json"))
    assert (row["variant_a"], row["variant_b"], row["verdict"]) == ("fp32", "int8", "faster")
    assert (row["paired_by_block"], row["method"]) == (True, "signed ranks of pairs")
    (same,) = rows(compare("latest:fp32", "latest:int8", "--json"))
    assert same == row
    (turned,) = rows(compare("--by", "variant", "--baseline", "int8", "--json"))
    assert turned["verdict"] == "slower"
    sides = {side.cell.variant: side for side in read_comparable_cells(store, AFTER)}
    torn = DeviceNoise([], list(sides.values())).within(sides["fp32"], sides["int8"], 0)
    assert torn is None  # no block holds both


def test_promise_h8_pairs_hold_only_blocks_that_both_sides_have(store):
    begin(store, AFTER)
    add(store, AFTER, latencies(11), "fp32")
    add(store, AFTER, latencies(12)[:8], "int8")
    fp32, int8 = (next(s for s in read_comparable_cells(store, AFTER) if s.cell.variant == name) for name in VARIANTS)
    (cells,) = compare_cells(pair_cells([fp32], [int8], Subject.VARIANT), DeviceNoise([], [fp32, int8]))
    assert cells.finding.estimate is not None
    assert cells.paired
    assert len(fp32.latencies_us.keys() & int8.latencies_us.keys()) == 8


@pytest.mark.training
def test_promise_h9_noise_of_a_device_is_measured_and_used(store, compare, run_main):
    """On this host, with the real runtime."""
    finished = run_main("noise", "--device", "host", "--sweeps", "3", "--preset", "quick", "--json")
    assert finished.returncode == 0
    (floor,) = json.loads(finished.stdout)["floors"]
    assert (floor["serial"], floor["delegate"], floor["sweeps"], floor["pairs"]) == ("host", "cpu", 3, 5)
    assert floor["floor_between_sweeps"] > 0
    assert all(record.is_noise for record in store.sweeps())
    ids = [record.id for record in store.sweeps()]
    (row,) = rows(compare(ids[1], ids[0], "--json"))
    assert row["verdict"] in ("same", "inconclusive")
    assert "holds 0 sweeps, A/A sweeps left out" in compare().stderr  # A/A sweeps are never meant by `latest`


def test_a_virtual_phone_of_one_sweep_has_no_floor(run_main):
    finished = run_main("noise", "--device", "virtual:pixel-8")
    assert finished.returncode == 2
    assert "harness phone start" in finished.stderr


@pytest.mark.training
def test_noise_of_a_phone_that_is_not_there_stops_at_the_first_sweep(store, run_main):
    finished = run_main("noise", "--device", "NOPHONE", "--preset", "quick")
    assert finished.returncode == 3
    assert "Cannot measure NOPHONE: " in finished.stderr
    assert store.sweeps() == []  # the phone is looked for before anything is stored


def test_delegates_of_one_sweep(store, compare):
    begin(store, AFTER)
    add(store, AFTER, latencies(13), delegate="cpu")
    add(store, AFTER, latencies(14, ratio=0.5), delegate="gpu")
    add(store, AFTER, latencies(15), delegate="nnapi", achieved="cpu", fell_back=True)
    finished = compare("--by", "delegate", "--json", "--fail-on", "fallback")
    assert finished.returncode == 1
    by_delegate = {row["delegate_requested_b"]: row for row in rows(finished)}
    assert {row["delegate_requested_a"] for row in by_delegate.values()} == {"cpu"}
    assert by_delegate["gpu"]["verdict"] == "faster"
    assert by_delegate["nnapi"]["verdict"] == "refused"
    assert by_delegate["nnapi"]["why"] == "B fell back: it ran, or part of it, on cpu."


UNLIKE = {
    "tool": ({"tool_sha256": "e" * 64}, "tool: ffffffffffffffff... against eeeeeeeeeeeeeeee..."),
    "cores": ({"core_mask": "f0"}, "cores: unknown against f0"),
    "mode": ({"mode": {"runs": 50}}, "mode: runs 30 against 50"),
    "profile": ({"profile": "pixel-8"}, "profile: generic against pixel-8"),
}


@pytest.mark.parametrize("condition", UNLIKE)
def test_promise_h22_what_is_measured_otherwise_is_refused(store, condition):
    changes, words = UNLIKE[condition]
    for sweep_id in (BEFORE, AFTER):
        begin(store, sweep_id)
    add(store, BEFORE, latencies(1))
    add(store, AFTER, latencies(2, ratio=3.0), cell_changes=changes)
    refused = findings(store)["int8", "cpu"]
    assert refused.finding.verdict is FindingVerdict.REFUSED
    assert refused.finding.why == f"Not alike: {words}."
    assert refused.finding.estimate is None
    allowed = findings(store, allow={condition})["int8", "cpu"]
    assert allowed.finding.verdict is FindingVerdict.SLOWER
    assert allowed.flags == (words,)


def test_an_emulator_is_never_compared_with_a_phone(store):
    for sweep_id, kind in ((BEFORE, DeviceKind.PHONE), (AFTER, DeviceKind.EMULATOR)):
        begin(store, sweep_id, phone=facts(kind=kind))
        add(store, sweep_id, latencies(1))
    refused = findings(store, allow=set(CONDITIONS))["int8", "cpu"].finding
    assert refused.verdict is FindingVerdict.REFUSED
    assert refused.why == "A is of a device of kind phone, B of kind emulator: these are never compared."


def test_promise_h22_another_phone_another_system_and_another_model_are_refused(store):
    phone = facts()
    begin(store, BEFORE)
    add(store, BEFORE, latencies(1))
    begin(store, AFTER, phone=type(phone)(**(vars(phone) | {"fingerprint": "google/shiba:15"})))
    other_model = card("int8").model_dump() | {"model": "efficientnet"}
    store.add_variant(AFTER, VariantCard(**other_model))
    add(store, AFTER, latencies(2))
    words = "os: unknown against google/shiba:15; model: fashion-dscnn against efficientnet"
    assert findings(store)["int8", "cpu"].finding.why == f"Not alike: {words}."
    third = "20261125-083000-dddd"
    begin(store, third, phone=facts("R59X"))
    add(store, third, latencies(2), cell_changes={"serial": "R59X"})
    assert findings(store, BEFORE, third)["int8", "cpu"].finding.why == "Not alike: device: R58M against R59X."


def test_promise_h22_every_condition_is_looked_at(store):
    begin(store, AFTER)
    add(store, AFTER, latencies(1))
    (side,) = read_comparable_cells(store, AFTER)
    assert set(side.conditions) == set(CONDITIONS)
    for name in CONDITIONS:
        changed = type(side)(side.sweep_id, side.cell, {**side.conditions, name: "another"}, side.latencies_us)
        assert list(differences(side, changed)) == [name]


def test_promise_h22_a_gate_that_could_compare_nothing_does_not_pass(store, compare):
    for sweep_id, changes in ((BEFORE, {}), (AFTER, UNLIKE["tool"][0])):
        begin(store, sweep_id)
        add(store, sweep_id, latencies(1), cell_changes=changes)
    assert compare("--fail-on", "slower").returncode == 1
    assert compare("--fail-on", "slower", "--allow", "tool").returncode == 0
    finished = compare()
    assert finished.returncode == 0
    assert "Not alike: tool: ffffffffffffffff... against eeeeeeeeeeeeeeee..." in " ".join(finished.stdout.split())


def test_wrong_outputs_and_cells_without_counterpart_are_refused(store):
    for sweep_id in (BEFORE, AFTER):
        begin(store, sweep_id)
    add(store, BEFORE, latencies(1))
    add(store, AFTER, latencies(2, ratio=0.5), outcome=accuracy_outcome(passed=False))
    add(store, BEFORE, latencies(3), "fp32")
    found = findings(store)
    assert found["int8", "cpu"].finding.why == "B is no measurement: wrong output."
    assert found["fp32", "cpu"].finding.why == "Only in A."


def test_worse_accuracy_and_memory_are_regressions_too(store, compare):
    for sweep_id in (BEFORE, AFTER):
        begin(store, sweep_id)
    add(store, BEFORE, latencies(1), outcome=accuracy_outcome(0.91), memory_overall_mb=4.0)
    add(store, AFTER, latencies(1), outcome=accuracy_outcome(0.80), memory_overall_mb=9.0)
    (row,) = rows(compare("--json"))
    assert row["regressions"] == ["accuracy", "memory"]
    assert compare("--fail-on", "memory").returncode == 1
    assert compare("--fail-on", "slower").returncode == 0
    assert "inconclusive, less accurate, more memory" in " ".join(compare().stdout.split())


def test_a_failed_cell_is_refused_with_its_failure(store):
    for sweep_id in (BEFORE, AFTER):
        begin(store, sweep_id)
    add(store, BEFORE, latencies(1))
    store.add_cell(AFTER, cell("int8"))
    for index in range(2):
        crash = failed(Failure(FailureClass.CRASHED, "It crashed.", "SIGSEGV"))
        add_invocation(store, cell("int8"), index, crash, sweep_id=AFTER)
    assert findings(store)["int8", "cpu"].finding.why == "B is no measurement: crashed."


def test_what_was_redone_counts_once(store):
    begin(store, AFTER)
    add(store, AFTER, latencies(1))
    add_invocation(store, cell("int8"), 3, succeeded(5000.0), sweep_id=AFTER)
    (side,) = read_comparable_cells(store, AFTER)
    assert (len(side.latencies_us), side.latencies_us[3]) == (10, 5000.0)


def test_labels_of_one_side_are_flagged(store):
    begin(store, BEFORE)
    begin(store, AFTER, labels=("low battery",))
    for sweep_id in (BEFORE, AFTER):
        add(store, sweep_id, latencies(1))
    assert findings(store)["int8", "cpu"].flags == ("B alone: low battery",)


def test_the_table_fits_100_columns_and_says_why(store, compare):
    for sweep_id in (BEFORE, AFTER):
        begin(store, sweep_id)
        for variant in VARIANTS:
            add(store, sweep_id, latencies(len(variant)), variant, "nnapi:google-edgetpu-long", fell_back=False)
    lines = compare().stdout.splitlines()
    assert max(map(len, lines)) <= 100
    assert any("noise floor: assumed" in line for line in lines)
    assert lines[0].startswith("Google Pixel 8 (R58M)")


@pytest.mark.parametrize("form", ["markdown", "csv"])
def test_findings_as_a_file_for_others(store, compare, form):
    for sweep_id in (BEFORE, AFTER):
        begin(store, sweep_id)
        add(store, sweep_id, latencies(1))
    first, *others = compare("--format", form).stdout.splitlines()
    assert "noise floor %" in first
    assert any("int8" in line and "inconclusive" in line for line in others)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nosuch", "latest"], "'nosuch' fits no sweep"),
        (["latest~7"], "latest~7 does not exist"),
        (["latest", "latest"], "Cannot compare latest with latest: they are the same."),
        (["latest:int9", "latest:int8"], "has no variant 'int9'."),
        (["latest:int8", "latest"], "only one of them names a variant."),
        (["latest~1", "latest", "--by", "variant"], "Cannot compare by variant with a second sweep"),
        (["--by", "variant", "--baseline", "x"], "Invalid value 'x' for --baseline."),
        (["--by", "delegate"], "has only one delegate: cpu."),
        (["--by", "colour"], "Invalid value 'colour' for --by."),
        (["--allow", "all"], "Invalid value 'all' for --allow."),
        (["--fail-on", "x"], "Invalid value 'x' for --fail-on."),
        (["--format", "x"], "Invalid value 'x' for --format."),
    ],
)
def test_what_cannot_be_compared_is_said_in_one_sentence(store, compare, arguments, sentence):
    for sweep_id in (BEFORE, AFTER):
        begin(store, sweep_id)
        for variant in VARIANTS:
            add(store, sweep_id, [1000.0], variant)
    finished = compare(*arguments)
    assert finished.returncode == 2
    assert sentence in " ".join(finished.stderr.split())


def test_no_results_at_all(compare, tmp_path):
    finished = compare(results=tmp_path / "none")
    assert finished.returncode == 3
    assert "There are no results in" in finished.stderr
