"""Where one run of a log ends and the next begins."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum

from harness.benchmark.failures import error_lines, find_crashes
from harness.benchmark.invocation import STREAM_MARK
from harness.benchmark.log_lines import LogLine


class _Step(IntEnum):
    """What a run prints to stdout, in order. A step back is a new run."""

    COMMAND = 0
    START = 1
    PARAMETERS = 2
    LOAD = 3
    SESSION = 4
    TIMING = 5
    SUMMARY = 6
    MEMORY = 7
    END = 8


@dataclass(frozen=True)
class _Sign:
    """A line that a run prints at one step, at most so often; None: any number of times."""

    opening: str
    step: _Step
    most: int | None = 1


_SIGNS = (
    _Sign("STARTING!", _Step.START),
    _Sign("Log parameter values verbosely", _Step.PARAMETERS),
    _Sign("Graph: [", _Step.PARAMETERS),
    _Sign("Loaded model ", _Step.LOAD),
    _Sign("The input model file size (MB)", _Step.SESSION),
    _Sign("Initialized session in ", _Step.SESSION),
    _Sign("Running benchmark for ", _Step.TIMING, 2),
    _Sign("count=", _Step.TIMING, 2),
    _Sign("========== BENCHMARK RESULTS", _Step.SUMMARY),
    _Sign("Signature name:", _Step.SUMMARY),
    _Sign("Model initialization:", _Step.SUMMARY),
    _Sign("Memory footprint delta", _Step.MEMORY),
    _Sign("Peak memory footprint", _Step.MEMORY),
    _Sign("Overall peak memory", _Step.MEMORY),
    _Sign("Benchmarking failed", _Step.END),
)
_COMMAND, _PARAMETER, _TIMINGS, _ENDED = (
    _Sign("", step, most)
    for step, most in ((_Step.COMMAND, None), (_Step.PARAMETERS, None), (_Step.SUMMARY, 1), (_Step.END, None))
)
_PARAMETERS = ("Num ", "Min ", "Max ", "Use ", "Enable ", "Input ", "#threads ", "Signature to run", "NNAPI ", "GPU ")
_COMMAND_LINE = re.compile(r"benchmark_model\S{0,99}\s+(?:--|.{0,99}\\$)|am start .{0,400}[Bb]enchmark|with args: --")
_TIMED = re.compile(r"nference timings in us: \w[^:]{0,40}: [-+]?[\d.]")
"""The summary itself, and no command that looks for it, such as `logcat | grep "Inference timings in us"`."""
_FROM_RUNTIME = (
    *("Created TensorFlow Lite", "Initialized TensorFlow Lite runtime", "Replacing ", "Explicitly applied ", "Though "),
    *("Following operations are not supported", "NNAPI accelerators available"),
)
"""The runtime's own lines. They stand at a run's beginning, or behind all else if stderr was appended to stdout."""
_BEHIND_SUMMARY = ("Profiling Info", "=====")
_SOURCE_FILE = re.compile(r"\[[^\[\]\s]{1,200}:\d{1,6}\] ")
_MARK = STREAM_MARK.strip()


def without_source_file(text: str) -> str:
    """Return a line of LiteRT's tool without the `[file.cc:137]` in front."""
    place = _SOURCE_FILE.match(text) if text.startswith("[") else None
    return text[place.end() :] if place else text


@dataclass
class _Run:
    """What was seen of the run that is being read."""

    start: int
    step: _Step | None = None
    seen: Counter[_Sign] = field(default_factory=Counter)
    in_stderr: bool = False
    next_start: int | None = None
    """Where the next run may have begun: the runtime's first line after this run's summary."""

    def ends_before(self, sign: _Sign) -> bool:
        """Return True if a line cannot be this run's."""
        if self.step is None:
            return False
        return sign.step < self.step or (sign.most is not None and self.seen[sign] >= sign.most)

    def take(self, sign: _Sign) -> None:
        self.step = sign.step if self.step is None else max(self.step, sign.step)
        self.seen[sign] += 1
        if sign.step is _Step.MEMORY:
            self.next_start = None  # what stands before it was this run's

    def look_ahead(self, index: int, text: str) -> None:
        """Remember the runtime's first line after the summary; what the tool prints behind that shows it was this's."""
        if text == _MARK:
            self.in_stderr = True
        elif text.startswith(_BEHIND_SUMMARY):
            self.next_start = None
        elif self.next_start is None and not self.in_stderr and self.step is not None and self.step >= _Step.SUMMARY:
            self.next_start = index if text.startswith(_FROM_RUNTIME) else None


def split_runs(lines: Sequence[LogLine]) -> list[list[LogLine]]:
    """Cut before the first line that cannot be of the same run: an earlier step, or one that a run prints once.

    What stands before the first run (a shell's error, a loader's warning) belongs to it.
    """
    run = _Run(0)
    starts = [0]
    crashes = find_crashes(lines)
    for index, line in enumerate(lines):
        sign = _ENDED if index in crashes else _sign_of(line)
        if sign is None:
            run.look_ahead(index, line.text)
        elif run.ends_before(sign):
            run = _Run(index if run.next_start is None else run.next_start)
            starts.append(run.start)
            run.take(sign)
        else:
            run.take(sign)
    if run.step is _Step.COMMAND and len(starts) > 1 and not error_lines(lines[run.start :]):
        starts.pop()  # a command without output, such as one in a sentence below the log
    return [list(lines[start:end]) for start, end in zip(starts, [*starts[1:], len(lines)], strict=True)]


_FIRST_LETTERS = frozenset(sign.opening[0] for sign in _SIGNS)


def _sign_of(line: LogLine) -> _Sign | None:
    text = without_source_file(line.text)
    if text and text[0] in _FIRST_LETTERS:
        for sign in _SIGNS:
            if text.startswith(sign.opening):
                return sign
    if ": [" in text and text.startswith(_PARAMETERS):
        return _PARAMETER
    if "nference timings in us" in text:
        return _TIMINGS if _TIMED.search(text) else None
    is_command = ("enchmark" in text or "args: --" in text) and _COMMAND_LINE.search(text)
    return _COMMAND if is_command else None
