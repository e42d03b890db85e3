"""Which devices a sweep runs on, and how each is opened and restored."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from harness.benchmark.registry import ToolRegistry, no_tool_for
from harness.benchmark.tool import ToolSystem
from harness.devices.adb.discovery import (
    AttachedDevice,
    ConnectionState,
    chosen_serials,
    connect,
    disconnect,
    identities,
    list_devices,
    open_device,
    ready_devices,
)
from harness.devices.adb.recovery import are_back
from harness.devices.device import Device, DeviceFacts
from harness.devices.device_ref import AdbServer, DeviceRef, RefKind, label_of, server_at
from harness.devices.facts import facts_from_properties
from harness.devices.host import HOST_SERIAL, HostDevice
from harness.devices.lease import is_held, lease
from harness.devices.profiles import GENERIC, match_profile
from harness.errors import DeviceError, FailureClass, HarnessError, MissingPrerequisiteError
from harness.spec.profile import DeviceProfile
from harness.virtual_phone.base_image import check_programs
from harness.virtual_phone.recording import DEFAULT_RECORDING, load_recording, virtual_properties

_CONNECT_TIMEOUT_S = 5.0


@dataclass(frozen=True)
class Targets:
    """The devices of a sweep by name, and one sentence where the choice was not the user's."""

    names: tuple[str, ...]
    notice: str = ""
    takes_new: bool = False
    """True if phones that are attached while the sweep runs belong to it too."""


def choose_targets(asked: Sequence[str], hosts: Sequence[str] = ()) -> Targets:
    """Return what was asked for, else `ANDROID_SERIAL`, else every attached phone, else this host.

    With `hosts`, phones are those of the adb servers there, and this host is measured only if it was asked for.
    Raises `MissingPrerequisiteError` when phones are attached but none can be used: measuring the host instead would
    answer another question. Whether a sweep can run on them, `check_devices` says.
    """
    serials = chosen_serials(asked)
    if hosts:
        return _targets_at(hosts, serials)
    if serials:
        return Targets(tuple(str(DeviceRef.parse(serial)) for serial in serials))
    try:
        attached = list_devices()
    except MissingPrerequisiteError as error:
        return Targets((HOST_SERIAL,), f"No phone can be reached ({str(error).rstrip('.')}): measuring on this host.")
    if not attached:
        return Targets((HOST_SERIAL,), "No phone is attached: measuring on this host.")
    return Targets(_usable(attached), takes_new=True)


def _usable(attached: Sequence[AttachedDevice]) -> tuple[str, ...]:
    usable = tuple(device.serial for device in attached if device.state is ConnectionState.DEVICE)
    if not usable:
        states = ", ".join(f"{device.serial} ({device.state})" for device in attached)
        raise MissingPrerequisiteError(
            f"No attached phone can be used: {states}.",
            "Run `harness devices` to see what each needs, or measure on this host with `--device host`.",
        )
    return usable


def _targets_at(hosts: Sequence[str], serials: Sequence[str]) -> Targets:
    """Return the phones of several adb servers, each phone once; of those that were named, if any were."""
    attached: list[AttachedDevice] = []
    notices: list[str] = []
    away: list[str] = []
    seen: set[str] = set()
    for host in hosts:
        try:
            attached += list_devices(server_at(host), seen=seen)
        except (DeviceError, MissingPrerequisiteError):
            away.append(host)
            notices.append(f"No adb server answers at {host}: its phones join the sweep if it comes back in time.")
    if serials:
        return Targets(tuple(at_its_host(serial, attached, hosts, away) for serial in serials), " ".join(notices))
    if not attached:
        where = ", ".join(hosts)
        raise MissingPrerequisiteError(
            f"No adb server answers at {where}." if len(away) == len(hosts) else f"No phone is attached to {where}.",
            "Start it there with `adb -a nodaemon server`, and see what it lists: `harness devices --host HOST`.",
        )
    names: dict[str, str] = {}
    for name in _usable(attached):
        if (other := names.setdefault(label_of(name), name)) != name:
            notices.append(f"{other} and {name} have the same serial, so only the first is measured.")
    return Targets(tuple(names.values()), " ".join(notices), takes_new=True)


def at_its_host(serial: str, attached: Sequence[AttachedDevice], hosts: Sequence[str], away: Sequence[str]) -> str:
    """Return the name of a phone that was asked for by its serial alone; of one that is away, where it must be."""
    ref = DeviceRef.parse(serial)
    if ref.kind is not RefKind.ADB or ref.server:
        return str(ref)
    found = [device.serial for device in attached if DeviceRef.parse(device.serial).serial == serial]
    possible = found or [str(DeviceRef(serial, server_at(host))) for host in (away or hosts)]
    if len(possible) == 1:
        return possible[0]
    raise MissingPrerequisiteError(
        f"{serial} is attached to {'several' if found else 'none'} of {', '.join(hosts)}.",
        f"Name its host too: {' or '.join(possible)}.",
    )


