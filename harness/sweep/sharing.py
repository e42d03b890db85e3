"""Who measures which cell: each phone all of its cells, or any phone of a model one."""

from __future__ import annotations

import math
import threading
from collections.abc import Generator, Sequence
from dataclasses import replace
from typing import Protocol

from harness.devices.device import DeviceFacts
from harness.spec.sweep import MeasurementSettings, SweepSpec
from harness.store.records import Cell
from harness.store.store import Store
from harness.sweep.resume import read_state

Claims = Generator[Sequence[Cell], None, None]
"""Cells, share after share; those of one share are interleaved. To be closed: what was not finished goes to others."""
_WAKE_EVERY_S = 0.5
_CLAIMS_EACH = 2
"""The open cells are divided by this many per phone: larger means smaller claims."""


class Scheduling(Protocol):
    """Asked by every device of a sweep, each in its own thread."""

    def claims(self, facts: DeviceFacts, cells: Sequence[Cell], measurement: MeasurementSettings) -> Claims:
        """Return which of its cells a device measures, as `measurement` says."""
        ...


class EachDevice:
    """`per = "device"`: every phone measures every cell."""

    def claims(self, facts: DeviceFacts, cells: Sequence[Cell], measurement: MeasurementSettings) -> Claims:
        """Return all at once."""
        yield cells


class AnyOfModel:
    """`per = "model"`: any phone of a model serves a cell, so that equal phones share the work.

    Guided self-scheduling (Polychronopoulos and Kuck 1987): a free phone claims part of the open cells, so that fast
    phones do more, and shares get smaller towards the end, so that all end together. What a lost phone had begun is
    taken by others, unless it is back before. A phone without work waits until nothing is under way that might be lost.
    """

    def __init__(
        self, store: Store, sweep_id: str, devices: int, stop: threading.Event, evidence_sha256: str | None = None
    ) -> None:
        """`devices` is how many may share the work; more than there are make smaller shares.

        `evidence_sha256` is what outputs are checked with; None: not at all.
        """
        self._store = store
        self._sweep_id = sweep_id
        self._devices = devices
        self._stop = stop
        self._evidence_sha256 = evidence_sha256
        self._changed = threading.Condition()
        self._known: set[str] = set()
        self._open: dict[str, str | None] = {}
        """Work by its name, independent of the phone, and the serial that began it."""
        self._under_way: set[str] = set()

    def claims(self, facts: DeviceFacts, cells: Sequence[Cell], measurement: MeasurementSettings) -> Claims:
        """Return shares until nothing is open or under way of what this device could do."""
        model = _model(facts.serial, facts.maker, facts.model)
        ordered = sorted(cells, key=lambda cell: (cell.delegate, cell.threads))  # what is compared stays together
        own = {_work(cell, model): cell for cell in ordered}
        self._take_in(own, model, measurement)
        while claim := self._take(own, facts.serial):
            try:
                yield [own[work] for work in claim]
            except GeneratorExit:
                self._give_back(claim, facts.serial)
                raise
            self._finish(claim)

    def _take_in(self, own: dict[str, Cell], model: str, measurement: MeasurementSettings) -> None:
        """Make work known; what a sweep that is resumed has finished is not open."""
        with self._changed:
            if new := [work for work in own if work not in self._known]:
                begun, finished = self._stored(model, measurement)
                self._open |= {work: begun.get(work) for work in new if work not in finished}
                self._known |= set(new)

    def _take(self, own: dict[str, Cell], serial: str) -> list[str]:
        with self._changed:
            while not self._stop.is_set():
                mine = [work for work in own if work in self._open]
                if mine:
                    mine.sort(key=lambda work: (self._open[work] != serial, self._open[work] is not None))
                    claim = mine[: math.ceil(len(mine) / (_CLAIMS_EACH * self._devices))]
                    for work in claim:
                        del self._open[work]
                    self._under_way.update(claim)
                    return claim
                if self._under_way.isdisjoint(own):
                    return []
                self._changed.wait(_WAKE_EVERY_S)
        return []

    def _finish(self, claim: Sequence[str]) -> None:
        with self._changed:
            self._under_way.difference_update(claim)
            self._changed.notify_all()

    def _give_back(self, claim: Sequence[str], serial: str) -> None:
        with self._changed:
            self._under_way.difference_update(claim)
            self._open |= dict.fromkeys(claim, serial)
            self._changed.notify_all()

    def _stored(self, model: str, measurement: MeasurementSettings) -> tuple[dict[str, str], set[str]]:
        """Return the work that is stored: who began it, and what is finished."""
        begun: dict[str, str] = {}
        finished: set[str] = set()
        models = {
            device.serial: _model(device.serial, device.facts["maker"], device.facts["model"])
            for device in self._store.devices(self._sweep_id)
            if device.facts
        }
        cells: dict[str, list[Cell]] = {}
        for stored in self._store.cells(self._sweep_id):
            if models.get(stored.serial) == model:
                cells.setdefault(stored.serial, []).append(stored.cell)
        for serial, own in cells.items():
            state = read_state(self._store, self._sweep_id, own, measurement, evidence_sha256=self._evidence_sha256)
            begun |= {_work(cell, model): serial for cell in own}
            finished |= {_work(cell, model) for cell in own if cell.key in state.finished}
        return begun, finished


def _model(serial: str, maker: str | None, model: str | None) -> str:
    """Return what equal phones have in common; a phone that tells no model is like no other."""
    return f"{maker} {model}" if model else serial


def _work(cell: Cell, model: str) -> str:
    """Return what a cell is, whichever phone of the model measures it."""
    return f"{model} {replace(cell, serial='').key}"


def scheduling_of(
    spec: SweepSpec,
    store: Store,
    sweep_id: str,
    *,
    devices: int,
    stop: threading.Event,
    evidence_sha256: str | None = None,
) -> Scheduling:
    """Return what a spec asks for with `per`."""
    return AnyOfModel(store, sweep_id, devices, stop, evidence_sha256) if spec.per == "model" else EachDevice()
