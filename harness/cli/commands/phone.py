"""`harness phone`: virtual phones, made of the real adbd, and the Android SDK's emulators."""

from __future__ import annotations

from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from harness.cli.output import JsonOption, console, error_console, print_json
from harness.cli.verb import Verb
from harness.errors import HarnessError, UsageError

app = Verb(
    no_args_is_help=True,
    help="Build, start, change, break and stop virtual phones; start and stop emulators.",
    epilog="Example: harness phone start desk --like pixel-8, then harness sweep --device ADDRESS",
)

_SEE_LIST = "Run `harness phone list`."

NameArgument = Annotated[str, typer.Argument(help="The phone's name.")]


class FaultOption(StrEnum):
    """What can be done to a running phone."""

    CRASH = "crash"
    HANG = "hang"
    UNHANG = "unhang"
    OFF = "off"
    ON = "on"
    REBOOT = "reboot"
    FILL_STORAGE = "fill-storage"
    FREE_STORAGE = "free-storage"
    SLOW_CABLE = "slow-cable"
    STOP_CABLE = "stop-cable"
    GO_CABLE = "go-cable"
    CUT_CABLE = "cut-cable"
    PLUG_CABLE = "plug-cable"
    REVOKE_KEYS = "revoke-keys"
    ACCEPT_KEYS = "accept-keys"


@app.command(epilog="Example: harness phone build")
def build() -> None:
    """Build the root folder that all phones share, from Debian's packages (once, cached)."""
    from harness.virtual_phone.base_image import base_image

    console().print(str(base_image(_tell)), soft_wrap=True)


@app.command(epilog="Examples: harness phone start desk --like galaxy-s9-us --cable; harness phone start --avd Pixel_8")
def start(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="A name of your choice.")] = "phone",
    like: Annotated[str, typer.Option(help="A shipped recording, or the JSON record of a phone.")] = "pixel-8",
    port: Annotated[int | None, typer.Option(help="Where adbd listens; default: the first free one.")] = None,
    tools: Annotated[
        Path | None, typer.Option(help="Folder of the official tools; default: the registered one, if any.")
    ] = None,
    broken_gpu: Annotated[bool, typer.Option("--broken-gpu", help="A GPU driver that fails in silence.")] = False,
    data_size: Annotated[str, typer.Option(help="Size of /data, such as 64m.")] = "512m",
    auth: Annotated[bool, typer.Option("--auth", help="Ask for a key, as a phone does.")] = False,
    keys: Annotated[Path | None, typer.Option(help="File of public keys that the phone trusts.")] = None,
    cable: Annotated[bool, typer.Option("--cable", help="Put a cable between that can be slowed and cut.")] = False,
    cores: Annotated[str | None, typer.Option(help="Pin to this machine's cores, such as 0 or 0-1.")] = None,
    shell_user: Annotated[bool, typer.Option("--shell-user", help="Run adbd as uid 2000 (root only).")] = False,
    avd: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Start this virtual device of the Android SDK's emulator instead."),
    ] = None,
    boot_timeout: Annotated[float, typer.Option(help="Seconds that an emulator may take to boot.", min=1)] = 300.0,
    as_json: bool = JsonOption,
) -> None:
    """Start a virtual phone and connect it, or with --avd start an emulator; it runs until it is stopped."""
    if avd is not None:
        _start_emulator(context, avd, boot_timeout, as_json)
        return
    from harness.virtual_phone.phone import VirtualPhone

    phone = VirtualPhone.start(
        name,
        like=like,
        port=port,
        vendor=tools or _registered_tools(),
        broken_gpu=broken_gpu,
        data_size=data_size,
        authorize=auth,
        authorized_keys=keys,
        cable=cable,
        cores=cores,
        shell_user=shell_user,
        report=_tell,
    )
    problem = _connect(phone.serial)
    if as_json:
        print_json({"name": phone.name, "serial": phone.serial, "like": phone.like, "connected": not problem})
    elif problem:
        console().print(f"{phone.name} ({phone.like}) runs but is not connected: {problem}", markup=False)
        console().print(f"  Connect it: adb connect {phone.serial}", markup=False)
    else:
        console().print(f"{phone.name} ({phone.like}) is connected: use --device {phone.serial}", markup=False)


