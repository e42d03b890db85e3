"""What went wrong with each phone of a sweep, and when it was too much: then the phone is left out, with the reason."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from harness.errors import Failure
from harness.sweep.retry import RULES

MOST_RESTARTS = 1
"""So often a phone is restarted in one sweep: what this does not repair, another does not either."""


@dataclass(frozen=True)
class DeviceFault:
    """One time that a phone was away, did not answer, or took what was sent for something else."""

    at: datetime
    failure: Failure


@dataclass(frozen=True)
class PhoneRecord:
    """All that went wrong with one phone, to be carried to another process."""

    faults: tuple[DeviceFault, ...] = ()
    restarts: tuple[DeviceFault, ...] = ()


class FaultLog:
    """The faults of every phone of one sweep. Called from several threads; no phone's faults touch another's."""

    def __init__(self, most_faults: int, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        """Leave out a phone with more than `most_faults`."""
        self._most_faults = most_faults
        self._now = now
        self._lock = threading.Lock()
        self._faults: dict[str, list[DeviceFault]] = {}
        self._restarts: dict[str, list[DeviceFault]] = {}

    def note(self, serial: str, failure: Failure) -> None:
        """Write down a fault; the very same one, met again on its way up, is one fault."""
        with self._lock:
            faults = self._faults.setdefault(serial, [])
            if not faults or faults[-1].failure is not failure:
                faults.append(DeviceFault(self._now(), failure))

    def judge(self, serial: str, failure: Failure) -> Failure | None:
        """Write down what ended the work on a phone, if it is a fault; then return what `quarantine` does."""
        if self.quarantine(serial) is None and RULES[failure.failure_class].is_fault:
            self.note(serial, failure)
        return self.quarantine(serial)

    def quarantine(self, serial: str) -> Failure | None:
        """Return why a phone is left out, as the failure that is stored for it; None for one that may go on."""
        with self._lock:
            counted = self._since_restart(serial)
        if len(counted) <= self._most_faults:
            return None
        last = counted[-1].failure
        return Failure(
            last.failure_class,
            f"{serial} is left out of this sweep after {_number(counted)}: {_told(counted)}.",
            "\n".join(
                f"{fault.at:%Y-%m-%d %H:%M:%S} UTC {fault.failure.failure_class}: {fault.failure.message}"
                for fault in counted
            ),
        )

    def may_restart(self, serial: str) -> bool:
        """Return True if a phone was restarted fewer times than is allowed."""
        with self._lock:
            return len(self._restarts.get(serial, [])) < MOST_RESTARTS

    def restarted(self, serial: str, reason: Failure) -> None:
        """Write down that a phone is restarted now, for this reason; its faults until now count no more."""
        with self._lock:
            self._restarts.setdefault(serial, []).append(DeviceFault(self._now(), reason))

    def record_of(self, serial: str) -> PhoneRecord:
        """Return what is written of a phone."""
        with self._lock:
            return PhoneRecord(tuple(self._faults.get(serial, ())), tuple(self._restarts.get(serial, ())))

    def take_over(self, serial: str, record: PhoneRecord) -> None:
        """Write what another process wrote of a phone in place of what is here."""
        with self._lock:
            self._faults[serial], self._restarts[serial] = list(record.faults), list(record.restarts)

    def as_dict(self, serial: str) -> dict[str, Any]:
        """Return plain values for JSON."""
        with self._lock:
            return {"faults": _plain(self._faults.get(serial, [])), "restarts": _plain(self._restarts.get(serial, []))}

    def _since_restart(self, serial: str) -> list[DeviceFault]:
        restarts = self._restarts.get(serial, [])
        return [fault for fault in self._faults.get(serial, []) if not restarts or fault.at > restarts[-1].at]


def _number(faults: list[DeviceFault]) -> str:
    return "1 fault" if len(faults) == 1 else f"{len(faults)} faults"


def _told(faults: list[DeviceFault]) -> str:
    """Say which faults, how often and when, the most frequent kind first."""
    times: dict[str, list[str]] = {}
    for fault in faults:
        times.setdefault(fault.failure.failure_class, []).append(f"{fault.at:%H:%M:%S}")
    kinds = sorted(times.items(), key=lambda kind: -len(kind[1]))
    return "; ".join(
        f"{name} {len(at)} times (at {', '.join(at)} UTC)" if len(at) > 1 else f"{name} (at {at[0]} UTC)"
        for name, at in kinds
    )


def _plain(faults: list[DeviceFault]) -> list[dict[str, str]]:
    return [
        {
            "at_utc": fault.at.isoformat(timespec="seconds"),
            "failure_class": str(fault.failure.failure_class),
            "message": fault.failure.message,
        }
        for fault in faults
    ]
