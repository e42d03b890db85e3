"""Examine this machine: what the main job, phones and virtual phones need. Nothing heavy is imported."""

from __future__ import annotations

import os
import platform
import shutil
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path

import typer

from harness.cli.output import JsonOption, console, error_console, folding_table, print_json
from harness.cli.verb import Verb
from harness.errors import ExitCode, HarnessError


@dataclass(frozen=True)
class Check:
    """One thing that was looked for."""

    what: str
    ok: bool
    needed: bool
    """True if the main job, `harness sweep` on this host, needs it."""
    found: str
    advice: str = ""


def run_checks() -> list[Check]:
    """Look for everything, the most important first."""
    return [
        _package("tensorflow", needed=True, why="makes variants"),
        _package("ai_edge_litert", needed=True, why="runs variants on this host"),
        _adb(),
        _devices(),
        *_tools(),
        _virtual_phone(),
        _user_namespaces(),
    ]


def _package(name: str, *, needed: bool, why: str) -> Check:
    there = find_spec(name) is not None
    advice = "" if there else "Reinstall harness: pip install harness"
    return Check(f"package {name} ({why})", there, needed, "installed" if there else "", advice)


def _adb() -> Check:
    from harness.devices.adb.server import adb_program

    try:
        return Check("adb", True, False, adb_program())
    except HarnessError as error:
        return Check("adb", False, False, str(error), error.advice)


def _devices() -> Check:
    from harness.devices.adb.discovery import ConnectionState, list_devices

    try:
        devices = list_devices()
    except HarnessError as error:
        return Check("attached phones", False, False, str(error), error.advice)
    ready = [device for device in devices if device.state is ConnectionState.DEVICE]
    found = ", ".join(f"{device.serial} ({device.state})" for device in devices) or "none"
    return Check("attached phones", bool(ready), False, found, "" if ready else "Plug one in; see `harness devices`.")


def _tools() -> list[Check]:
    from harness.benchmark.registry import ToolRegistry
    from harness.benchmark.tool import ToolSystem

    try:
        tools = ToolRegistry(report=_say).tools()
    except HarnessError as error:
        return [Check("registered tools", False, False, str(error), error.advice)]
    advice = {
        ToolSystem.ANDROID: "harness tools fetch android-arm64",
        ToolSystem.LINUX: "harness tools fetch linux-x86_64 (without it, LiteRT's Python benchmark measures the CPU)",
        ToolSystem.VIRTUAL_PHONE: "harness tools add tflite-tools-VERSION.tar.xz (docs/building-tools.md)",
    }
    findings = []
    for system, how in advice.items():
        found = ", ".join(f"{tool.abi} {tool.sha256[:12]}" for tool in tools if tool.system is system)
        findings.append(Check(f"benchmark_model for {system}", bool(found), False, found, "" if found else how))
    return findings


def _virtual_phone() -> Check:
    from harness.virtual_phone.base_image import check_programs

    if platform.system() != "Linux":
        return Check("virtual phones", False, False, platform.system(), "They need Linux.")
    try:
        check_programs()
    except HarnessError as error:
        return Check("virtual phones", False, False, str(error), error.advice)
    return Check("virtual phones", True, False, shutil.which("unshare") or "unshare")


def _user_namespaces() -> Check:
    what = "namespaces for virtual phones"
    if os.geteuid() == 0:
        return Check(what, True, False, "root needs no user namespaces")
    limit = Path("/proc/sys/user/max_user_namespaces")
    allowed = limit.exists() and limit.read_text().strip() != "0"
    return Check(
        what,
        allowed,
        False,
        "user namespaces" if allowed else "",
        "" if allowed else "sysctl user.max_user_namespaces=10000",
    )


def _say(text: str) -> None:
    error_console().print(text, markup=False, soft_wrap=True)


app = Verb(help="Tell what is missing on this machine.")


@app.command(epilog="Example: harness doctor --json")
def doctor(as_json: bool = JsonOption) -> None:
    """Tell what is missing on this machine and how to get it; exit code 3 when the main job cannot run."""
    from rich.markup import escape

    findings = run_checks()
    if as_json:
        print_json({"findings": [asdict(finding) for finding in findings]})
    else:
        table = folding_table("what", "state", "found", "what to do")
        for finding in findings:
            state = "[green]ok" if finding.ok else ("[red]missing" if finding.needed else "[yellow]missing")
            table.add_row(escape(finding.what), state, escape(finding.found), escape(finding.advice))
        console().print(table)
    if any(finding.needed and not finding.ok for finding in findings):
        raise typer.Exit(ExitCode.NOTHING_TO_RUN_ON)
