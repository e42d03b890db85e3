"""Inject faults into a virtual phone, by name, and undo them."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from types import MappingProxyType

import psutil

from harness.devices.adb.server import server_address
from harness.virtual_phone.controls import PhoneFaults
from harness.virtual_phone.phone import VirtualPhone

_MOMENT_S = 0.3
_REBOOT_S = 0.5
_SLOW_BYTES_PER_S = 100_000
_OF_INIT = ("adbd", "adbd-auth", "sleep", "rm")
"""Programs that a phone's init starts itself; `sleep` while adbd is away."""

Act = Callable[[VirtualPhone], object]


@dataclass(frozen=True)
class InjectedFault:
    """What causes a fault, and what ends it."""

    make: Act
    undo: Act = lambda _: None
    passes: bool = True
    """Whether the phone stays reachable, or is soon reachable again by itself."""
    is_silent: bool = False
    """Whether the connection stays open and nothing answers."""


def _on(fault: Callable[[PhoneFaults], object]) -> Act:
    return lambda phone: fault(phone.faults)


def _for_a_moment(make: Callable[[PhoneFaults], object], undo: Callable[[PhoneFaults], object]) -> Act:
    def act(phone: VirtualPhone) -> None:
        make(phone.faults)
        threading.Timer(_MOMENT_S, undo, [phone.faults]).start()

    return act


def kill_server(_: VirtualPhone) -> None:
    """Kill this process's adb server, to which all of its phones are connected."""
    for process in _servers():
        with suppress(psutil.NoSuchProcess):
            process.kill()


def _servers() -> list[psutil.Process]:
    _, port = server_address()
    listening = {
        connection.pid
        for connection in psutil.net_connections("tcp")
        if connection.laddr and connection.laddr.port == port and connection.status == psutil.CONN_LISTEN
    }
    return [psutil.Process(process) for process in listening if process]


def crash_tool(phone: VirtualPhone) -> None:
    """Crash the tool's processes on a phone, if there are any."""
    for process in tools_on(phone):
        with suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGSEGV)


def tools_on(phone: VirtualPhone) -> list[psutil.Process]:
    """Return the tool's processes on a phone."""
    return [process for process in commands_on(phone) if any(map(_is_model, command_line(process)))]


def commands_on(phone: VirtualPhone) -> list[psutil.Process]:
    """Return the processes on a phone other than init and adbd."""
    init = psutil.Process(phone.processes.init_pid())
    own = {child.pid for child in init.children() if _name(child) in _OF_INIT}
    return [child for child in init.children(recursive=True) if child.pid not in own and _lives(child)]


def _is_model(argument: str) -> bool:
    return argument.startswith("--graph=")


def command_line(process: psutil.Process) -> list[str]:
    """Return the words of a process's command; none if it has ended since it was listed."""
    with suppress(psutil.NoSuchProcess):
        return list(process.cmdline())
    return []


def _name(process: psutil.Process) -> str:
    with suppress(psutil.NoSuchProcess):
        return str(process.name())
    return ""


def _lives(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    return False


FAULTS = MappingProxyType(
    {
        "adbd crashes": InjectedFault(_on(PhoneFaults.crash_adbd)),
        "adbd hangs": InjectedFault(_on(PhoneFaults.hang), _on(PhoneFaults.unhang), passes=False, is_silent=True),
        "adbd hangs briefly": InjectedFault(_for_a_moment(PhoneFaults.hang, PhoneFaults.unhang)),
        "phone goes off": InjectedFault(_on(PhoneFaults.switch_off), _on(PhoneFaults.switch_on), passes=False),
        "phone reboots": InjectedFault(lambda phone: phone.faults.reboot(_REBOOT_S)),
        "cable is out": InjectedFault(_on(PhoneFaults.cut_cable), _on(PhoneFaults.plug_cable), passes=False),
        "cable is out briefly": InjectedFault(_for_a_moment(PhoneFaults.cut_cable, PhoneFaults.plug_cable)),
        "cable is dead": InjectedFault(
            _on(PhoneFaults.stop_cable), _on(PhoneFaults.go_cable), passes=False, is_silent=True
        ),
        "cable is slow": InjectedFault(
            lambda phone: phone.faults.slow_cable(_SLOW_BYTES_PER_S), lambda phone: phone.faults.slow_cable(None)
        ),
        "storage is full": InjectedFault(_on(PhoneFaults.fill_storage), _on(PhoneFaults.free_storage)),
        "key is revoked": InjectedFault(_on(PhoneFaults.revoke_keys), _on(PhoneFaults.accept_keys), passes=False),
        "adb server is killed": InjectedFault(kill_server),
        "tool crashes": InjectedFault(crash_tool),
    }
)
"""For phones with a cable and with keys."""


def knobs(phone: VirtualPhone) -> dict[str, str | None]:
    """Return everything on the phone that a knob can turn, seen from outside."""
    clocks = {
        f"cpu{core}/{name}": phone.controls.clock(core, f"scaling_{name}")
        for core in range(9)
        for name in ("governor", "min_freq", "max_freq")
    }
    awake = phone.controls.setting("global", "stay_on_while_plugged_in")
    screen = (phone.folder / "state/dumpsys-power").read_text().strip()
    return {"fixed performance": str(phone.controls.fixed_performance), "stay-awake": awake, "screen": screen, **clocks}
