"""Where the phones of a sweep are: who comes and goes there, and how one of them is measured."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol

from harness.benchmark.registry import ToolRegistry
from harness.sweep.context import SweepContext
from harness.sweep.device.run import measure_device
from harness.sweep.device_pool import NewDevices
from harness.sweep.targets import DeviceCheck, NewPhones, Targets, check_devices, choose_targets


class DeviceSource(Protocol):
    """Asked by every device of a sweep, each in its own thread."""

    def targets(self, asked: Sequence[str]) -> Targets:
        """Return the devices that were asked for, else all. Raises `MissingPrerequisiteError` without any."""
        ...

    def check(self, names: Sequence[str], registry: ToolRegistry) -> list[DeviceCheck]:
        """Look whether each device can be measured, with the tools that are registered there."""
        ...

    def arrivals(self, *, takes_new: bool) -> NewDevices:
        """Return who tells of phones that come; `takes_new`: whether also those that nobody has named."""
        ...

    def measure(self, context: SweepContext, name: str) -> bool:
        """Measure one device by name; return True if it went away with work left."""
        ...

    def unreached(self, names: Collection[str]) -> list[str]:
        """Return hosts that do not answer, and of which none of the named devices is."""
        ...


class AdbSource:
    """Phones that are reached from this computer, through its own adb server or those of other hosts."""

    def __init__(self, hosts: Sequence[str] = ()) -> None:
        """`hosts` are the adb servers; without any, it is the environment's."""
        self._hosts = hosts

    def targets(self, asked: Sequence[str]) -> Targets:
        """Return what `choose_targets` does."""
        return choose_targets(asked, self._hosts)

    def check(self, names: Sequence[str], registry: ToolRegistry) -> list[DeviceCheck]:
        """Return what `check_devices` does."""
        return check_devices(names, registry)

    def arrivals(self, *, takes_new: bool) -> NewPhones:
        """Return who asks the adb servers."""
        return NewPhones(takes_new=takes_new, hosts=self._hosts)

    def measure(self, context: SweepContext, name: str) -> bool:
        """Measure one device in this process."""
        return measure_device(context, name)

    def unreached(self, names: Collection[str]) -> list[str]:
        """Return the adb servers that do not answer."""
        return self.arrivals(takes_new=False).unreached(names)