@app.command(epilog="Example: harness phone stop --all")
def stop(
    name: Annotated[str | None, typer.Argument(help="The phone's name.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Stop all phones.")] = False,
) -> None:
    """Stop a phone and forget its files, or stop an emulator that harness started."""
    from harness.devices.adb.discovery import disconnect
    from harness.devices.adb.emulator import running_emulators, stop_emulator
    from harness.virtual_phone.phone import running_phones

    if everything == (name is not None):
        raise UsageError("Name one phone, or say --all.", "Run `harness phone list` to see them.")
    phones = [phone for phone in running_phones() if everything or phone.name == name]
    emulators = [emulator for emulator in running_emulators() if everything or emulator.name == name]
    if name is not None and not phones and not emulators:
        raise UsageError(f"No virtual phone {name!r} runs, and no emulator that harness started.", _SEE_LIST)
    if name is not None and phones and emulators:
        raise UsageError(f"A virtual phone and an emulator are both called {name!r}.", "Stop both with --all.")
    for phone in phones:
        with suppress(HarnessError, OSError):  # without an adb server nothing is connected
            disconnect(phone.serial)
        phone.stop()
        console().print(f"Stopped: {phone.name}.", markup=False)
    for emulator in emulators:
        stop_emulator(emulator)
        console().print(f"Stopped: {emulator.name}.", markup=False)


@app.command("list", epilog="Example: harness phone list --json")
def list_phones(as_json: bool = JsonOption) -> None:
    """List the running phones and emulators, and the recordings that are shipped."""
    from rich.markup import escape
    from rich.table import Table

    from harness.devices.adb.emulator import running_emulators
    from harness.virtual_phone.phone import running_phones
    from harness.virtual_phone.recording import shipped_recordings

    phones = [{"name": phone.name, "serial": phone.serial, "like": phone.like} for phone in running_phones()]
    emulators = [{"name": emulator.name, "serial": emulator.serial} for emulator in running_emulators()]
    if as_json:
        print_json({"phones": phones, "emulators": emulators, "recordings": shipped_recordings()})
        return
    if phones or emulators:
        table = Table("name", "serial", "like")
        for phone in phones:
            table.add_row(*map(escape, phone.values()))
        for emulator in emulators:
            table.add_row(*map(escape, emulator.values()), "emulator")
        console().print(table)
    else:
        console().print("No virtual phone runs, and no emulator that harness started.")
    error_console().print(f"Recordings: {', '.join(shipped_recordings())}", markup=False)


@app.command("set", epilog="Example: harness phone set desk --battery-level 12 --thermal-status 3")
def set_state(
    name: NameArgument,
    battery_level: Annotated[int | None, typer.Option(help="Percent.")] = None,
    thermal_status: Annotated[int | None, typer.Option(help="0 none to 6 shutdown.")] = None,
    temperature: Annotated[
        list[str] | None, typer.Option(metavar="ZONE=CELSIUS", help="A thermal zone's temperature; repeat for several.")
    ] = None,
    setting: Annotated[
        list[str] | None, typer.Option(metavar="NAMESPACE.KEY=VALUE", help="An Android setting; repeat for several.")
    ] = None,
    prop: Annotated[
        list[str] | None, typer.Option("--property", metavar="KEY=VALUE", help="A property; repeat for several.")
    ] = None,
) -> None:
    """Change what a running phone says of itself."""
    from harness.virtual_phone.phone import VirtualPhone

    phone = VirtualPhone(name)
    if battery_level is not None:
        phone.controls.set_battery(level=battery_level)
    if thermal_status is not None:
        phone.controls.set_thermal_status(thermal_status)
    for zone, degrees in map(_pair, temperature or []):
        if not zone.isdecimal() or not degrees.replace(".", "", 1).lstrip("-").isdecimal():
            raise UsageError(f"--temperature: found {zone}={degrees}.", "Write it as 0=41.5.")
        phone.controls.set_zone_temperature(int(zone), float(degrees))
    for key, value in map(_pair, setting or []):
        namespace, _, setting_key = key.partition(".")
        phone.controls.set_setting(namespace, setting_key, value)
    for key, value in map(_pair, prop or []):
        phone.controls.set_property(key, value)


