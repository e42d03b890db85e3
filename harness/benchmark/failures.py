"""What a log that holds no good measurement says went wrong: a table of the runtime's own sentences.

The tool's exit code proves nothing: it is 0 in many bad cases. The first rule that matches decides, so causes stand
before their consequences (`std::bad_alloc` before `failed to prepare`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from harness.benchmark.log_lines import LogLine
from harness.errors import Failure, FailureClass


@dataclass(frozen=True)
class LogPattern:
    """A pattern in a line, the class it proves, and what to tell the user; `{0}` is the pattern's first group."""

    pattern: re.Pattern[str]
    failure_class: FailureClass
    message: str


def _rule(pattern: str, failure_class: FailureClass, message: str) -> LogPattern:
    return LogPattern(re.compile(pattern), failure_class, message)


RULES: tuple[LogPattern, ...] = (
    _rule(
        r"not executable: \d+-bit ELF file|[Ee]xec format error|cannot execute binary file|no closing quote"
        r"|syntax error: .*unexpected|\x7fELF",  # a shell that reads the binary as a script names its first bytes
        FailureClass.WRONG_ABI,
        "The tool was built for another kind of processor than this device's.",
    ),
    _rule(
        r"(?:can't execute|cannot execute|/benchmark_model\S*): [Pp]ermission denied",
        FailureClass.TOOL_OUTPUT_UNREADABLE,
        "The tool may not be executed on this device (permission denied).",
    ),
    _rule(r"No space left on device", FailureClass.STORAGE_FULL, "The device's storage is full."),
    _rule(
        r"std::bad_alloc|mmap error: 12|failed with error '12'|Cannot allocate memory|output_data != NULL' failed",
        FailureClass.OUT_OF_MEMORY,
        "The device has too little free memory for this model.",
    ),
    _rule(
        r"Encountered unresolved custom op: (\S+?)\.?$",
        FailureClass.UNSUPPORTED_OP,
        "The runtime has no custom operator {0}.",
    ),
    _rule(
        r"Select TensorFlow op\(s\), included in the given model",
        FailureClass.UNSUPPORTED_OP,
        "The model holds TensorFlow (Flex) operators, which this runtime does not have.",
    ),
    _rule(
        r"Didn't find op for builtin opcode '(\w+)' version '(\d+)'",
        FailureClass.UNSUPPORTED_OP_VERSION,
        "The runtime is older than the converter: it has no {0} version {1}.",
    ),
    _rule(
        r"not a valid Flatbuffer buffer|The model allocation is null/empty|Failed to load model|Could not open '"
        r"|Model file not found",
        FailureClass.INVALID_MODEL,
        "The runtime cannot read the model file.",
    ),
    _rule(
        r"Unconsumed cmdline flags: (.*)",
        FailureClass.TOOL_REJECTED_FLAG,
        "The tool ignored flags that it does not know ({0}), so it measured something else.",
    ),
    _rule(
        r"Failed to parse flag '(\w+)'|(?:Wrong|wrong) (?:input value|low and high)|contains more than one delimiter"
        r"|num_threads should be|must match the number of items|Please specify the name of your"
        r"|should have \d+ dimensions|Any unknown sizes in the shapes|Inputs mismatch"
        r"|Cannot find the corresponding input_layer name"
        r"|Failed to read the input_layer_value_file|It should be \d+ bytes|usage: \S+ <flags>",
        FailureClass.TOOL_REJECTED_FLAG,
        "The tool refused its arguments.",
    ),
    _rule(
        r"Disallowed CPU fallback detected",
        FailureClass.FELL_BACK,
        "The delegate did not take the whole graph, which was required.",
    ),
    _rule(
        r"\((cl[A-Z]\w+)\): ",
        FailureClass.DELEGATE_FAILED,
        "The GPU driver refused what the delegate asked of it ({0}).",
    ),
    _rule(
        r"Can not open OpenCL library|clGetPlatformIDs returned|clGetDeviceIDs returned|OpenGL-based API disabled",
        FailureClass.DELEGATE_UNAVAILABLE,
        "The device has no GPU driver that the delegate can use.",
    ),
    _rule(
        r"Node number \d+ \((?!TfLite)(\w+)\) failed to (?:prepare|invoke)",
        FailureClass.UNSUPPORTED_OP,
        "The runtime's operator {0} refused its inputs.",
    ),
    _rule(
        r"NN API returned error (\w+)",
        FailureClass.DELEGATE_FAILED,
        "The NNAPI driver failed with {0}.",
    ),
    _rule(
        r"Failed to apply (?:the default )?(.*?) delegate|\((TfLite\w*Delegate\w*)\) failed to (?:prepare|invoke)",
        FailureClass.DELEGATE_FAILED,
        "The delegate could not be applied to this model.",
    ),
)

_HARMLESS = re.compile(
    r"Restored original execution plan|Following operations are not supported|couldn't be opened for reading"
    r"|failed to get XNNPACK profile information|Falling back to OpenGL|[Ii]nference timings in us"
)
"""Lines at level ERROR that a good run may hold, or that only repeat another line."""

_PLAIN_ERRORS = re.compile(r"^(?:Failed to apply .* delegate\.|Benchmarking failed\.)|not executable: \d+-bit ELF file")
"""Sentences of the tool that old versions print without a level."""


def error_lines(lines: Sequence[LogLine]) -> list[LogLine]:
    """Return the lines that tell of an error, in order, each text once."""
    return list({line.text: line for line in reversed(lines) if _tells_of_error(line)}.values())[::-1]


def _tells_of_error(line: LogLine) -> bool:
    if _HARMLESS.search(line.text):
        return False
    from_runtime = not line.tag or line.tag == "tflite"  # other programs write to logcat too
    return (line.level in ("ERROR", "FATAL") and from_runtime) or bool(_PLAIN_ERRORS.search(line.text))


def find_failure(lines: Sequence[LogLine]) -> Failure | None:
    """Return the failure that the first matching rule proves, with its line as evidence; None if no rule matches."""
    for rule in RULES:
        for line in lines:
            match = rule.pattern.search(line.text)
            if match:
                groups = [group or "" for group in match.groups()]
                return Failure(rule.failure_class, rule.message.format(*groups), line.raw or line.text)
    return None
