"""`harness devices`: what is attached, in which state, and what harness knows of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli.output import JsonOption, console, error_console, print_json
from harness.cli.verb import Verb
from harness.errors import ExitCode, HarnessError
from harness.text import printable

if TYPE_CHECKING:
    from harness.devices.adb.discovery import AttachedDevice
    from harness.devices.device import Device
    from harness.devices.preparation.preparation import KnobRecord

app = Verb(help="List attached devices.")


@app.command(epilog="Example: harness devices --write-profile 59253ADYT113RN")
def devices(
    write_profile: Annotated[
        str | None, typer.Option(metavar="SERIAL", help="Write a profile from what this device shows.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="Where --write-profile writes; default: device_profiles/.")
    ] = None,
    clean: Annotated[
        str | None, typer.Option(metavar="SERIAL", help="Remove all that harness ever wrote on this device.")
    ] = None,
    restore: Annotated[
        str | None,
        typer.Option(metavar="SERIAL", help="Give back what a harness that was killed left changed on this device."),
    ] = None,
    host: Annotated[
        list[str] | None,
        typer.Option(metavar="HOST[:PORT]", help="List what another computer's adb server holds; repeat for several."),
    ] = None,
    as_json: bool = JsonOption,
) -> None:
    """List attached devices: state, model, processor, profile and labels; exit code 3 when there is none."""
    from harness.devices.adb.discovery import list_devices, open_device
    from harness.devices.device_ref import server_at

    if clean:
        device = open_device(clean)
        if not all(record.given_back for record in _restore(device)):
            raise HarnessError(
                f"{clean}: {device.work_folder} is kept, since it holds the note of what is not given back yet.",
                "Restart the phone, which undoes most changes, then remove that folder by hand.",
            )
        device.remove(device.work_folder)
        console().print(f"{clean}: removed {device.work_folder}.", markup=False)
    elif restore:
        if not _restore(open_device(restore)):
            console().print(f"{restore}: nothing was left changed.", markup=False)
    elif write_profile:
        _write_profile(write_profile, output)
    else:
        servers = [server_at(name) for name in host or ()] or [None]
        found = [device for server in servers for device in list_devices(server, with_facts=True)]
        rows = [_row(device) for device in found]
        if as_json:
            print_json({"devices": rows})
        elif rows:
            _show(rows)
        else:
            error_console().print(
                "No device is attached. Plug in a phone with USB debugging on, or start a virtual one: "
                "harness phone start",
                soft_wrap=True,
            )
        if not rows:
            raise typer.Exit(ExitCode.NOTHING_TO_RUN_ON)


def _restore(device: Device) -> list[KnobRecord]:
    """Give back what was left changed, and say so."""
    from harness.devices.lease import lease
    from harness.devices.preparation.preparation import restore_leftovers

    def say(text: str) -> None:
        console().print(text, markup=False, soft_wrap=True)

    with lease(device.serial):  # what a running sweep changed is not left over
        records = restore_leftovers(device, report=say)
    for record in records:
        if record.given_back:
            say(f"{device.serial}: {record.name} was given back ({record.restored}).")
    return records


def _row(device: AttachedDevice) -> dict[str, Any]:
    from harness.devices.adb.discovery import open_device
    from harness.devices.profiles import match_profile
    from harness.devices.state.labels import preflight_labels
    from harness.devices.state.telemetry import read_telemetry
    from harness.errors import DeviceError

    row: dict[str, Any] = {"serial": device.serial, "state": device.state, "advice": device.state.advice}
    if device.facts is None:
        return row
    row |= {"title": device.facts.title, "facts": asdict(device.facts), "profile": match_profile(device.facts).name}
    try:
        row["labels"] = preflight_labels(device.facts, read_telemetry(open_device(device.serial)))
    except DeviceError as error:
        row["labels"] = (str(error),)
    return row


def _show(rows: list[dict[str, Any]]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.markup import escape
    from rich.table import Table

    # One block per phone: a column for each fact would break inside words at 80 columns.
    table = Table("serial", "state", "device", box=SIMPLE_HEAD, pad_edge=False)
    table.columns[0].no_wrap = table.columns[1].no_wrap = True
    for row in rows:
        lines = (escape(printable(line)) for line in _about(row))
        table.add_row(escape(printable(row["serial"])), escape(str(row["state"])), "\n".join(lines))
    console().print(table)
    for row in rows:
        if row["advice"]:
            error_console().print(f"{row['serial']} ({row['state']}): {row['advice']}", markup=False, soft_wrap=True)


def _about(row: dict[str, Any]) -> Iterator[str]:
    """Yield what is known of a device, line by line; nothing if it did not answer."""
    if facts := row.get("facts"):
        android = f"Android {facts['android_version'] or '?'} (API {facts['api_level'] or '?'})"
        processor = facts["soc"] or facts["board"] or "unknown processor"
        yield row["title"]
        yield ", ".join([android, processor, facts["abis"][0] if facts["abis"] else "unknown ABI"])
        yield f"cores: {_cores(facts['cores'])} MHz"
        yield f"profile: {row['profile']}"
        yield f"labels: {', '.join(row['labels'])}"


def _cores(cores: list[dict[str, Any]]) -> str:
    """Return cores grouped by speed, such as `4x1704 4x2367 1x2914`."""
    counts: dict[int | None, int] = {}
    for core in cores:
        counts[core["max_frequency_khz"]] = counts.get(core["max_frequency_khz"], 0) + 1
    return " ".join(f"{count}x{khz // 1000 if khz else '?'}" for khz, count in counts.items())


def _write_profile(serial: str, output: Path | None) -> None:
    from harness.devices.adb.discovery import open_device
    from harness.devices.profiles import profile_file_name, profile_text
    from harness.errors import UsageError

    facts = open_device(serial).facts()
    folder = output or Path("device_profiles")
    file = folder if folder.suffix == ".toml" else folder / profile_file_name(facts)
    if file.exists():
        raise UsageError(f"{file} is there already.", "Remove it first, or name another file with --output.")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(profile_text(facts), encoding="utf-8")
    console().print(f"Written: {file}", markup=False)
