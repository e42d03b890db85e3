"""Numbers and names as people read them on a screen."""

from __future__ import annotations


def printable(text: object) -> str:
    """Return a name or sentence from outside on one line, with nothing in it that moves the cursor or turns text."""
    return "".join(
        sign if sign.isprintable() else " " if sign.isspace() else "\N{REPLACEMENT CHARACTER}" for sign in str(text)
    )


def number(value: float | None, digits: int = 3) -> str:
    """Return a number with `digits` significant digits and no exponent; `-` where there is none."""
    if value is None or is_missing(value):
        return "-"
    if value == 0:
        return "0"
    magnitude = len(str(int(abs(value)))) if abs(value) >= 1 else -_zeros_after_point(abs(value))
    return f"{value:.{max(0, digits - magnitude)}f}"


def _zeros_after_point(value: float) -> int:
    return len(f"{value:.12f}".split(".")[1]) - len(f"{value:.12f}".split(".")[1].lstrip("0"))


def is_missing(value: object) -> bool:
    """Tell whether a cell of a table is empty: None, NaN or pandas' own missing value."""
    if value is None or (isinstance(value, float) and value != value):  # noqa: PLR0124 - only NaN differs from itself
        return True
    return type(value).__name__ == "NAType"  # pandas' own, without loading pandas for a table that holds none
