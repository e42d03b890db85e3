"""A device on which something happens once, when a phase of a sweep begins."""

import threading
import time
from enum import StrEnum

from harness.devices.adb import recovery as under_way
from harness.devices.state.telemetry import TELEMETRY_SCRIPT

HOLD = "data/hold"
"""A tool that finds this file when it begins takes `HELD_S` longer."""
BEGUN = "data/begun"
"""Made by a tool that is held."""
HELD_S = 1.5
SILENT_LIMIT_S = 0.7
"""How long a phone is asked that cannot answer; one that can is given all the time that harness gives it."""
_BEGINS_WITHIN_S = 60


class Phase(StrEnum):
    """What a sweep does with a phone, in this order."""

    FACTS = "facts"
    PREPARE = "prepare"
    """The first setting is to be changed."""
    TOOL = "push tool"
    MODEL = "push model"
    PULL = "pull"
    """The outputs of the accuracy pass are to be fetched."""
    GATE = "gate"
    """The phone is to be looked at, between the first and the second timed process."""
    RUN = "run"
    """The second timed process is under way."""
    RESTORE = "restore"
    """All is measured, and the first setting is to be given back."""


class Trap:
    """Springs once, when its phase begins; `is_silent` tells whether the phone cannot answer now."""

    def __init__(self, phase, spring, is_silent):
        self.phase = phase
        self.is_sprung = False
        self.is_silent = is_silent
        self._spring = spring

    def reached(self, phase):
        if phase is self.phase and not self.is_sprung:
            self.is_sprung = True
            self._spring()


class TrappedDevice:
    """An `AdbDevice` that tells a trap what is about to be done with the phone."""

    def __init__(self, device, trap, phone):
        self._device = device
        self._trap = trap
        self._phone = phone
        self._pushes = self._timed = 0

    def __getattr__(self, name):
        return getattr(self._device, name)

    def facts(self):
        self._trap.reached(Phase.FACTS)
        return self._device.facts()

    def run_script(self, script, *, timeout_s):
        if script == TELEMETRY_SCRIPT and self._timed == 1:
            self._trap.reached(Phase.GATE)
        if script == under_way._SCRIPT:
            self._trap.reached(Phase.RESTORE)
        return self._device.run_script(script, timeout_s=self._limit(timeout_s))

    def run(self, arguments, *, timeout_s, **options):
        if list(arguments[:2]) == ["settings", "put"]:
            self._trap.reached(Phase.PREPARE)
        if (
            any(TELEMETRY_SCRIPT in argument for argument in arguments) and self._timed == 1
        ):  # with the clocks that were sampled meanwhile
            self._trap.reached(Phase.GATE)
        is_timed = _has(arguments, "--graph=") and not _has(arguments, "--output_filepath=")
        self._timed += is_timed
        if is_timed and self._timed == 2 and self._trap.phase is Phase.RUN and not self._trap.is_sprung:
            return self._run_into_trap(arguments, timeout_s, options)
        return self._device.run(arguments, timeout_s=self._limit(timeout_s), **options)

    def push(self, local):
        self._pushes += 1
        self._trap.reached({1: Phase.TOOL, 2: Phase.MODEL}.get(self._pushes))
        return self._device.push(local)

    def pull(self, remote, local, *, timeout_s=120.0, **options):
        self._trap.reached(Phase.PULL)
        return self._device.pull(remote, local, timeout_s=self._limit(timeout_s), **options)

    def _limit(self, timeout_s):
        return min(timeout_s, SILENT_LIMIT_S) if self._trap.is_silent() else timeout_s

    def _run_into_trap(self, arguments, timeout_s, options):
        hold, begun = self._phone.processes.inside(HOLD), self._phone.processes.inside(BEGUN)
        hold.touch()

        def spring():
            deadline = time.monotonic() + _BEGINS_WITHIN_S
            while not begun.exists() and time.monotonic() < deadline:
                time.sleep(0.02)
            hold.unlink()
            self._trap.reached(Phase.RUN)

        thread = threading.Thread(target=spring)
        thread.start()
        try:
            return self._device.run(arguments, timeout_s=timeout_s, **options)
        finally:
            thread.join()


def _has(arguments, flag):
    return any(argument.startswith(flag) for argument in arguments)
