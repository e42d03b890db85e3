"""Every failure class that a user can meet, and what to do about each.

Two kinds of trouble are kept apart:

* A `Failure` is a *value*. One invocation, one variant or one device went wrong; it is stored in the results with
  its class and evidence, and the rest of the sweep goes on.
* A `HarnessError` is an *exception*. The command as a whole cannot go on; its message is printed as one sentence,
  followed by the advice, and the process ends with its exit code.

`DeviceError` is the bridge: device code raises it with a `Failure` inside, and the sweep stores that failure.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum


class ExitCode(IntEnum):
    """What the process tells its caller."""

    OK = 0
    CELL_FAILED = 1
    """Done, but a cell failed or a regression was found."""
    BAD_USAGE = 2
    """Bad usage or a bad spec."""
    NOTHING_TO_RUN_ON = 3
    """No device, no tool or no data."""
    INTERRUPTED = 4
    """Stopped by the user; what is done is kept."""


class FailureClass(StrEnum):
    """The classes of failure, as they are stored and shown."""

    UNSUPPORTED_OP = "unsupported_op"
    UNSUPPORTED_OP_VERSION = "unsupported_op_version"
    DELEGATE_UNAVAILABLE = "delegate_unavailable"
    DELEGATE_FAILED = "delegate_failed"
    FELL_BACK = "fell_back"
    WRONG_OUTPUT = "wrong_output"
    ACCURACY_LOST = "accuracy_lost"
    CRASHED = "crashed"
    OUT_OF_MEMORY = "out_of_memory"
    TIMEOUT = "timeout"
    DEVICE_OFFLINE = "device_offline"
    DEVICE_UNAUTHORIZED = "device_unauthorized"
    DEVICE_LOST = "device_lost"
    STORAGE_FULL = "storage_full"
    WRONG_ABI = "wrong_abi"
    TOOL_MISSING = "tool_missing"
    TOOL_REJECTED_FLAG = "tool_rejected_flag"
    TOOL_OUTPUT_UNREADABLE = "tool_output_unreadable"
    INVALID_MODEL = "invalid_model"
    CONVERSION_FAILED = "conversion_failed"
    THROTTLED = "throttled"
    CORES_UNAVAILABLE = "cores_unavailable"
    PUSH_CORRUPT = "push_corrupt"
    DEVICE_CHANGED = "device_changed"
    TAMPERED = "tampered"
    INTERRUPTED = "interrupted"
    INTERNAL = "internal"

    @property
    def advice(self) -> str:
        """What the user can do about a failure of this class."""
        return _ADVICE[self]


DEVICE_GONE = frozenset({FailureClass.DEVICE_LOST, FailureClass.DEVICE_OFFLINE, FailureClass.DEVICE_UNAUTHORIZED})
"""Classes that say nothing about what was measured: the device is waited for, and the same is tried again."""

NOT_CAUSED_BY_THE_CELL = frozenset(
    {
        FailureClass.DEVICE_OFFLINE,
        FailureClass.DEVICE_UNAUTHORIZED,
        FailureClass.DEVICE_LOST,
        FailureClass.STORAGE_FULL,
        FailureClass.PUSH_CORRUPT,
        FailureClass.TAMPERED,
        FailureClass.THROTTLED,
        FailureClass.INTERRUPTED,
        FailureClass.TOOL_MISSING,
    }
)
"""Failures that the cell did not cause: the invocation is kept but not done, so --resume tries it again."""


def is_final(failure_class: str | None) -> bool:
    """Return True if an invocation with this failure, or with none, needs no retry."""
    return failure_class is None or failure_class not in NOT_CAUSED_BY_THE_CELL


_ADVICE: dict[FailureClass, str] = {
    FailureClass.UNSUPPORTED_OP: (
        "The runtime on the device lacks an operator of this model: use a newer tool (`harness tools add`), "
        "or convert the model without custom or Flex operators."
    ),
    FailureClass.UNSUPPORTED_OP_VERSION: (
        "The converter is newer than the runtime on the device: set target_runtime in the recipe to the tool's "
        "version, or add a newer tool with `harness tools add`."
    ),
    FailureClass.DELEGATE_UNAVAILABLE: (
        "This device or tool does not offer the delegate: leave it out, or use a tool that was built with it."
    ),
    FailureClass.DELEGATE_FAILED: (
        "The delegate refused this model: read the runtime's own sentence in the evidence, then use the cpu delegate, "
        "or cpu-builtin if it was cpu."
    ),
    FailureClass.FELL_BACK: (
        "Part of the model ran on the CPU, so this latency is not ranked: `harness results show --json` has the "
        "evidence, and the runtime's own reason where it gives one. `--require-full-delegation` makes such a row a "
        "failure."
    ),
    FailureClass.WRONG_OUTPUT: (
        "The outputs on this delegate are wrong: do not ship this variant with it. Try another type or a newer driver."
    ),
    FailureClass.ACCURACY_LOST: (
        "Compression changed what the model answers, on every device alike: do not ship this variant. Calibrate on "
        "more varied data, keep the noisiest layers in float (`harness evaluate --mixed`), or choose a milder recipe."
    ),
    FailureClass.CRASHED: "The tool was killed by a signal: read the evidence, then try another delegate.",
    FailureClass.OUT_OF_MEMORY: "Use a smaller variant or batch, or close other apps on the device.",
    FailureClass.TIMEOUT: "Raise the time limit in the spec, or check whether the device is hung (`harness devices`).",
    FailureClass.DEVICE_OFFLINE: (
        "Reconnect the cable or run `adb reconnect`, then start again; a sweep goes on with --resume."
    ),
    FailureClass.DEVICE_UNAUTHORIZED: (
        'Unlock the phone and accept "Allow USB debugging?"; without a dialog, toggle USB debugging off and on.'
    ),
    FailureClass.DEVICE_LOST: (
        "The device went away: check cable and power, then start again; a sweep goes on with --resume."
    ),
    FailureClass.STORAGE_FULL: (
        "Free space on the device (or on this host), then start again; a sweep goes on with --resume."
    ),
    FailureClass.WRONG_ABI: "Add a tool built for this device's ABI: `harness tools add PATH`.",
    FailureClass.TOOL_MISSING: (
        "Register a tool for this device: `harness tools fetch android-arm64` for a phone; for a virtual phone "
        "`harness tools add ARCHIVE`, or set HARNESS_TFLITE_TOOLS to the archive of the official tools."
    ),
    FailureClass.TOOL_REJECTED_FLAG: (
        "The tool does not know a flag that it was sent, so something else was measured: run `harness tools probe`."
    ),
    FailureClass.TOOL_OUTPUT_UNREADABLE: (
        "The tool's log holds no usable measurement: look at the raw log; if the tool is new, please report it."
    ),
    FailureClass.INVALID_MODEL: "This model file cannot be used: do what the message says, or export it again.",
    FailureClass.CONVERSION_FAILED: (
        "This recipe does not work on this model: fix what the message names, or leave the recipe out."
    ),
    FailureClass.THROTTLED: "The device was too hot: let it cool, or raise the thermal limit in its profile knowingly.",
    FailureClass.CORES_UNAVAILABLE: (
        "Ask for fewer threads, or name other cores in the device's profile (`cores`): equal ones, one for each thread."
    ),
    FailureClass.PUSH_CORRUPT: "What arrived on the device differs from what was sent: check cable and storage.",
    FailureClass.DEVICE_CHANGED: (
        "Numbers from before and after it share no sweep: start a new one, and compare the two with `--allow os`."
    ),
    FailureClass.TAMPERED: (
        "Something changed the tool or the variant on the device while it was measured: find out what writes to "
        "harness's folder there, then measure again with --resume, which pushes both again."
    ),
    FailureClass.INTERRUPTED: "Start again; a sweep goes on with --resume, and repeats nothing that is done.",
    FailureClass.INTERNAL: "This is a fault of harness: please report it with the evidence.",
}


@dataclass(frozen=True)
class Failure:
    """One thing that went wrong, as data: its class, one sentence, and the lines that prove it."""

    failure_class: FailureClass
    message: str
    evidence: str = ""

    @property
    def advice(self) -> str:
        """What the user can do about it."""
        return self.failure_class.advice


class HarnessError(Exception):
    """The command cannot go on. `str()` is one clear sentence; `advice` says what to do next."""

    exit_code: ExitCode = ExitCode.CELL_FAILED

    def __init__(self, message: str, advice: str = "") -> None:
        super().__init__(message)
        self.advice = advice


class UsageError(HarnessError):
    """A bad argument or a bad spec file."""

    exit_code = ExitCode.BAD_USAGE


class MissingPrerequisiteError(HarnessError):
    """No device, no tool or no data to do what was asked."""

    exit_code = ExitCode.NOTHING_TO_RUN_ON


class FailureError(HarnessError):
    """A `Failure` on its way to the place that stores it."""

    def __init__(self, failure: Failure, advice: str = "") -> None:
        """`advice` fits the case better than that of the failure's class."""
        super().__init__(failure.message, advice or failure.advice)
        self.failure = failure


class DeviceError(FailureError):
    """Talking to a device failed."""


class CompressionError(FailureError):
    """Building a variant failed."""
