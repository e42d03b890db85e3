"""Prepare a phone for measuring, and restore it even after a failure (promise H4)."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from types import TracebackType
from typing import Any, Self

from harness.devices.adb.recovery import await_commands
from harness.devices.device import Device
from harness.devices.preparation.change_note import ChangeNote, KnobChange
from harness.devices.preparation.knob import Knob, KnobRefusedError, State
from harness.devices.preparation.knobs import EVERY_KNOB
from harness.errors import DeviceError, Failure

_READ_BACKS = 10
_PAUSE_S = 0.2
"""The pause between two reads of a knob that has not changed yet; a screen takes a moment."""


class KnobOutcome(StrEnum):
    """The outcome of setting a knob."""

    SET = "set"
    ALREADY = "already so"
    UNAVAILABLE = "unavailable"
    REFUSED = "refused"
    """The phone offers the knob, but refused or ignored the change."""


class Confirmation(StrEnum):
    """The evidence that a knob has the state that was set."""

    READ_BACK = "read back"
    EXIT_CODE = "exit code"
    """The phone cannot be asked; its command succeeded."""
    DIFFERS = "differs"
    """The phone reports another state."""
    FAILED = "failed"
    """The phone refused, or did not answer."""

    @property
    def sure(self) -> bool:
        """Return True if the change counts as done."""
        return self in (Confirmation.READ_BACK, Confirmation.EXIT_CODE)


@dataclass(frozen=True)
class KnobRecord:
    """How one knob was set and restored."""

    name: str
    label: str
    outcome: KnobOutcome
    reason: str = ""
    """Why it was not set, or not restored, as a sentence."""
    earlier: State | None = None
    set_to: State | None = None
    confirmed: Confirmation | None = None
    restored: Confirmation | None = None
    """None if it is not restored yet, or if there was nothing to restore."""

    @property
    def given_back(self) -> bool:
        """Return True if the phone confirmed its earlier state."""
        return self.restored is not None and self.restored.sure

    @property
    def in_force(self) -> bool:
        """Return True if the phone is measured under this setting."""
        return self.outcome in (KnobOutcome.SET, KnobOutcome.ALREADY)


class Preparation:
    """Sets knobs for a `with` block and restores them. Entering first restores the changes of a killed harness.

    A knob that fails raises nothing; it is recorded and passed to `report`. Only a phone that does not answer during
    the preparation raises `DeviceError`; changes until then are restored if possible.
    """

    def __init__(
        self,
        device: Device,
        knobs: Sequence[Knob],
        *,
        report: Callable[[str], None] = lambda _: None,
        sleep: Callable[[float], object] = time.sleep,
        wait_until_back: Callable[[Failure], bool] = lambda _: False,
    ) -> None:
        """`wait_until_back` waits for a phone that went away during restoring; it returns True if the phone answers."""
        self._device = device
        self._knobs = knobs
        self._report = report
        self._sleep = sleep
        self._wait_until_back = wait_until_back
        self._note = ChangeNote(device)
        self._changes: list[KnobChange] = []
        self.records: list[KnobRecord] = []
        self.found: list[KnobRecord] = []
        """Changes that an earlier harness left, and how they were restored."""

    @property
    def labels(self) -> list[str]:
        """The settings under which the phone is measured; only results with equal labels are compared."""
        return sorted(record.label for record in self.records if record.in_force)

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {"knobs": [asdict(record) for record in self.records], "found": [asdict(one) for one in self.found]}

    def __enter__(self) -> Self:
        self.found = restore_leftovers(self._device, report=self._report, sleep=self._sleep)
        if self.found:
            self._changes = self._note.read()  # what could not be restored keeps how it stood at first
        try:
            # All are read before any is turned: fixed-performance mode may move the clocks that are locked after it.
            self.records = [self._read(knob) for knob in self._knobs]
            for index, knob in enumerate(self._knobs):
                self.records[index] = self._turn(knob, self.records[index])
        except BaseException:
            self._give_back()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._give_back()

    def renew(self) -> None:
        """Set again the knobs that a phone lost in the meantime, such as by a reboot. Raises `DeviceError`."""
        by_name = {knob.name: knob for knob in self._knobs}
        for index, record in enumerate(self.records):
            if record.outcome is not KnobOutcome.SET or record.set_to is None:
                continue
            knob = by_name[record.name]
            if knob.readable and _reads(knob, self._device) == record.set_to:
                continue
            confirmed, reason = self._write(knob, record.set_to)
            self.records[index] = replace(record, confirmed=confirmed, reason=reason)

    def _read(self, knob: Knob) -> KnobRecord:
        record = KnobRecord(knob.name, knob.label, KnobOutcome.UNAVAILABLE)
        if reason := knob.unavailable_because(self._device):
            return replace(record, reason=reason)
        try:
            return replace(record, earlier=knob.read(self._device))
        except KnobRefusedError as error:
            return replace(record, reason=str(error))

    def _turn(self, knob: Knob, record: KnobRecord) -> KnobRecord:
        """Turn a knob that the phone offers. `earlier` is how it stood before any was turned."""
        if record.earlier is None:
            return record
        earlier, wanted = record.earlier, knob.wanted(self._device)
        if knob.readable and _reads(knob, self._device) == wanted and earlier == wanted:
            return replace(record, outcome=KnobOutcome.ALREADY, confirmed=Confirmation.READ_BACK)
        if knob.name not in (change.knob for change in self._changes):
            self._changes.append(KnobChange(knob.name, earlier))
        self._note.write(self._changes)  # before the change, so that nothing is ever changed that is not written down
        confirmed, reason = self._write(knob, wanted)
        if confirmed.sure:
            return replace(record, outcome=KnobOutcome.SET, set_to=wanted, confirmed=confirmed)
        if not knob.readable or _reads(knob, self._device) == earlier:  # nothing was changed
            self._changes = [change for change in self._changes if change.knob != knob.name]
            self._note.write(self._changes)
        return replace(record, outcome=KnobOutcome.REFUSED, confirmed=confirmed, reason=reason)

    def _write(self, knob: Knob, state: State) -> tuple[Confirmation, str]:
        return _write_and_read_back(knob, self._device, state, self._sleep)

    def _give_back(self) -> None:
        """Restore in the opposite order; a phone that is gone keeps its note, and is restored at the next start."""
        by_name = {knob.name: knob for knob in self._knobs}
        restored = _restore(
            self._device, self._note, self._changes, by_name, self._report, self._sleep, self._wait_until_back
        )
        self._changes = []
        for index, record in enumerate(self.records):
            if outcome := restored.get(record.name):
                confirmed, reason = outcome
                self.records[index] = replace(record, restored=confirmed, reason=reason or record.reason)


def restore_leftovers(
    device: Device,
    *,
    report: Callable[[str], None] = lambda _: None,
    sleep: Callable[[float], object] = time.sleep,
) -> list[KnobRecord]:
    """Give back what a harness that was killed, or lost the phone, left changed there. Raises `DeviceError`."""
    note = ChangeNote(device)
    changes = note.read()
    if not changes:
        return []
    names = ", ".join(change.knob for change in changes)
    report(f"{device.serial}: an earlier harness ended without giving back {names}; restoring it now.")
    knobs = {knob.name: knob for knob in EVERY_KNOB}
    restored = _restore(device, note, changes, knobs, report, sleep)
    return [
        KnobRecord(
            change.knob,
            change.knob,
            KnobOutcome.SET,
            reason=restored[change.knob][1],
            earlier=change.earlier,
            restored=restored[change.knob][0],
        )
        for change in changes
    ]


def _restore(
    device: Device,
    note: ChangeNote,
    changes: Sequence[KnobChange],
    knobs: dict[str, Knob],
    report: Callable[[str], None],
    sleep: Callable[[float], object],
    wait_until_back: Callable[[Failure], bool] = lambda _: False,
) -> dict[str, tuple[Confirmation, str]]:
    """Restore the last change first, and strike off the note what is sure to be restored; tell what is not."""
    if changes:
        await_commands(device)
    left = list(changes)
    outcomes: dict[str, tuple[Confirmation, str]] = {}
    for change in reversed(changes):
        outcome = outcomes[change.knob] = _restore_one(device, change, knobs.get(change.knob), sleep, wait_until_back)
        if not outcome[0].sure:
            report(
                f"{device.serial}: {change.knob} was not given back: {outcome[1]} It is tried again at the next start, "
                f"or by `harness devices --restore {device.serial}`."
            )
            continue
        left.remove(change)
        try:
            note.write(left)
        except DeviceError as error:
            report(f"{device.serial}: {change.knob} was given back, and will be once more at the next start: {error}")
    return outcomes


def _restore_one(
    device: Device,
    change: KnobChange,
    knob: Knob | None,
    sleep: Callable[[float], object],
    wait_until_back: Callable[[Failure], bool],
) -> tuple[Confirmation, str]:
    """Turn one knob back, again if the phone went away meanwhile and is back."""
    if knob is None:
        return Confirmation.FAILED, "This harness has no such knob; a restart of the phone undoes most changes."
    while True:
        try:
            return _write_and_read_back(knob, device, change.earlier, sleep)
        except DeviceError as error:
            if not wait_until_back(error.failure):
                return Confirmation.FAILED, str(error)


def _write_and_read_back(
    knob: Knob, device: Device, state: State, sleep: Callable[[float], object]
) -> tuple[Confirmation, str]:
    """Turn a knob and ask the phone whether it did. Raises `DeviceError`; a refusal is an outcome."""
    try:
        knob.restore(device, state)
    except KnobRefusedError as error:
        return Confirmation.FAILED, str(error)
    if not knob.readable:
        return Confirmation.EXIT_CODE, ""
    for look in range(_READ_BACKS):
        if look:
            sleep(_PAUSE_S)
        if _reads(knob, device) == state:
            return Confirmation.READ_BACK, ""
    return Confirmation.DIFFERS, f"It reads {_shown(_reads(knob, device))} instead of {_shown(state)}."


def _reads(knob: Knob, device: Device) -> State | None:
    try:
        return knob.read(device)
    except KnobRefusedError:
        return None


def _shown(state: State | None) -> str:
    """Name the distinct values of a state: eight cores with one governor are one word."""
    return "nothing" if state is None else "/".join(dict.fromkeys(state.values())) or "nothing"
