"""Everything that can go wrong with a virtual phone, by name: made when somebody chooses, and undone again."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from types import MappingProxyType

import psutil

from harness.devices.adb.server import server_address
from harness.virtual_phone.phone import VirtualPhone

_MOMENT_S = 0.3
_REBOOT_S = 0.5
_SLOW_BYTES_PER_S = 100_000
_OF_INIT = ("adbd", "adbd-auth", "sleep", "rm")
"""What a phone's init starts itself; `sleep` while adbd is away."""

Act = Callable[[VirtualPhone], object]


@dataclass(frozen=True)
class InjectedFault:
    """What is done to a phone, and what mends it."""

    make: Act
    undo: Act = lambda _: None
    passes: bool = True
    """Whether the phone can be reached all the time, or soon again by itself."""
    is_silent: bool = False
    """Whether the connection stays and nothing answers."""


def _for_a_moment(make: Act, undo: Act) -> Act:
    def act(phone: VirtualPhone) -> None:
        make(phone)
        threading.Timer(_MOMENT_S, undo, [phone]).start()

    return act


def kill_server(_: VirtualPhone) -> None:
    """Kill the adb server of this process, which all of its phones are connected to."""
    for process in _servers():
        with suppress(psutil.NoSuchProcess):
            process.kill()


def _servers() -> list[psutil.Process]:
    _, port = server_address()
    listening = {
        one.pid
        for one in psutil.net_connections("tcp")
        if one.laddr and one.laddr.port == port and one.status == psutil.CONN_LISTEN
    }
    return [psutil.Process(process) for process in listening if process]


def crash_tool(phone: VirtualPhone) -> None:
    """Let what runs of the tool on a phone crash; a phone that runs none stays as it is."""
    for process in tools_on(phone):
        with suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGSEGV)


def tools_on(phone: VirtualPhone) -> list[psutil.Process]:
    """Return the processes of the tool on a phone."""
    return [process for process in commands_on(phone) if any(map(_is_model, _command_line(process)))]


def commands_on(phone: VirtualPhone) -> list[psutil.Process]:
    """Return what runs on a phone besides init and adbd."""
    init = psutil.Process(phone.init_pid())
    own = {child.pid for child in init.children() if _name(child) in _OF_INIT}
    return [child for child in init.children(recursive=True) if child.pid not in own and _lives(child)]


def _is_model(argument: str) -> bool:
    return argument.startswith("--graph=")


def _command_line(process: psutil.Process) -> list[str]:
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
        "adbd crashes": InjectedFault(VirtualPhone.crash_adbd),
        "adbd hangs": InjectedFault(VirtualPhone.hang, VirtualPhone.unhang, passes=False, is_silent=True),
        "adbd hangs briefly": InjectedFault(_for_a_moment(VirtualPhone.hang, VirtualPhone.unhang)),
        "phone goes off": InjectedFault(VirtualPhone.switch_off, VirtualPhone.switch_on, passes=False),
        "phone reboots": InjectedFault(lambda phone: phone.reboot(_REBOOT_S)),
        "cable is out": InjectedFault(VirtualPhone.cut_cable, VirtualPhone.plug_cable, passes=False),
        "cable is out briefly": InjectedFault(_for_a_moment(VirtualPhone.cut_cable, VirtualPhone.plug_cable)),
        "cable is dead": InjectedFault(VirtualPhone.stop_cable, VirtualPhone.go_cable, passes=False, is_silent=True),
        "cable is slow": InjectedFault(
            lambda phone: phone.slow_cable(_SLOW_BYTES_PER_S), lambda phone: phone.slow_cable(None)
        ),
        "storage is full": InjectedFault(VirtualPhone.fill_storage, VirtualPhone.free_storage),
        "key is revoked": InjectedFault(VirtualPhone.revoke_keys, VirtualPhone.accept_keys, passes=False),
        "adb server is killed": InjectedFault(kill_server),
        "tool crashes": InjectedFault(crash_tool),
    }
)
"""For phones with a cable and with keys."""
