"""What a log that holds no good measurement says went wrong: a table of the runtime's own sentences.

The tool's exit code proves nothing: it is 0 in many bad cases. The first rule that matches decides, so causes stand
before their consequences (`std::bad_alloc` before `failed to prepare`).
"""

from __future__ import annotations

import re
import signal
from collections.abc import Sequence
from dataclasses import dataclass

from harness.benchmark.log_lines import LogLine, is_named, words_in
from harness.errors import Failure, FailureClass


@dataclass(frozen=True)
class LogPattern:
    """Sentences of a line, the class they prove, and the message; `{0}` is the first group of `pattern`.

    Only lines with one of `words` are searched for `pattern`: a phone may print ten megabytes of noise.
    """

    words: tuple[str, ...]
    failure_class: FailureClass
    message: str
    pattern: re.Pattern[str] | None = None


def _rule(failure_class: FailureClass, message: str, *words: str, pattern: str | None = None) -> LogPattern:
    return LogPattern(words, failure_class, message, re.compile(pattern) if pattern else None)


_OTHER_PROCESSOR = "The tool was built for another kind of processor than this device's."
_REFUSED_ARGUMENTS = "The tool refused its arguments."

RULES: tuple[LogPattern, ...] = (
    _rule(
        FailureClass.WRONG_ABI,
        _OTHER_PROCESSOR,
        *("-bit ELF file", "xec format error", "cannot execute binary file", "no closing quote", "\x7fELF"),
    ),
    _rule(  # a shell that reads the binary as a script
        FailureClass.WRONG_ABI,
        _OTHER_PROCESSOR,
        "syntax error: ",
        pattern=r"syntax error: .{0,200}unexpected",
    ),
    _rule(
        FailureClass.TOOL_OUTPUT_UNREADABLE,
        "The tool may not be executed on this device (permission denied).",
        *(": permission denied", ": Permission denied"),
        pattern=r"(?:can't execute|cannot execute|/benchmark_model\S{0,99}): [Pp]ermission denied",
    ),
    _rule(FailureClass.STORAGE_FULL, "The device's storage is full.", "No space left on device"),
    _rule(
        FailureClass.OUT_OF_MEMORY,
        "The device has too little free memory for this model.",
        *("std::bad_alloc", "mmap error: 12", "failed with error '12'", "Cannot allocate memory"),
        "output_data != NULL' failed",
    ),
    _rule(
        FailureClass.UNSUPPORTED_OP,
        "The runtime has no custom operator {0}.",
        "Encountered unresolved custom op: ",
        pattern=r"Encountered unresolved custom op: (\S{1,200}?)\.?$",
    ),
    _rule(
        FailureClass.UNSUPPORTED_OP,
        "The model holds TensorFlow (Flex) operators, which this runtime does not have.",
        "Select TensorFlow op(s), included in the given model",
    ),
    _rule(
        FailureClass.UNSUPPORTED_OP_VERSION,
        "The runtime is older than the converter: it has no {0} version {1}.",
        "Didn't find op for builtin opcode ",
        pattern=r"Didn't find op for builtin opcode '(\w{1,99})' version '(\d{1,9})'",
    ),
    _rule(
        FailureClass.INVALID_MODEL,
        "The runtime cannot read the model file.",
        *("not a valid Flatbuffer buffer", "The model allocation is null/empty", "Failed to load model"),
        *("Could not open '", "Model file not found"),
    ),
    _rule(
        FailureClass.TOOL_REJECTED_FLAG,
        _REFUSED_ARGUMENTS,
        *("Failed to parse flag '", "rong input value", "rong low and high", "contains more than one delimiter"),
        *("num_threads should be", "must match the number of items", "Please specify the name of your"),
        *("Any unknown sizes in the shapes", "Inputs mismatch", "Cannot find the corresponding input_layer name"),
        "Failed to read the input_layer_value_file",
    ),
    _rule(
        FailureClass.TOOL_REJECTED_FLAG,
        _REFUSED_ARGUMENTS,
        *("should have ", "It should be ", "usage: "),
        pattern=r"should have \d{1,9} dimensions|It should be \d{1,18} bytes|usage: \S{1,400} <flags>",
    ),
    _rule(
        FailureClass.TOOL_REJECTED_FLAG,
        "The tool ignored flags that it does not know ({0}), so it measured something else.",
        "Unconsumed cmdline flags: ",
        pattern=r"Unconsumed cmdline flags: (.*)",
    ),
    _rule(
        FailureClass.FELL_BACK,
        "The delegate did not take the whole graph, which was required.",
        "Disallowed CPU fallback detected",
    ),
    _rule(
        FailureClass.DELEGATE_FAILED,
        "The GPU driver refused what the delegate asked of it ({0}).",
        "(cl",
        pattern=r"\((cl[A-Z]\w{1,60})\): ",
    ),
    _rule(
        FailureClass.DELEGATE_FAILED,
        "The GPU driver cannot compile the delegate's kernels.",
        "Failed to build program executable",
    ),
    _rule(
        FailureClass.DELEGATE_UNAVAILABLE,
        "The device has no GPU driver that the delegate can use.",
        *("Can not open OpenCL library", "clGetPlatformIDs returned", "clGetDeviceIDs returned"),
        "OpenGL-based API disabled",
    ),
    _rule(
        FailureClass.DELEGATE_UNAVAILABLE,
        "The device has no NPU runtime that the delegate can use.",
        *("Failed to create a dispatch delegate kernel", "No usable Dispatch runtime"),
    ),
    _rule(
        FailureClass.DELEGATE_UNAVAILABLE,
        "The device has no NNAPI accelerator {0}. It offers {1}.",
        "Could not find the specified NNAPI accelerator: ",
        pattern=r"Could not find the specified NNAPI accelerator: (\S{1,200})\. Must be one of: \{(.{0,400}?)\}",
    ),
    _rule(
        FailureClass.UNSUPPORTED_OP,
        "The runtime's operator {0} refused its inputs.",
        "Node number ",
        pattern=r"Node number \d{1,18} \((?!TfLite)(\w{1,99})\) failed to (?:prepare|invoke)",
    ),
    _rule(
        FailureClass.DELEGATE_FAILED,
        "The NNAPI driver failed with {0}.",
        "NN API returned error ",
        pattern=r"NN API returned error (\w{1,99})",
    ),
    _rule(
        FailureClass.DELEGATE_FAILED,
        "XNNPACK cannot run the {0} of this model; cpu-builtin runs it on the runtime's own kernels.",
        "failed to delegate ",
        pattern=r"failed to delegate (\w{1,60}) node",
    ),
    _rule(
        FailureClass.DELEGATE_FAILED,
        "XNNPACK cannot run this model; cpu-builtin runs it on the runtime's own kernels.",
        *("(TfLiteXNNPackDelegate) failed to ", "Failed to apply XNNPACK", "Failed to apply the default XNNPACK"),
    ),
    _rule(
        FailureClass.DELEGATE_FAILED,
        "The delegate could not be applied to this model.",
        *("Failed to apply ", "Delegate"),
        pattern=r"Failed to apply .{0,60}? delegate|\(TfLite\w{0,40}Delegate\w{0,40}\) failed to (?:prepare|invoke)",
    ),
)

