"""`harness tools`: the `benchmark_model` binaries that this host knows."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.output import JsonOption, console, error_console, print_json
from harness.cli.verb import Verb
from harness.text import require_choice

if TYPE_CHECKING:
    from harness.benchmark.download import Download
    from harness.benchmark.registry import ToolRegistry
    from harness.benchmark.tool import Tool

app = Verb(
    no_args_is_help=True,
    help="Fetch, add, list and probe benchmark_model binaries.",
    epilog="Example: harness tools add ~/Downloads/android_aarch64_benchmark_model",
)

FamilyOption = Annotated[
    str | None, typer.Option(help="interpreter (TFLite's, the default) or compiled-model (LiteRT's).")
]


@app.command("list", epilog="Example: harness tools list --json")
def list_tools(as_json: bool = JsonOption) -> None:
    """List the registered tools."""
    from harness.benchmark.registry import ToolRegistry

    _show(ToolRegistry(report=_say).tools(), as_json)


@app.command(epilog="Example: harness tools add tflite-tools-2.14.1-linux-x86_64.tar.xz")
def add(path: Path, family: FamilyOption = None, as_json: bool = JsonOption) -> None:
    """Register a benchmark_model binary, or an archive of the official tools (for this host and virtual phones)."""
    from harness.benchmark.program import addable_families
    from harness.benchmark.registry import ToolRegistry

    if family is not None:
        require_choice("--family", family, addable_families())
    _show(ToolRegistry(report=_say).add(path, family=family), as_json)


@app.command(epilog="Example: harness tools fetch android-arm64")
def fetch(
    names: Annotated[list[str] | None, typer.Argument(help="Which binaries; without names, what there is.")] = None,
    as_json: bool = JsonOption,
) -> None:
    """Download official binaries from Google, with what an earlier try left resumed."""
    from harness.benchmark.download import DOWNLOADS, find_download
    from harness.benchmark.registry import ToolRegistry

    if not names:
        _show_downloads(
            [{"name": item.name, "family": item.family.value, "url": item.url} for item in DOWNLOADS], as_json
        )
        return
    downloads = [find_download(name) for name in names]
    registry = ToolRegistry()
    _show([_fetch_with_bar(download, registry) for download in downloads], as_json)


def _fetch_with_bar(download: Download, registry: ToolRegistry) -> Tool:
    from rich.progress import DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    from harness.benchmark.download import fetch as fetch_tool

    screen = error_console()
    columns = (TextColumn("{task.description}"), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=screen, disable=not screen.is_terminal) as bars:
        task = bars.add_task(download.name, total=None)
        return fetch_tool(
            download, registry, progress=lambda have, total: bars.update(task, completed=have, total=total)
        )


@app.command(epilog="Example: harness tools probe benchmark_model")
def probe(
    tool: Annotated[str, typer.Argument(help="Name, or the beginning of the SHA-256.")],
    device: Annotated[str | None, typer.Option(help="ADB serial, for a binary that does not run on this host.")] = None,
    as_json: bool = JsonOption,
) -> None:
    """Ask a binary for its flags with --help, and remember them."""
    from harness.benchmark.registry import ToolRegistry, probe_flags
    from harness.benchmark.tool import ToolSystem
    from harness.devices.adb.discovery import open_device
    from harness.devices.device import Device
    from harness.devices.host import HostDevice
    from harness.errors import UsageError

    registry = ToolRegistry()
    found = registry.find(tool)
    if device is None and found.system is not ToolSystem.LINUX:
        raise UsageError(
            f"{found.name} ({found.sha256[:12]}) is built for {found.system}, not for this host.",
            "Name a device that runs it: --device SERIAL. A sweep asks it by itself before its first use.",
        )
    where: Device = open_device(device) if device else HostDevice()
    flags = probe_flags(where, found, where.push(found.path))
    registry.remember_flags(found, flags)
    if as_json:
        print_json({"sha256": found.sha256, "flags": sorted(flags)})
    else:
        console().print(f"{found.name} ({found.sha256[:12]}) knows {len(flags)} flags:", markup=False)
        console().print("  " + "\n  ".join(sorted(flags)), markup=False)


@app.command(epilog="Example: harness tools remove 5d45116e")
def remove(tool: Annotated[str, typer.Argument(help="Name, or the beginning of the SHA-256.")]) -> None:
    """Forget a tool."""
    from harness.benchmark.registry import ToolRegistry

    removed = ToolRegistry().remove(ToolRegistry().find(tool).sha256)
    console().print(f"Forgotten: {removed.name} ({removed.sha256[:12]}).", markup=False)


def _say(text: str) -> None:
    error_console().print(text, markup=False, soft_wrap=True)


def _show(tools: list[Tool], as_json: bool) -> None:
    from rich.markup import escape
    from rich.table import Table

    if as_json:
        print_json({"tools": [tool.model_dump(mode="json") for tool in tools]})
        return
    if not tools:
        console().print(
            "No tools are registered. Add one: harness tools fetch android-arm64, or harness tools add PATH."
        )
        return
    table = Table(show_lines=True)
    for heading in ("SHA-256", "runs on", "flags"):
        table.add_column(heading, no_wrap=True)
    table.add_column("tool, family and origin", overflow="fold")
    for tool in tools:
        flags = "not probed" if tool.flags is None else str(len(tool.flags))
        described = escape(f"{tool.name} ({tool.family})\n{tool.origin}")
        table.add_row(tool.sha256[:12], f"{tool.system}\n{tool.abi}", flags, described)
    console().print(table)


def _show_downloads(downloads: list[dict[str, str]], as_json: bool) -> None:
    from rich.table import Table

    if as_json:
        print_json({"downloads": downloads})
        return
    table = Table(title="Official binaries that can be fetched by name")
    for heading in ("name", "family", "url"):
        table.add_column(heading, overflow="fold")
    for download in downloads:
        table.add_row(*download.values())
    console().print(table)
