"""Tell from a card whether a runtime will load the variant, before anything is pushed to a phone."""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path

from harness.errors import Failure, FailureClass
from harness.tflite.variant import VariantCard

CURRENT = "current"
"""The target that takes whatever the converter makes."""

_TABLE = Path(__file__).with_name("runtime_operators.toml")
_RUNTIME_CUSTOM_OPERATORS = frozenset({"Mfcc", "AudioSpectrogram", "NumericVerify", "TFLite_Detection_PostProcess"})
"""Custom operators that the stock runtime brings along."""


def known_runtimes() -> tuple[str, ...]:
    """Return the runtimes (major.minor) whose operator versions are known."""
    return tuple(_limits())


def foresee_failure(card: VariantCard, runtime: str) -> Failure | None:
    """Return why `runtime` (such as `2.14` or `2.14.1`) will refuse the variant, None if nothing speaks against it.

    Of a runtime that is not in the table only custom operators are foreseen.
    """
    foreign = sorted(set(card.custom_operators) - _RUNTIME_CUSTOM_OPERATORS)
    if foreign:
        return Failure(
            FailureClass.UNSUPPORTED_OP,
            f"Variant {card.recipe} needs operators that the stock runtime does not have: {', '.join(foreign)}.",
        )
    limits = _limits().get(".".join(runtime.split(".")[:2]))
    if limits is None:
        return None
    builtin = {name: version for name, version in card.operator_versions.items() if name not in card.custom_operators}
    unknown = sorted(builtin.keys() - limits.keys())
    if unknown:
        return Failure(
            FailureClass.UNSUPPORTED_OP, f"Runtime {runtime} does not have {', '.join(unknown)} of {card.recipe}."
        )
    newer = [f"{name} version {version}" for name, version in builtin.items() if version > limits[name]]
    if newer:
        allowed = ", ".join(f"{name} {limits[name]}" for name, version in builtin.items() if version > limits[name])
        return Failure(
            FailureClass.UNSUPPORTED_OP_VERSION,
            f"Variant {card.recipe} has {', '.join(newer)}; runtime {runtime} goes up to {allowed}.",
        )
    return None


@cache
def _limits() -> dict[str, dict[str, int]]:
    return tomllib.loads(_TABLE.read_text(encoding="utf-8"))
