"""Read a device's facts from properties, /proc and /sys in one round trip."""

from __future__ import annotations

import re
from collections.abc import Mapping

from harness.devices.android_output import parse_properties, section_script, split_sections
from harness.devices.cores import parse_core_list, parse_cpuinfo
from harness.devices.device import Core, DeviceFacts, DeviceKind

FACTS_SCRIPT = section_script(
    {
        "properties": "getprop",
        "cpuinfo": "cat /proc/cpuinfo",
        "meminfo": "cat /proc/meminfo",
        "possible": "cat /sys/devices/system/cpu/possible || cat /sys/devices/system/cpu/present",
        "frequencies": "grep . /sys/devices/system/cpu/cpu[0-9]*/cpufreq/cpuinfo_max_freq",
        "gpu_driver": "dumpsys SurfaceFlinger | grep -m 1 GLES:",
        "gpu": "cat /sys/class/kgsl/kgsl-3d0/gpu_model || cat /sys/class/misc/mali0/device/gpuinfo",
    }
)
"""The constant script that reads everything that `facts_from_output` needs."""

_FREQUENCY = re.compile(r"/cpu(\d+)/cpufreq/cpuinfo_max_freq:\s*(\d+)")
_MEMORY = re.compile(r"^MemTotal:\s*(\d+) kB", re.MULTILINE)
_EMULATOR_HARDWARE = frozenset({"goldfish", "ranchu"})
_ABI_KEYS = ("ro.product.cpu.abilist", "ro.product.cpu.abi", "ro.product.cpu.abi2")


def facts_from_output(serial: str, output: str) -> DeviceFacts:
    """Parse the output of `FACTS_SCRIPT` into a device's facts."""
    sections = split_sections(output)
    properties = parse_properties(sections.get("properties", ""))
    cpuinfo = parse_cpuinfo(sections.get("cpuinfo", ""))
    frequencies = {int(core): int(khz) for core, khz in _FREQUENCY.findall(sections.get("frequencies", ""))}
    cores = set(parse_core_list(sections.get("possible", ""))) | set(cpuinfo.processors) | set(frequencies)
    memory = _MEMORY.search(sections.get("meminfo", ""))
    return facts_from_properties(
        serial,
        properties,
        cores=tuple(Core(index, frequencies.get(index), cpuinfo.part_of.get(index)) for index in sorted(cores)),
        memory_mb=int(memory[1]) / 1024 if memory else None,
        hardware=cpuinfo.hardware,
        gpu_line=sections.get("gpu", "").strip(),
        gpu_driver=sections.get("gpu_driver", "").partition("GLES:")[2].strip() or None,
    )


def facts_from_properties(
    serial: str,
    properties: Mapping[str, str],
    *,
    cores: tuple[Core, ...] = (),
    memory_mb: float | None = None,
    hardware: str | None = None,
    gpu_line: str = "",
    gpu_driver: str | None = None,
) -> DeviceFacts:
    """Return facts from properties and the values read with them."""

    def first(*keys: str) -> str | None:
        return next((properties[key] for key in keys if properties.get(key)), None)

    kind = device_kind(properties)
    abis = _abis(properties)
    real_abi = properties.get("ro.harness.virtual.abi")
    return DeviceFacts(
        serial=serial,
        kind=kind,
        model=first("ro.product.model", "ro.product.vendor.model", "ro.product.system.model"),
        maker=first("ro.product.manufacturer", "ro.product.vendor.manufacturer", "ro.product.brand"),
        soc=first("ro.soc.model", "ro.hardware.chipname", "ro.chipname", "ro.mediatek.platform") or hardware,
        board=first("ro.board.platform", "ro.product.board"),
        abis=abis,
        executable_abis=(real_abi,) if kind is DeviceKind.VIRTUAL and real_abi else abis,
        android_version=first("ro.build.version.release"),
        api_level=_integer(first("ro.build.version.sdk")),
        fingerprint=first("ro.build.fingerprint", "ro.vendor.build.fingerprint", "ro.system.build.fingerprint"),
        build_type=first("ro.build.type"),
        cores=cores,
        memory_mb=memory_mb,
        gpu=gpu_line.splitlines()[0] if gpu_line else first("ro.hardware.egl", "ro.hardware.vulkan"),
        gpu_driver=gpu_driver,
    )


def device_kind(properties: Mapping[str, str]) -> DeviceKind:
    """Return whether properties are those of a phone, an emulator or a virtual phone."""
    if properties.get("ro.harness.virtual") == "1":
        return DeviceKind.VIRTUAL
    emulated = properties.get("ro.kernel.qemu") == "1" or properties.get("ro.boot.qemu") == "1"
    hardware = {properties.get("ro.hardware"), properties.get("ro.boot.hardware")}
    return DeviceKind.EMULATOR if emulated or hardware & _EMULATOR_HARDWARE else DeviceKind.PHONE


def _abis(properties: Mapping[str, str]) -> tuple[str, ...]:
    """Return the ABIs, best first; Android before 5 has no list but a first and a second one."""
    texts = [properties.get(key, "") for key in _ABI_KEYS]
    return tuple(dict.fromkeys(abi.strip() for text in texts for abi in text.split(",") if abi.strip()))


def _integer(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdecimal() else None