_NOT_OFFERED = _rule(
    FailureClass.DELEGATE_UNAVAILABLE,
    "The device does not offer {0}, and the CPU, which took its place, could not run the model either.",
    *(" acceleration is unsupported on this platform", "Could not create "),
    pattern=r"(\w{1,40}) acceleration is unsupported on this platform|Could not create (.{1,40}?) delegate",
)
"""What a failed delegate stands behind, if it was only the substitute of the one that was asked for."""

_OUTRANKED_BY_A_CRASH = frozenset(
    {FailureClass.FELL_BACK, FailureClass.DELEGATE_FAILED, FailureClass.DELEGATE_UNAVAILABLE}
)
"""The runtime goes on after these, such as to OpenGL from OpenCL: a crash is what ended the run."""

_HARMLESS = re.compile(
    r"Restored original execution plan|Following operations are not supported|couldn't be opened for reading"
    r"|failed to get XNNPACK profile information|Falling back to OpenGL|[Ii]nference timings in us"
)
"""Lines at level ERROR that a good run may hold, or that only repeat another line."""

_PLAIN_ERRORS = (
    "Failed to apply ",
    *("Failed to initialize the interpreter", "Failed to construct interpreter", "Failed to allocate tensors!"),
    *("Failed to load model", "Failed to mmap model", "Failed to invoke"),
    "Benchmarking failed.",
    "terminate called after ",
    "libc++abi: ",
    "Abort message: ",
)
"""Openings of sentences that are printed without a level."""
_RUNTIME_TAGS = frozenset({"", "tflite", "TFLite", "litert", "LiteRT", "native"})
"""Other programs write to logcat, too."""

