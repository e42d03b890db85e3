"""The phones of one host, as its worker announces them to the lab."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from pydantic import TypeAdapter

from harness.devices.adb.discovery import identities, ready_devices
from harness.devices.device_ref import label_of
from harness.devices.lease import is_held
from harness.errors import HarnessError
from harness.lab.engine import version

LOOK_EVERY_S = 2.0
_ENDING_LOOK_S = 0.2


@dataclass(frozen=True)
class LabPhoneInfo:
    """A phone that has started and can be measured."""

    name: str
    """What its own host calls it."""
    identity: str
    """Its identity, the same under every name."""
    is_free: bool
    """True if no process measures it."""


@dataclass(frozen=True)
class Announcement:
    """What a worker announces about its host."""

    version: str
    """Of harness."""
    phones: tuple[LabPhoneInfo, ...] = ()
    problem: str = ""
    """Why there are no phones, such as an adb server that does not start."""

    def to_message(self) -> dict[str, object]:
        """Return it as plain values."""
        plain: dict[str, object] = _ANNOUNCEMENT.dump_python(self, mode="json")
        return plain

    @classmethod
    def from_message(cls, message: object) -> Announcement:
        """Read plain values. Raises pydantic's `ValidationError`, such as for those of another version."""
        return _ANNOUNCEMENT.validate_python(message)


_ANNOUNCEMENT = TypeAdapter(Announcement)


@dataclass
class PhoneRegistry:
    """Looks at the adb server time after time; a phone is asked once when it comes, and never while it is measured."""

    announcement: Announcement = field(default_factory=lambda: Announcement(version()))
    closing: threading.Event = field(default_factory=threading.Event)
    """Set when this host leaves the lab: running work is finished."""
    _identities: dict[str, str] = field(default_factory=dict)
    _taken: dict[str, threading.Event] = field(default_factory=dict)
    """Phones that jobs of this host measure, each with the event that stops its job."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def watch(self) -> None:
        """Keep the announcement current, in a thread of its own."""
        threading.Thread(target=self._watch, daemon=True, name="phone-registry").start()

    def _watch(self) -> None:
        while not self.closing.is_set():
            self.look()
            self.closing.wait(LOOK_EVERY_S)

    def look(self) -> None:
        """Look once."""
        try:
            ready = ready_devices()
            free = {name for name in ready if self._is_free(name)}
            new = [name for name in ready if name in free and name not in self._identities]
            known = {name: identity for name, identity in self._identities.items() if name in ready}
            self._identities = known | identities(new)
            phones = [LabPhoneInfo(name, identity, name in free) for name, identity in self._identities.items()]
            self.announcement = Announcement(version(), tuple(phones))
        except HarnessError as error:  # the adb server is away: asked again at the next look
            self._identities = {}
            self.announcement = Announcement(version(), problem=str(error))

    def _is_free(self, name: str) -> bool:
        with self._lock:  # asking for a lease takes it for a moment, in which no job of our own may ask
            return name not in self._taken and not is_held(label_of(name))

    @contextmanager
    def taking(self, name: str, stop: threading.Event) -> Iterator[None]:
        """Mark a phone as measured by a job of this host, until it ends; `stop` is what stops the job.

        Another job that has the phone and was stopped is waited for: it finishes what is under way. One that goes on
        keeps the phone's lease, which then tells so.
        """
        while (other := self._taken.get(name)) and other.is_set() and not stop.wait(_ENDING_LOOK_S):
            pass
        with self._lock:
            self._taken.setdefault(name, stop)
        try:
            yield
        finally:
            with self._lock:
                if self._taken.get(name) is stop:
                    del self._taken[name]

    @property
    def is_busy(self) -> bool:
        """Return True if any job of this host is running."""
        return bool(self._taken)


def host_name() -> str:
    """Return what this computer is called in the lab, unless it is given a name."""
    return socket.gethostname()
