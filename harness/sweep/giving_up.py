"""After which failures no more is run of a cell."""

from __future__ import annotations

from collections.abc import Sequence

from harness.errors import FailureClass

HOPELESS = frozenset(
    {
        FailureClass.FELL_BACK,
        FailureClass.UNSUPPORTED_OP,
        FailureClass.UNSUPPORTED_OP_VERSION,
        FailureClass.DELEGATE_UNAVAILABLE,
        FailureClass.INVALID_MODEL,
        FailureClass.WRONG_ABI,
        FailureClass.TOOL_REJECTED_FLAG,
        FailureClass.CORES_UNAVAILABLE,
    }
)
"""Classes that a second try cannot mend: the cell is given up after the first."""

FAILURES_BEFORE_GIVING_UP = 2


def gives_up(failures: Sequence[FailureClass]) -> bool:
    """Tell whether no more is run of a cell after failures of its own."""
    return not HOPELESS.isdisjoint(failures) or len(failures) >= FAILURES_BEFORE_GIVING_UP
