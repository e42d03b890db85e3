"""Options on how to measure that `sweep` and `bench` share."""

from __future__ import annotations

import typer

RequireFullDelegationOption = typer.Option(
    False, "--require-full-delegation", help="Let a row fail whose accelerator leaves nodes to the CPU."
)
