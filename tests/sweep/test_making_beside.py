"""Variants are made while phones work: a phone lays the ground of those that are ready, a computer's cores are spared.

The tool is a script. A virtual phone computes on this computer; where a test needs a phone that does not, its kind is
told to be another, and nothing else is.
"""

import threading
import time
from collections import Counter

import pytest
from results_examples import card
from scripted_sweep import TOOL_WITH_CACHE, ScriptedSweep

from harness.devices.adb.discovery import open_device
from harness.devices.device import DeviceKind
from harness.progress import DeviceEvent
from harness.sweep.variants import VariantQueue
from harness.tflite.variant import Variant

pytestmark = pytest.mark.virtual_phone

GROUND = {"init_cold", "init_warm", "warm_up"}


@pytest.fixture
def device(start_phone):
    return open_device(start_phone().serial)


@pytest.fixture
def phone_of_its_own(monkeypatch):
    """Let the virtual phone pass for a phone that computes by itself."""
    monkeypatch.setattr("harness.devices.facts.device_kind", lambda _properties: DeviceKind.PHONE)


class SweepInTheMaking:
    """A sweep of two variants of which the second is made by the test."""

    def __init__(self, folder, **spec):
        measurement = {"invocations": 5, "init_pairs": 1, "warmup_max_s": 0.5}
        self.sweep = ScriptedSweep(folder, TOOL_WITH_CACHE, measurement=measurement, **spec)
        self.sweep.supply = VariantQueue(self.sweep.variants, is_open=True)
        self._second = Variant(self.sweep.variants[0].path, card("pruned"))

    def run_while(self, device, *steps):
        """Run the sweep on a device while the steps are done one after the other; raise what stopped either."""
        problems = []

        def run():
            try:
                self.sweep.run(device)
            except Exception as problem:  # told below
                problems.append(problem)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        try:
            for step in steps:
                step()
        except BaseException:
            self.sweep.stop.set()
            self.sweep.supply.close(is_complete=False)
            raise
        finally:
            thread.join(60)
        assert not problems, problems
        assert not thread.is_alive()

    def finish_making(self):
        """Hand over the second variant, and tell that it is the last."""
        self.sweep.supply.add(self._second)
        self.sweep.supply.close(is_complete=True)

    def stop(self):
        """Do what Ctrl-C does."""
        self.sweep.stop.set()
        self.sweep.supply.close(is_complete=False)

    def await_that(self, holds):
        """Wait until something holds of the rows that are stored."""
        deadline = time.monotonic() + 30
        while not holds(self.rows):
            assert time.monotonic() < deadline, self.rows
            time.sleep(0.05)

    def await_waiting(self):
        """Wait until the device says that it waits."""
        self.await_that(lambda _rows: self.sweep.notebook.statuses and self.news[-1] is DeviceEvent.WAITING)

    def await_ground(self):
        """Wait until the first variant has warmed up, and the device waits for the second."""
        self.await_that(lambda rows: ("int8", "warm_up", 0) in rows)
        self.await_waiting()

    @property
    def news(self):
        """All that was told of the device."""
        return [status.news for status in self.sweep.notebook.statuses]

    @property
    def rows(self):
        """Variant, pass and index of every stored process, in the order of time."""
        names = {cell["key"]: cell["variant_name"] for cell in self.sweep.cells}
        return [(names[row["cell_key"]], row["purpose"], row["invocation_index"]) for row in self.sweep.invocations]


def test_a_phone_lays_the_ground_of_what_is_ready_and_all_variants_take_turns_afterwards(
    device, tmp_path, phone_of_its_own
):
    making = SweepInTheMaking(tmp_path)
    making.run_while(
        device,
        making.await_ground,
        making.finish_making,
    )
    rows = making.rows
    assert rows[:3] == [("int8", "init_cold", 0), ("int8", "init_warm", 0), ("int8", "warm_up", 0)]
    assert rows[3:6] == [("pruned", "init_cold", 0), ("pruned", "init_warm", 0), ("pruned", "warm_up", 0)]
    blocks = [sorted(rows[start : start + 2]) for start in range(6, 16, 2)]
    assert blocks == [[("int8", "latency", index), ("pruned", "latency", index)] for index in range(5)]
    assert len(rows) == 16  # nothing was done twice
    assert making.sweep.notebook.notes == []  # nothing was there before, so nothing is told of it
    assert making.news[-1] is DeviceEvent.ENDED


def test_a_device_that_shares_a_computer_measures_nothing_while_it_makes_variants(device, tmp_path):
    making = SweepInTheMaking(tmp_path)
    seen = []
    making.run_while(
        device, making.await_waiting, lambda: time.sleep(1), lambda: seen.append(making.rows), making.finish_making
    )
    assert seen == [[]]
    assert Counter(row[:2] for row in making.rows)["pruned", "latency"] == 5


def test_phones_that_share_the_work_do_not_begin_before_it_is_known_who_does_what(device, tmp_path, phone_of_its_own):
    making = SweepInTheMaking(tmp_path, per="model")
    seen = []
    making.run_while(
        device, making.await_waiting, lambda: time.sleep(1), lambda: seen.append(making.rows), making.finish_making
    )
    assert seen == [[]]
    assert len(making.rows) == 16


def test_a_sweep_that_is_stopped_in_the_making_is_carried_on_without_repeating_anything(
    device, tmp_path, phone_of_its_own
):
    making = SweepInTheMaking(tmp_path)
    making.run_while(
        device,
        making.await_ground,
        making.stop,
    )
    before = making.rows
    assert {purpose for _, purpose, _ in before} == GROUND
    assert [cell["variant_name"] for cell in making.sweep.cells] == ["int8"]

    making.sweep.stop = threading.Event()
    making.sweep.supply = VariantQueue(making.sweep.variants, is_open=True)
    making.run_while(device, making.await_waiting, making.finish_making)
    rows = making.rows
    assert rows[: len(before)] == before
    assert len(rows) == len(set(rows)) == 16
    (told,) = making.sweep.notebook.notes
    assert "0 of 2 cells are complete, 0 of 10 processes done" in told


def test_what_a_phone_refuses_of_a_ready_variant_is_told_once(device, tmp_path, phone_of_its_own):
    making = SweepInTheMaking(tmp_path, threads=[1, 64])
    making.run_while(
        device,
        making.await_ground,
        making.finish_making,
    )
    refused = [row for row in making.sweep.invocations if row["failure_class"]]
    assert [row["failure_class"] for row in refused] == ["cores_unavailable"] * 2  # one a variant
    assert len(making.rows) == 18
