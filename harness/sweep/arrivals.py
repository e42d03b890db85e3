"""Phones that come, or come back, while a sweep runs."""

from __future__ import annotations

from collections.abc import Collection

from harness.devices.discovery import identities, ready_serials
from harness.devices.lease import is_held
from harness.devices.recovery import is_back
from harness.errors import DeviceError, NothingToRunOnError


class PhoneArrivals:
    """What the adb server tells, asked so that no phone that is being measured is disturbed."""

    def __init__(self, *, takes_new: bool) -> None:
        """`takes_new`: whether the sweep is of every attached phone, and not of those that were named."""
        self._takes_new = takes_new
        self._twins: set[str] = set()
        """Other names of phones that are known already, such as by cable and by network."""

    def returned(self, parked: Collection[str]) -> list[str]:
        """Return which phones answer again; to those on the network it is connected anew."""
        return [serial for serial in parked if is_back(serial) and not is_held(serial)]

    def newcomers(self, known: Collection[str]) -> list[str]:
        """Return phones that have started, that nobody else measures, and that are not known under another name."""
        if not self._takes_new:
            return []
        try:
            fresh = [serial for serial in ready_serials() if serial not in {*known, *self._twins}]
            booted = identities([serial for serial in fresh if not is_held(serial)])
            taken = set(identities(known).values()) if booted else set()
        except (DeviceError, NothingToRunOnError):  # the server is away for a moment, and asked again at the next look
            return []
        self._twins |= {serial for serial, identity in booted.items() if identity in taken}
        return [serial for serial in booted if serial not in self._twins]
