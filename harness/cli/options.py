"""Options that several commands share."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer
from typer.models import OptionInfo

from harness.cli.completion import (
    complete_delegates,
    complete_devices,
    complete_models,
    complete_presets,
    complete_recipes,
)
from harness.errors import UsageError


def split_commas(values: list[str] | None) -> list[str] | None:
    """Take `a,b` for two values, but for the name of a file or library that holds a comma."""
    if values is None:
        return None
    whole = [value.startswith("external:") or Path(value).exists() for value in values]
    pairs = zip(values, whole, strict=True)
    parts = [part for value, is_one in pairs for part in ([value] if is_one else map(str.strip, value.split(",")))]
    return [part for part in parts if part]


def thread_counts(values: list[str] | None) -> list[int] | None:
    """Return what `--threads` asks for. Raises `UsageError` for what is no whole number."""
    if wrong := [value for value in values or () if not value.strip().isdecimal()]:
        raise UsageError(f"Invalid value {wrong[0]!r} for --threads.", "Choose whole numbers from 1, such as 1,4.")
    return None if values is None else [int(value) for value in values]


ModelOption = Annotated[
    str | None,
    typer.Option(
        help="A shipped model's name, a model's .toml or own file, or a SavedModel folder.",
        autocompletion=complete_models,
        show_default="fashion-dscnn",
    ),
]


def recipes_option(default: str) -> OptionInfo:
    """Return the option for recipes of a verb with this default."""
    option: OptionInfo = typer.Option(
        "--recipe",
        "-r",
        help="A recipe's name or TOML file; repeat for several, or separate by commas.",
        autocompletion=complete_recipes,
        callback=split_commas,
        show_default=default,
    )
    return option


DevicesOption = Annotated[
    list[str] | None,
    typer.Option(
        "--device",
        help="An ADB serial, host, virtual or virtual:RECORDING; repeat for several.",
        autocompletion=complete_devices,
        callback=split_commas,
        show_default="every attached phone, else this host",
    ),
]
DelegatesOption = Annotated[
    list[str] | None,
    typer.Option(
        "--delegate",
        help="cpu, cpu-builtin, gpu, nnapi or nnapi:ACCELERATOR; repeat for several.",
        autocompletion=complete_delegates,
        callback=split_commas,
        show_default="those of the device's profile",
    ),
]
ThreadsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--threads",
        metavar="COUNT",
        help="CPU threads; repeat for several, or separate by commas.",
        callback=split_commas,
        show_default="1",
    ),
]
PresetOption = Annotated[
    str | None,
    typer.Option(
        "--preset",
        help="quick, standard or strict: time against certainty.",
        autocompletion=complete_presets,
        show_default="quick",
    ),
]
InvocationsOption = Annotated[
    int | None, typer.Option("--invocations", help="Invocations per cell, at least 5.", show_default="5, 18 or 30")
]
RunsOption = Annotated[
    int | None, typer.Option("--runs", help="Timed runs per invocation.", show_default="30, 50 or 100")
]
TimeoutOption = Annotated[
    float | None, typer.Option("--timeout-s", help="Time limit per invocation, in seconds.", show_default="180")
]
PrepareOption = Annotated[
    bool, typer.Option("--prepare/--no-prepare", help="Prepare phones as their profiles ask, and restore them.")
]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Check everything, and print the plan and its expected duration.")
]

AllowCodeOption = typer.Option(
    False, "--allow-code", help="Run the code that belongs to a model: its custom_objects file and Lambda layers."
)


def let_code_run() -> None:
    """Allow this process and its workers to run the code of models."""
    from harness.compression.sources.code import allow_code

    allow_code()


RequireFullDelegationOption = typer.Option(
    False, "--require-full-delegation", help="Fail a cell if its accelerator leaves nodes to the CPU."
)
SustainedOption = typer.Option(
    None, "--sustained", metavar="TIME", help="Then run each cell without a pause for this long, such as 5m or 90s."
)
QuietOption = typer.Option(False, "--quiet", help="Show no progress, only results and errors.")
PlainOption = typer.Option(
    False, "--plain", help="Show progress as one line per event, as when stderr is not a terminal."
)

_DURATION = re.compile(r"(?P<number>\d{1,6}(?:\.\d{1,3})?)(?P<unit>[smhdw]?)")
_SECONDS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}


def duration_s(text: str) -> float:
    """Return the seconds of a time such as `5m`, `90s`, `90`, `1.5h` or `12w`. Raises `UsageError`."""
    match = _DURATION.fullmatch(text.strip())
    if match is None or not float(match["number"]):
        raise UsageError(f"Invalid duration {text!r}.", "Use 90s, 5m, 1h or 90d.")
    return float(match["number"]) * _SECONDS[match["unit"]]


DataOption = Annotated[
    str | None,
    typer.Option(
        "--data", metavar="FILE|FOLDER", help="Images in place of the model file's [data]: a .npz file or a folder."
    ),
]
PixelsOption = Annotated[
    str | None,
    typer.Option("--pixels", metavar="LOW..HIGH", help="What the pixels 0..255 become for the model, such as -1..1."),
]
_PIXELS = re.compile(r"(?P<low>-?\d+(?:\.\d+)?)\.\.(?P<high>-?\d+(?:\.\d+)?)")


def pixel_range(text: str | None) -> tuple[float, float] | None:
    """Return both ends of a range such as `0..1`. Raises `UsageError`."""
    if text is None:
        return None
    match = _PIXELS.fullmatch(text.strip())
    if match is None or float(match["low"]) == float(match["high"]):
        raise UsageError(f"Invalid value {text!r} for --pixels.", "Use a range such as 0..1, -1..1 or 0..255.")
    return float(match["low"]), float(match["high"])


ResultsOption = Annotated[
    str | None,
    typer.Option(
        "--results",
        metavar="FOLDER|URL",
        help="Results folder, or a shared database: postgresql://USER@HOST/DATABASE.",
        show_default="results",
    ),
]
