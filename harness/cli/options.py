"""`--allow-code`, which the commands that load models share."""

from __future__ import annotations

import typer

AllowCodeOption = typer.Option(
    False, "--allow-code", help="Run the code that belongs to a model: its custom_objects file and Lambda layers."
)


def let_code_run() -> None:
    """Let this process and its workers run such code."""
    from harness.compression.sources.code import allow_code

    allow_code()
