"""Change what a running virtual phone reports, and break it on demand."""

from __future__ import annotations

import os
import shutil
import signal
import time
from contextlib import suppress
from pathlib import Path

from harness.errors import UsageError
from harness.virtual_phone import recording
from harness.virtual_phone.cable import CONTROL_PIPE
from harness.virtual_phone.processes import PhoneProcesses

KEYS_FILE = "adb_keys"
"""In the phone's folder: the keys that it trusts, if it asks for any."""
_REVOKED_KEYS_FILE = "adb_keys.revoked"
_LOOK_EVERY_S = 0.001


class PhoneControls:
    """What one phone reports: battery, temperatures, clocks, screen, settings and properties."""

    def __init__(self, processes: PhoneProcesses) -> None:
        self._processes = processes

    def set_battery(self, **fields: object) -> None:
        """Change fields of `dumpsys battery`, such as `level=12`."""
        recording.set_battery(self._processes.running_folder(), **fields)

    def set_thermal_status(self, status: int, degrees_c: float = 31.4) -> None:
        """Set Android's thermal status (0 to 6) and skin temperature."""
        recording.set_thermal_status(self._processes.running_folder(), status, degrees_c)

    def set_zone_temperature(self, zone: int, degrees_c: float) -> None:
        """Set the temperature of one thermal zone."""
        recording.set_zone_temperature(self._processes.running_folder(), zone, degrees_c)

    def set_core_frequency(self, core: int, khz: int) -> None:
        """Set a core's current frequency."""
        self._set_clock(core, "scaling_cur_freq", khz)

    def set_core_ceiling(self, core: int, khz: int) -> None:
        """Set a core's highest allowed frequency, which a kernel lowers when it throttles."""
        self._set_clock(core, "scaling_max_freq", khz)

    def _set_clock(self, core: int, name: str, khz: int) -> None:
        file = self._clock_file(core, name)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{khz}\n")

    def clock(self, core: int, name: str) -> str:
        """Return the contents of a file in a core's `cpufreq` folder, such as `scaling_governor`."""
        return self._clock_file(core, name).read_text().strip()

    def _clock_file(self, core: int, name: str) -> Path:
        return self._processes.running_folder() / f"sys/devices/system/cpu/cpu{core}/cpufreq/{name}"

    @property
    def fixed_performance(self) -> bool:
        """Return True if fixed-performance mode is on, which no Android command reports."""
        file = self._processes.running_folder() / "state/fixed-performance"
        return file.exists() and file.read_text().strip() == "true"

    def set_screen(self, *, on: bool) -> None:
        """Switch the screen, as the power key does."""
        recording.set_screen(self._processes.running_folder(), on=on)

    def setting(self, namespace: str, key: str) -> str | None:
        """Return an Android setting; None if it is not set."""
        file = self._processes.inside(f"data/settings/{namespace}.{key}")
        return file.read_text().strip() if file.exists() else None

    def set_setting(self, namespace: str, key: str, value: str) -> None:
        """Set an Android setting, as `settings put` does."""
        self._processes.inside(f"data/settings/{namespace}.{key}").write_text(value + "\n")

    def set_property(self, key: str, value: str) -> None:
        """Set a property, as `setprop` does."""
        with self._processes.inside("data/property/runtime.prop").open("a") as file:
            file.write(f"{key}={value}\n")


class PhoneFaults:
    """Faults of one phone, each with the method that ends it."""

    def __init__(self, processes: PhoneProcesses) -> None:
        self._processes = processes

    def crash_adbd(self) -> None:
        """Kill adbd; the phone's init starts it again after a second."""
        os.kill(self._processes.adbd_pid(), signal.SIGKILL)

    def hang(self) -> None:
        """Stop adbd: connections stay open and nothing answers. Returns once each of its threads stands still."""
        pid = self._processes.adbd_pid()
        os.kill(pid, signal.SIGSTOP)
        while not self._processes.is_stopped(pid):  # a kernel stops a thread when it next runs
            time.sleep(_LOOK_EVERY_S)

    def unhang(self) -> None:
        """Let a stopped adbd continue."""
        os.kill(self._processes.adbd_pid(), signal.SIGCONT)

    def switch_off(self) -> None:
        """End adbd until `switch_on`."""
        self._end_adbd_with("off")

    def switch_on(self) -> None:
        """Start adbd again after `switch_off`."""
        self._processes.inside("run/off").unlink(missing_ok=True)

    def reboot(self, seconds: float = 2) -> None:
        """Kill every process, drop what `setprop` set, and start again after `seconds`."""
        self._end_adbd_with(f"reboot {seconds}")

    def revoke_keys(self) -> None:
        """Trust no computer and drop all connections. Raises `UsageError` for a phone without keys."""
        shutil.copyfile(self._keys(), self._processes.folder / _REVOKED_KEYS_FILE)
        self._keys().write_text("")  # in place, because the file is mounted inside the phone
        self.crash_adbd()

    def accept_keys(self) -> None:
        """Trust the keys of before `revoke_keys`, as a person does who accepts the phone's question."""
        with suppress(FileNotFoundError):  # nothing was revoked
            shutil.copyfile(self._processes.folder / _REVOKED_KEYS_FILE, self._keys())
        self.crash_adbd()

    def _keys(self) -> Path:
        keys = self._processes.running_folder() / KEYS_FILE
        if not keys.exists():
            raise UsageError(f"The phone {self._processes.name} asks for no key.", "Start it with --auth and --keys.")
        return keys

    def fill_storage(self, leave_bytes: int = 0) -> None:
        """Fill /data except for `leave_bytes`."""
        data = self._processes.inside("data")
        free = os.statvfs(data)
        size = free.f_bavail * free.f_frsize - leave_bytes
        with (data / "filler").open("wb") as file:
            if size > 0:
                os.posix_fallocate(file.fileno(), 0, size)

    def free_storage(self) -> None:
        """Undo `fill_storage`."""
        self._processes.inside("data/filler").unlink(missing_ok=True)

    def slow_cable(self, bytes_per_s: float | None) -> None:
        """Limit the cable's rate; None lifts the limit."""
        self._command_cable(f"slow {bytes_per_s or 0:g}")

    def stop_cable(self) -> None:
        """Hold back all data in the cable; connections stay open."""
        self._command_cable("stop")

    def go_cable(self) -> None:
        """Let data through the cable again."""
        self._command_cable("go")

    def cut_cable(self) -> None:
        """Unplug the cable until `plug_cable`."""
        self._command_cable("cut")

    def plug_cable(self) -> None:
        """Plug the cable in again."""
        self._command_cable("plug")

    def _command_cable(self, command: str) -> None:
        control = self._processes.folder / CONTROL_PIPE
        if not control.exists():
            raise UsageError(f"The phone {self._processes.name} has no cable.", "Start it with --cable.")
        control.write_text(command + "\n")

    def _end_adbd_with(self, command: str) -> None:
        """Leave a command for init, which carries it out when adbd has ended."""
        pid = self._processes.adbd_pid()  # first: a command without an adbd would be carried out at a later fault
        self._processes.inside("run/control").write_text(command + "\n")
        os.kill(pid, signal.SIGKILL)
