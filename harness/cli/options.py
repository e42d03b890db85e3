"""Options that several commands share."""

from __future__ import annotations

import re
from typing import Annotated

import typer

from harness.errors import UsageError

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


ResultsOption = Annotated[
    str | None,
    typer.Option(
        "--results",
        metavar="FOLDER|URL",
        help="Results folder, or a shared database: postgresql://USER@HOST/DATABASE; default: results/.",
    ),
]
