"""Load recordings of real phones and write them into a virtual phone's files."""

from __future__ import annotations

import json
import platform
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.errors import UsageError

RECORDINGS = Path(__file__).parent / "recordings"
_ABI_OF_MACHINE = {"x86_64": "x86_64", "aarch64": "arm64-v8a", "i686": "x86", "armv7l": "armeabi-v7a"}
_ZONES = (("cpu-0-0", 35.0), ("gpuss-0", 34.0), ("nsphvx-0", 33.0), ("battery", 29.1))
"""Thermal zones for a recording without any: type and degrees Celsius."""
DEFAULT_RECORDING = "pixel-8"
_MEMORY_KB = 8 * 1024 * 1024


@dataclass(frozen=True)
class Recording:
    """A real phone's properties, and its files by absolute path under /proc and /sys."""

    name: str
    properties: dict[str, str]
    files: dict[str, str] = field(default_factory=dict)


def shipped_recordings() -> list[str]:
    """Return the names of the shipped recordings."""
    return sorted(file.stem for file in RECORDINGS.glob("*.json"))


def load_recording(like: str) -> Recording:
    """Load a shipped recording by name, or a JSON file by path. Raises `UsageError`."""
    file = Path(like) if "/" in like or like.endswith(".json") else RECORDINGS / f"{like}.json"
    if not file.is_file():
        raise UsageError(f"No recording {like!r}.", f"Name a JSON file, or one of: {', '.join(shipped_recordings())}.")
    try:
        record: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        properties = {str(key): str(value) for key, value in record["properties"].items()}
        files = {str(path): str(text) for path, text in record["files"].items()}
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise UsageError(
            f"Cannot read the recording {file}: {type(error).__name__}: {error}.",
            'It needs the tables "properties" and "files" (absolute path to contents).',
        ) from error
    return Recording(str(record.get("name", file.stem)), properties, files)


def host_abi() -> str:
    """Return Android's name for this machine's processor."""
    return _ABI_OF_MACHINE.get(platform.machine(), platform.machine())


def virtual_properties(recording: Recording, *, phone_name: str) -> dict[str, str]:
    """Return the properties that a virtual phone like this shows."""
    return {
        **recording.properties,
        "ro.serialno": f"VIRTUAL-{phone_name}",
        "sys.boot_completed": "1",
        "ro.harness.virtual": "1",
        "ro.harness.virtual.abi": host_abi(),
    }


def dress(recording: Recording, folder: Path, *, phone_name: str) -> None:
    """Write a recording into a phone's folder, which its file tree shows."""
    properties = virtual_properties(recording, phone_name=phone_name)
    lines = [f"{key}={value.splitlines()[0] if value else ''}" for key, value in sorted(properties.items())]
    _write(folder / "build.prop", "\n".join(lines) + "\n")
    for path, text in recording.files.items():
        if path.startswith("/sys/") and ".." not in path:
            _write(folder / path.lstrip("/"), text)
    _write(folder / "cpuinfo", recording.files.get("/proc/cpuinfo", ""))
    _write(folder / "meminfo", recording.files.get("/proc/meminfo") or _meminfo(_MEMORY_KB))
    (folder / "sys").mkdir(exist_ok=True)
    for index, (kind, degrees_c) in enumerate(_ZONES):
        zone = folder / "sys/class/thermal" / f"thermal_zone{index}"
        if not (zone / "temp").exists():
            _write(zone / "type", kind + "\n")
            set_zone_temperature(folder, index, degrees_c)
    for clock in (folder / "sys/devices/system/cpu").glob("cpu*/cpufreq"):
        _complete_clock(clock)
    state = folder / "state"
    _write(state / "dumpsys-battery", _battery())
    _write(state / "dumpsys-thermalservice", _thermalservice(0, 31.4))
    set_screen(folder, on=True)
    state.chmod(0o777)


def _complete_clock(clock: Path) -> None:
    """Add the clock files that a recording lacks because reading them needed root."""
    fastest = clock / "cpuinfo_max_freq"
    slowest = clock / "cpuinfo_min_freq"
    if not fastest.exists():
        return
    texts = {
        "cpuinfo_min_freq": fastest.read_text(),
        "scaling_max_freq": fastest.read_text(),
        "scaling_min_freq": (slowest if slowest.exists() else fastest).read_text(),
        "scaling_cur_freq": fastest.read_text(),
        "scaling_governor": "schedutil\n",
        "scaling_available_governors": "schedutil powersave performance\n",
    }
    for name, text in texts.items():
        if not (clock / name).exists():
            _write(clock / name, text)


def set_screen(folder: Path, *, on: bool) -> None:
    """Set the screen state that `dumpsys power` prints."""
    file = folder / "state/dumpsys-power"
    _write(file, f"  mWakefulness={'Awake' if on else 'Asleep'}\n")
    file.chmod(0o666)  # the phone's `input` script writes it too


def set_zone_temperature(folder: Path, zone: int, degrees_c: float) -> None:
    """Set a thermal zone's temperature; the file holds thousandths of a degree."""
    _write(folder / "sys/class/thermal" / f"thermal_zone{zone}" / "temp", f"{round(degrees_c * 1000)}\n")


def set_thermal_status(folder: Path, status: int, degrees_c: float) -> None:
    """Set the thermal service's status (0 none to 6 shutdown) and its skin temperature."""
    _write(folder / "state/dumpsys-thermalservice", _thermalservice(status, degrees_c))


def set_battery(folder: Path, **values: object) -> None:
    """Change fields of `dumpsys battery`, such as `level=12` or `USB_powered=False`."""
    file = folder / "state/dumpsys-battery"
    text = file.read_text()
    for key, value in values.items():
        label = re.escape(key.replace("_", " "))
        text, found = re.subn(rf"(?m)^(\s*{label}: ).*$", rf"\g<1>{str(value).lower()}", text)
        if not found:
            known = ", ".join(re.findall(r"(?m)^\s+([^:]+): ", text))
            raise UsageError(f"The battery has no field {key!r}.", f"Its fields are: {known}.")
    _write(file, text)


def _write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")


def _battery() -> str:
    fields = {
        "AC powered": "false",
        "USB powered": "true",
        "Wireless powered": "false",
        "status": "2",
        "health": "2",
        "present": "true",
        "level": "87",
        "scale": "100",
        "voltage": "4210",
        "temperature": "291",
        "technology": "Li-ion",
    }
    return "Current Battery Service state:\n" + "".join(f"  {key}: {value}\n" for key, value in fields.items())


def _thermalservice(status: int, degrees_c: float) -> str:
    return (
        f"IsStatusOverride: false\nThermal Status: {status}\nCurrent temperatures from HAL:\n"
        f"\tTemperature{{mValue={degrees_c}, mType=3, mName=SKIN, mStatus={status}}}\n"
    )


def _meminfo(total_kb: int) -> str:
    return f"MemTotal: {total_kb:>14} kB\nMemFree: {total_kb // 4:>15} kB\nMemAvailable: {total_kb // 2:>10} kB\n"
