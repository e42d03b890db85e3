"""Phones that come, or come back, while a sweep runs."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from harness.devices.adb.discovery import identities, ready_devices
from harness.devices.adb.recovery import are_back
from harness.devices.device_ref import AdbServer, DeviceName, label_of, server_at
from harness.devices.lease import is_held
from harness.errors import DeviceError, NothingToRunOnError


class PhoneArrivals:
    """What the adb servers tell, asked so that no phone that is being measured is disturbed."""

    def __init__(self, *, takes_new: bool, hosts: Sequence[str] = ()) -> None:
        """`takes_new`: whether the sweep is of every attached phone, and not of those that were named.

        `hosts` are the adb servers of the sweep; without any, it is the environment's.
        """
        self._takes_new = takes_new
        self._servers = [server_at(host) for host in hosts] or [None]
        self._twins: set[str] = set()
        """Other names of phones that are known already, such as by cable and by network."""

    def returned(self, parked: Collection[str]) -> list[str]:
        """Return which phones answer again; to those on the network it is connected anew."""
        return are_back([name for name in parked if not is_held(label_of(name))])

    def newcomers(self, known: Collection[str]) -> list[str]:
        """Return phones that have started, that nobody else measures, and that are not known under another name."""
        if not self._takes_new:
            return []
        ready = [name for server in self._servers for name in _ready(server)]
        fresh = [name for name in ready if name not in {*known, *self._twins}]
        booted = identities([name for name in fresh if not is_held(label_of(name))])
        taken = set(identities(known).values()) | {label_of(name) for name in known} if booted else set()
        new = []
        for name, identity in booted.items():
            if taken.isdisjoint(marks := {identity, label_of(name)}):
                new.append(name)
                taken |= marks
            else:
                self._twins.add(name)
        return new

    def unreached(self, names: Collection[str]) -> list[str]:
        """Return the hosts that do not answer and of which none of the named phones is: what they hold is not known."""
        took_part = {DeviceName.parse(name).server for name in names}
        return [str(server) for server in self._servers
                if server is not None and server not in took_part and not _answers(server)]  # fmt: skip


def _ready(server: AdbServer | None) -> list[str]:
    """Return what a server holds ready; one that is away for a moment is asked again at the next look."""
    try:
        return ready_devices(server)
    except (DeviceError, NothingToRunOnError):
        return []


def _answers(server: AdbServer) -> bool:
    try:
        ready_devices(server)
    except (DeviceError, NothingToRunOnError):
        return False
    return True
