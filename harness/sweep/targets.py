"""Which devices a sweep runs on, and how each is opened and given back."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from harness.benchmark.registry import ToolRegistry
from harness.benchmark.tool import ToolSystem
from harness.devices.base import Device
from harness.devices.discovery import DeviceState, chosen_serials, connect, disconnect, list_devices, open_device
from harness.devices.host import HostDevice
from harness.devices.lease import lease
from harness.devices.profiles import GENERIC, load_profiles
from harness.errors import NothingToRunOnError
from harness.spec.profile import DeviceProfile
from harness.spec.sweep import SweepSpec

HOST = "host"
VIRTUAL = "virtual"


@dataclass(frozen=True)
class Targets:
    """The devices of a sweep by name, and one sentence where the choice was not the user's."""

    names: tuple[str, ...]
    notice: str = ""
    takes_new: bool = False
    """Whether phones that are attached while the sweep runs belong to it too."""


def choose_targets(asked: Sequence[str]) -> Targets:
    """Return what was asked for, else `ANDROID_SERIAL`, else every attached phone, else this host.

    Raises `NothingToRunOnError` when phones are attached but none can be used: measuring the host instead would
    answer another question.
    """
    serials = chosen_serials(asked)
    if serials:
        return Targets(tuple(serials))
    try:
        attached = list_devices()
    except NothingToRunOnError as error:
        return Targets((HOST,), f"No phone can be reached ({str(error).rstrip('.')}): measuring on this host.")
    if not attached:
        return Targets((HOST,), "No phone is attached: measuring on this host.")
    usable = tuple(device.serial for device in attached if device.state is DeviceState.DEVICE)
    if not usable:
        states = ", ".join(f"{device.serial} ({device.state})" for device in attached)
        raise NothingToRunOnError(
            f"No attached phone can be used: {states}.",
            "Run `harness devices` to see what each needs, or measure on this host with `--device host`.",
        )
    return Targets(usable, takes_new=True)


@contextmanager
def opened(name: str, registry: ToolRegistry, *, broken_gpu: bool = False) -> Iterator[Device]:
    """Open one device of `Targets.names`, leased to this process; a virtual phone lives as long as the context."""
    if name == HOST:
        with lease(HOST):
            yield HostDevice()
    elif name == VIRTUAL or name.startswith(f"{VIRTUAL}:"):
        with _virtual_phone(name, registry, broken_gpu) as serial, lease(serial):
            yield open_device(serial)
    else:
        with lease(name):
            yield open_device(name)


@contextmanager
def _virtual_phone(name: str, registry: ToolRegistry, broken_gpu: bool) -> Iterator[str]:
    """Run a virtual phone, connected to the adb server, for the length of a `with` block."""
    from harness.virtual_phone.phone import DEFAULT_COSTUME, virtual_phone

    tools = [tool for tool in registry.tools() if tool.system is ToolSystem.VIRTUAL_PHONE]
    vendor = next((tool.vendor_folder for tool in tools if tool.path.is_file()), None)
    if vendor is None:
        gone = f": {tools[0].path} is no longer there" if tools else " is registered, so there is nothing to run on one"
        raise NothingToRunOnError(
            f"No tool for virtual phones{gone}.",
            "Add the archive of the official tools: `harness tools add tflite-tools-VERSION.tar.xz`.",
        )
    costume = name.partition(":")[2] or DEFAULT_COSTUME
    phone_name = f"sweep-{os.getpid()}-{Path(costume).stem}"
    with virtual_phone(phone_name, like=costume, vendor=vendor, broken_gpu=broken_gpu) as phone:
        serial = connect(phone.serial)
        try:
            yield serial
        finally:
            disconnect(serial)


def planned_delegates(spec: SweepSpec) -> dict[str, tuple[str, ...]]:
    """Return the delegates that a sweep would measure on each device, told without asking any device."""
    profiles = {profile.name: profile.delegates for profile in load_profiles()}
    names = chosen_serials(spec.devices) or ["every attached phone, else this host"]

    def delegates_of(name: str) -> tuple[str, ...]:
        kind = name.partition(":")[0]
        return profiles.get(kind if kind in (HOST, VIRTUAL) else GENERIC, DeviceProfile(name=GENERIC).delegates)

    return {name: spec.delegates or delegates_of(name) for name in names}