_SIGNALS = {
    "segmentation fault": signal.SIGSEGV,
    "aborted": signal.SIGABRT,
    "abort": signal.SIGABRT,
    "killed": signal.SIGKILL,
    "bus error": signal.SIGBUS,
    "illegal instruction": signal.SIGILL,
    "floating point exception": signal.SIGFPE,
    "trace/breakpoint trap": signal.SIGTRAP,
}
_SHELL_SAYS = re.compile(  # such as `run.sh: line 3: 4711 Segmentation fault (core dumped) ./benchmark_model`
    rf"(?:\S{{1,99}}: )?(?:line \d{{1,9}}: )?(?:\[\d\] ?[-+]? *)?(?:\d{{1,10}} )?\s{{0,9}}({'|'.join(_SIGNALS)})"
    r"(?: \(core dumped\)|: \d{1,2})?(?:$|\s+(?:\S{0,200}benchmark|\./|/))",
    re.IGNORECASE,
)
_KERNEL_SAYS = re.compile(
    r"(?:Fatal signal|uncaught target signal|^signal) (\d{1,2}) \("
    r"(?:.{0,120}?pid \d{1,10} \((?P<process>[^)]{1,60})\))?"
)
_LONGEST_CRASH_LINE = 400
_CRASH_WORDS = ("fault", "bort", "illed", "us error", "nstruction", "xception", "trap", "signal ")


def error_lines(lines: Sequence[LogLine]) -> list[LogLine]:
    """Return the lines that report an error, in order, each text once; of a crash also the sentence before it."""
    reported = {index for index, line in enumerate(lines) if _is_error(line)}
    for crash in list(find_crashes(lines))[:1]:
        last_sentence = next((index for index in range(crash - 1, -1, -1) if lines[index].text), crash)
        reported |= {last_sentence, crash}
    return list({lines[index].text: lines[index] for index in sorted(reported, reverse=True)}.values())[::-1]


def _is_error(line: LogLine) -> bool:
    is_error = line.level in ("ERROR", "FATAL") and line.tag in _RUNTIME_TAGS
    is_error = is_error or line.text.startswith(_PLAIN_ERRORS) or "-bit ELF file" in line.text
    return is_error and not _HARMLESS.search(line.text)


def find_crashes(lines: Sequence[LogLine]) -> dict[int, int]:
    """Return the number of the signal that each line says the tool was killed by, under the line's index."""
    words = words_in(lines, _CRASH_WORDS)
    if not words:
        return {}
    own = ((index, line) for index, line in enumerate(lines) if line.tag in ("", "libc"))
    found = ((index, _crash_signal(line)) for index, line in own if is_named(line.text, words))
    return {index: number for index, number in found if number}


def _crash_signal(line: LogLine) -> int | None:
    text = line.text[:_LONGEST_CRASH_LINE]
    if match := _SHELL_SAYS.match(text):
        return _SIGNALS[match[1].lower()]
    match = _KERNEL_SAYS.search(text)
    is_other = match and line.tag and match["process"] and "bench" not in match["process"]
    return int(match[1]) if match and not is_other else None


def killed_by(number: int, evidence: str) -> Failure:
    """Return the failure of a tool that a signal ended."""
    try:
        name = signal.Signals(number).name
    except ValueError:
        return Failure(FailureClass.CRASHED, f"The tool was killed by signal {number}.", evidence)
    hint = ", as Android does when memory runs out" if number == signal.SIGKILL else ""
    return Failure(FailureClass.CRASHED, f"The tool was killed by signal {number} ({name}{hint}).", evidence)


def find_failure(lines: Sequence[LogLine]) -> Failure | None:
    """Return the failure that the first matching rule proves, with its line as evidence; None if no rule matches."""
    failure = _first_match(lines, RULES)
    if failure and failure.failure_class is FailureClass.DELEGATE_FAILED:
        failure = _first_match(lines, (_NOT_OFFERED,)) or failure
    if failure and failure.failure_class not in _OUTRANKED_BY_A_CRASH:
        return failure
    crash = next(iter(find_crashes(lines).values()), None)
    if crash is None:
        return failure
    return killed_by(crash, "\n".join(line.raw or line.text for line in error_lines(lines)[-3:]))


def _first_match(lines: Sequence[LogLine], rules: Sequence[LogPattern]) -> Failure | None:
    present = set(words_in(lines, [word for rule in rules for word in rule.words]))
    for rule in rules:
        words = present.intersection(rule.words)
        for line in lines if words else ():
            if not is_named(line.text, words):
                continue
            match = rule.pattern.search(line.text) if rule.pattern else None
            if match or not rule.pattern:
                groups = [group for group in match.groups() if group is not None] if match else []
                return Failure(rule.failure_class, rule.message.format(*groups), line.raw or line.text)
    return None
