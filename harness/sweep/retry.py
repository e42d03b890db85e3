"""Decide per failure class how often harness tries again, after which pause, and what it does before."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from harness.errors import FailureClass, is_final


class Remedy(StrEnum):
    """What is done after a failure, before anything else runs on the device."""

    NOTHING = "nothing"
    COOL = "the thermal gate waits until the phone is cool"
    LOOK = "it is looked whether the phone answers"
    """Where it does not, that is a failure of its own: `WAIT`."""
    WAIT = "harness waits for the phone and reconnects"


@dataclass(frozen=True)
class RetryRule:
    """What a failure of one class calls for."""

    tries: int
    """How often the same is done in all, as long as it fails with this class."""
    remedy: Remedy = Remedy.NOTHING
    backoff_s: float = 0.0
    """Pause before the second try; it doubles with each further one."""
    ends_cell: bool = True
    """True if the rest of a cell is left out when the last try failed like this."""
    is_fault: bool = False
    """True if it speaks against the phone: one with too many faults is left out of the sweep."""


_NEVER = RetryRule(tries=1)
"""The same would come again: it lies in the model, the tool or the spec, or needs a person."""
_ONCE_MORE = RetryRule(tries=2, remedy=Remedy.LOOK, backoff_s=1.0)
_GONE = RetryRule(tries=3, remedy=Remedy.WAIT, backoff_s=1.0, is_fault=True)

RULES: Mapping[FailureClass, RetryRule] = {
    FailureClass.UNSUPPORTED_OP: _NEVER,
    FailureClass.UNSUPPORTED_OP_VERSION: _NEVER,
    FailureClass.DELEGATE_UNAVAILABLE: _NEVER,
    FailureClass.DELEGATE_FAILED: _ONCE_MORE,  # a driver that was short of memory for a moment refuses like this
    FailureClass.FELL_BACK: _NEVER,
    FailureClass.WRONG_OUTPUT: _NEVER,
    FailureClass.ACCURACY_LOST: _NEVER,
    FailureClass.CRASHED: _ONCE_MORE,
    FailureClass.OUT_OF_MEMORY: RetryRule(
        tries=2, remedy=Remedy.LOOK, backoff_s=5.0
    ),  # until other apps have let go of it
    FailureClass.TIMEOUT: _ONCE_MORE,  # a hung phone looks like a slow tool
    FailureClass.DEVICE_OFFLINE: _GONE,
    FailureClass.DEVICE_UNAUTHORIZED: _GONE,
    FailureClass.DEVICE_LOST: _GONE,
    FailureClass.STORAGE_FULL: _NEVER,
    FailureClass.WRONG_ABI: _NEVER,
    FailureClass.TOOL_MISSING: _NEVER,
    FailureClass.TOOL_REJECTED_FLAG: _NEVER,
    FailureClass.TOOL_OUTPUT_UNREADABLE: _ONCE_MORE,
    FailureClass.INVALID_MODEL: _NEVER,
    FailureClass.CONVERSION_FAILED: _NEVER,
    FailureClass.THROTTLED: RetryRule(tries=3, remedy=Remedy.COOL, ends_cell=False),  # heat says nothing of the cell
    FailureClass.CORES_UNAVAILABLE: _NEVER,
    FailureClass.PUSH_CORRUPT: RetryRule(tries=3, remedy=Remedy.LOOK, backoff_s=1.0, is_fault=True),
    FailureClass.DEVICE_CHANGED: _NEVER,
    FailureClass.TAMPERED: _NEVER,
    FailureClass.INTERRUPTED: _NEVER,
    FailureClass.INTERNAL: _NEVER,
}
"""One rule per class; nothing else decides about retries."""

_JITTER = 0.5
"""A pause is up to this share shorter or longer, so that phones that were lost together do not return together."""


class RetryPolicy(StrEnum):
    """Which failures of an operation are worth the tries that `RULES` allow."""

    ALL = "all"
    EXTERNAL_ONLY = "external only"
    """Failures that the cell did not cause: a failure that decides nothing need not be certain."""
    NONE = "none"

    def allows(self, failure_class: FailureClass) -> bool:
        """Return True if a failure of this class may be retried."""
        return self is RetryPolicy.ALL or (self is RetryPolicy.EXTERNAL_ONLY and not is_final(failure_class))


class Tries:
    """The tries of one thing on one device. Each class has its own number, so that two troubles at once both pass."""

    def __init__(self, seed: str, policy: RetryPolicy = RetryPolicy.ALL) -> None:
        """`seed` names the thing and its sweep: the same pauses are drawn for the same."""
        self._seed = seed
        self._policy = policy
        self._failed: Counter[FailureClass] = Counter()

    def failed(self, failure_class: FailureClass) -> float | None:
        """Count a failure; return the pause in seconds before the next try, None if there is none."""
        rule = RULES[failure_class]
        self._failed[failure_class] += 1
        times = self._failed[failure_class]
        if times >= rule.tries or not self._policy.allows(failure_class):
            return None
        jitter = random.Random(f"{self._seed}/{failure_class}/{times}").uniform(-_JITTER, _JITTER)  # noqa: S311
        return float(rule.backoff_s * 2 ** (times - 1) * (1 + jitter))