@app.command(epilog="Example: harness phone fault desk reboot --seconds 5")
def fault(
    name: NameArgument,
    what: Annotated[FaultOption, typer.Argument(help="What happens to the phone.")],
    seconds: Annotated[float, typer.Option(help="How long a reboot takes.")] = 2.0,
    rate: Annotated[float, typer.Option(help="Bytes a second of a slow cable; 0 lifts the limit.")] = 100_000.0,
) -> None:
    """Break a running phone, or repair it."""
    from harness.virtual_phone.phone import VirtualPhone

    phone = VirtualPhone(name)
    actions = {
        FaultOption.CRASH: phone.faults.crash_adbd,
        FaultOption.HANG: phone.faults.hang,
        FaultOption.UNHANG: phone.faults.unhang,
        FaultOption.OFF: phone.faults.switch_off,
        FaultOption.ON: phone.faults.switch_on,
        FaultOption.REBOOT: lambda: phone.faults.reboot(seconds),
        FaultOption.FILL_STORAGE: phone.faults.fill_storage,
        FaultOption.FREE_STORAGE: phone.faults.free_storage,
        FaultOption.SLOW_CABLE: lambda: phone.faults.slow_cable(rate or None),
        FaultOption.STOP_CABLE: phone.faults.stop_cable,
        FaultOption.GO_CABLE: phone.faults.go_cable,
        FaultOption.CUT_CABLE: phone.faults.cut_cable,
        FaultOption.PLUG_CABLE: phone.faults.plug_cable,
        FaultOption.REVOKE_KEYS: phone.faults.revoke_keys,
        FaultOption.ACCEPT_KEYS: phone.faults.accept_keys,
    }
    actions[what]()
    console().print(f"{name}: {what}.", markup=False)


def _connect(serial: str) -> str:
    """Connect the adb server to a phone; return why that failed, or nothing."""
    from harness.devices.adb.discovery import connect

    try:
        connect(serial)
    except HarnessError as error:
        return str(error)
    return ""


def _start_emulator(context: typer.Context, avd: str, boot_timeout_s: float, as_json: bool) -> None:
    from harness.devices.adb.emulator import start_emulator

    sources = {name: context.get_parameter_source(name) for name in context.params}
    given = [name for name, source in sources.items() if source and source.name == "COMMANDLINE"]
    if of_phones := sorted(name for name in given if name not in ("avd", "boot_timeout", "as_json")):
        options = ", ".join("NAME" if name == "name" else f"--{name.replace('_', '-')}" for name in of_phones)
        raise UsageError(f"--avd starts an emulator, which has no {options}.", "Change it with the SDK's avdmanager.")
    emulator = start_emulator(avd, timeout_s=boot_timeout_s, report=_tell)
    if as_json:
        print_json({"name": emulator.name, "serial": emulator.serial})
    else:
        console().print(f"{emulator.name} has booted: use --device {emulator.serial}", markup=False)


def _registered_tools() -> Path | None:
    """Return the vendor folder of the registered tool for virtual phones, if there is one."""
    from harness.benchmark.registry import ToolRegistry

    return next((tool.vendor_folder for tool in ToolRegistry(report=_tell).tools() if tool.vendor_folder), None)


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise UsageError(f"Invalid setting {text!r}.", "Use KEY=VALUE.")
    return key, value


def _tell(text: str) -> None:
    error_console().print(text, markup=False)