@dataclass(frozen=True)
class DeviceCheck:
    """What is known of one device before anything is made for it."""

    name: str
    delegates: tuple[str, ...] = DeviceProfile(name=GENERIC).delegates
    """Those that its profile measures."""
    problem: HarnessError | None = None
    """Why nothing can be measured on it."""


def check_devices(names: Sequence[str], registry: ToolRegistry) -> list[DeviceCheck]:
    """Look whether each device can be opened and has a tool; nothing is written to it."""
    with ThreadPoolExecutor() as pool:
        return list(pool.map(lambda name: _check_device(name, registry), names))


def _check_device(name: str, registry: ToolRegistry) -> DeviceCheck:
    try:
        facts = _facts_of(DeviceRef.parse(name), registry)
        registry.choose(facts)
    except HarnessError as error:
        return DeviceCheck(name, problem=error)
    return DeviceCheck(name, match_profile(facts).delegates)


def _facts_of(ref: DeviceRef, registry: ToolRegistry) -> DeviceFacts:
    """Return the facts of a device that nobody else measures; of a virtual phone those that it will show."""
    if ref.kind is RefKind.VIRTUAL:
        recording = load_recording(ref.recording or DEFAULT_RECORDING)
        check_programs()
        _vendor_folder(registry)
        return facts_from_properties(str(ref), virtual_properties(recording, phone_name=recording.name))
    with lease(ref.label):
        return HostDevice().facts() if ref.kind is RefKind.HOST else _attached(ref, None).facts()


@contextmanager
def opened(
    name: str,
    registry: ToolRegistry,
    *,
    label: str | None = None,
    broken_gpu: bool = False,
    report: Callable[[str], None] = lambda _: None,
) -> Iterator[Device]:
    """Open one device of `Targets.names`, leased to this process; a virtual phone lives as long as the context.

    `label` is what results call an attached phone, if its name does not say it. `report` says what takes long.
    """
    ref = DeviceRef.parse(name)
    if ref.kind is RefKind.HOST:
        with lease(HOST_SERIAL):
            yield HostDevice()
    elif ref.kind is RefKind.VIRTUAL:
        with _virtual_phone(ref.recording, registry, broken_gpu, report) as serial, lease(serial):
            yield open_device(serial)
    else:
        with lease(ref.label):
            yield _attached(ref, label)


def _attached(ref: DeviceRef, label: str | None) -> Device:
    """Open an attached phone; one on the network is connected where an adb server that is new does not know it yet.

    Raises `DeviceError`.
    """
    try:
        return open_device(ref, label=label)
    except DeviceError as error:
        is_unknown = error.failure.failure_class is FailureClass.DEVICE_LOST
        if not (is_unknown and ref.is_on_network):
            raise
    return open_device(connect(ref, timeout_s=_CONNECT_TIMEOUT_S), label=label)


@contextmanager
def _virtual_phone(
    recording: str | None, registry: ToolRegistry, broken_gpu: bool, report: Callable[[str], None]
) -> Iterator[str]:
    """Run a virtual phone, connected to the adb server, for the length of a `with` block."""
    from harness.virtual_phone.phone import virtual_phone

    vendor = _vendor_folder(registry)
    recording = recording or DEFAULT_RECORDING
    phone_name = f"sweep-{os.getpid()}-{Path(recording).stem}"
    report(f"Starting the virtual phone {recording}.")
    with virtual_phone(phone_name, like=recording, vendor=vendor, broken_gpu=broken_gpu, report=report) as phone:
        serial = connect(phone.serial)
        try:
            yield serial
        finally:
            disconnect(serial)


def _vendor_folder(registry: ToolRegistry) -> Path:
    """Return the folder of the tools for virtual phones. Raises `DeviceError` if there is none."""
    tools = [tool for tool in registry.tools() if tool.system is ToolSystem.VIRTUAL_PHONE]
    if folder := next((tool.vendor_folder for tool in tools if tool.path.is_file()), None):
        return folder
    raise no_tool_for(ToolSystem.VIRTUAL_PHONE, "No tool for virtual phones is registered.")


class NewPhones:
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
        """Return which phones answer again; to those on the network it is connected again."""
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
        took_part = {DeviceRef.parse(name).server for name in names}
        return [
            str(server)
            for server in self._servers
            if server is not None and server not in took_part and not _answers(server)
        ]


def _ready(server: AdbServer | None) -> list[str]:
    """Return what a server holds ready; one that is away for a moment is asked again at the next look."""
    try:
        return ready_devices(server)
    except (DeviceError, MissingPrerequisiteError):
        return []


def _answers(server: AdbServer) -> bool:
    try:
        ready_devices(server)
    except (DeviceError, MissingPrerequisiteError):
        return False
    return True
