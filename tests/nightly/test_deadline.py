"""A sweep that stops by itself: within one process, and with its cells in groups."""

from dataclasses import replace

import pytest
from results_examples import SWEEP, cell
from scripted_sweep import ScriptedSweep

from harness.devices.adb.discovery import open_device
from harness.spec.sweep import PRESETS, MeasurementSettings
from harness.sweep.context import Deadline
from harness.sweep.device.measure import measure_cells
from harness.sweep.plan import at_once, plan_groups, plan_invocations

MEASUREMENT = MeasurementSettings(**PRESETS["quick"])
CELLS = [cell(name) for name in ("a", "b", "c")]


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def test_it_is_set_by_the_clock_or_by_hand():
    clock = Clock()
    deadline = Deadline(10.0, clock=clock)
    assert not deadline.is_set()
    assert deadline.left_s == 10
    clock.now = 10.0
    assert deadline.is_set()
    assert not deadline.interrupted
    by_hand = Deadline(clock=clock)
    assert by_hand.left_s == float("inf")
    by_hand.set()
    assert by_hand.is_set()
    assert by_hand.interrupted


def test_waiting_ends_when_it_is_time():
    deadline = Deadline(10.0, clock=lambda: 10.0)
    assert deadline.wait(3600)
    assert deadline.wait()
    assert not Deadline().wait(0.001)


def test_one_wave_is_the_plan_of_every_sweep():
    (wave,) = plan_groups(at_once(CELLS), MEASUREMENT, seed=3)
    assert wave.invocations == plan_invocations(CELLS, MEASUREMENT, seed=3)


def test_groups_hold_every_process_once_and_share_no_block():
    groups = plan_groups([CELLS[:2], CELLS[2:]], MEASUREMENT, seed=3)
    blocks = [{place.block for place in group.invocations} for group in groups]
    assert not blocks[0] & blocks[1]
    places = [(place.cell.key, place.purpose, place.index) for group in groups for place in group.invocations]
    whole = plan_invocations(CELLS, MEASUREMENT, seed=3)
    assert sorted(places) == sorted((place.cell.key, place.purpose, place.index) for place in whole)


@pytest.mark.virtual_phone
@pytest.mark.parametrize("processes", [0, 1, 3, 6, 9])
def test_nothing_starts_after_the_deadline_in_any_pass(start_phone, tmp_path, processes):
    device = open_device(start_phone().serial)
    sweep = ScriptedSweep(
        tmp_path,
        delegates=["cpu", "cpu-builtin"],
        measurement={"init_pairs": 1, "warmup_max_s": 2, "warmup_min_s": 0.25},
    )
    sweep.stop = Deadline(float(processes), clock=lambda: float(len(sweep.invocations)))
    sweep.run(device)
    assert len(sweep.invocations) == processes
    assert len(sweep.cells) == 2


@pytest.mark.virtual_phone
def test_a_wave_is_measured_whole_before_the_next_begins(start_phone, tmp_path):
    device = open_device(start_phone().serial)
    sweep = ScriptedSweep(tmp_path, delegates=["cpu", "cpu-builtin"], measurement={"memory_invocations": 1})
    context = replace(sweep._context(), groups=lambda cells: [[one] for one in reversed(cells)])
    measure_cells(context, device)
    delegate = {one["key"]: one["delegate"] for one in sweep.cells}
    assert [delegate[row["cell_key"]] for row in sweep.invocations] == ["cpu-builtin"] * 6 + ["cpu"] * 6
    blocks = [row["block"] for row in sweep.invocations]
    assert len(set(blocks)) == 12
    assert sweep.store.done(SWEEP) == {
        (row["cell_key"], row["purpose"], row["invocation_index"]) for row in sweep.invocations
    }
