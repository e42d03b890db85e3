"""A log of `benchmark_model`, written as people keep logs: every logcat layout, quotes, wrapped lines, CI."""

import textwrap

PARAMETERS = ["Log parameter values verbosely: [0]", "Num threads: [4]", "Graph: [/data/local/tmp/m.tflite]"]


def run_lines(average=145528, *, starting=True, delegates=(), memory=(54.2852, 73.4102), profile=False, failure=()):
    """Return (level letter, text) of each line of one run; `failure` ends it before its first timed run."""
    lines = [("I", "STARTING!")] if starting else []
    lines += [("I", text) for text in (*PARAMETERS, "Use gpu: [1]", "Loaded model /data/local/tmp/m.tflite")]
    lines += [("I", "Initialized TensorFlow Lite runtime."), *(("I", text) for text in delegates)]
    if failure:
        return [*lines, *(("E", text) for text in failure)]
    header = (
        "Running benchmark for at least {} iterations and at least {} seconds but terminate if exceeding 150 seconds."
    )
    lines += [("I", "The input model file size (MB): 3.06"), ("I", "Initialized session in 92.318ms.")]
    lines += [("I", header.format(1, 0.5)), ("I", stats(3, average + 9)), ("I", "")]
    lines += [("I", header.format(50, 1)), ("I", stats(50, average)), ("I", "")]
    timings = f"Init: 92318, First inference: 187533, Warmup (avg): {average + 9}, Inference (avg): {average}"
    lines += [("I", f"Inference timings in us: {timings}")]
    note = (
        "APPROXIMATE to the actual memory footprint of the model at runtime. Take the information at your discretion."
    )
    lines += [("I", f"Note: as the benchmark tool itself affects memory footprint, the following is only {note}")]
    label = "Memory footprint delta from the start of the tool (MB)"
    lines += [("I", f"{label}: init={memory[0]} overall={memory[1]}")] if memory else []
    return lines + (PROFILE if profile else [])


def stats(count, average):
    """Return a `count=` line around an average."""
    low, high = average - 40, average + 900
    return (
        f"count={count} first={average + 50} curr={average} min={low} max={high} avg={average} std=120 "
        f"p5={average - 30} median={average - 5} p95={average + 400}"
    )


PROFILE = [
    ("I", "Operator-wise Profiling Info for Regular Benchmark Runs:"),
    ("I", "============================== Run Order =============================="),
    ("I", "\t             [node type]\t  [first]\t [avg ms]\t     [%]\t  [cdf%]\t  [mem KB]\t[times called]\t[Name]"),
    ("I", "\t                 CONV_2D\t   40.000\t   40.000\t100.000%\t100.000%\t     0.000\t        1\t[conv]:0"),
    ("I", ""),
    ("I", "Number of nodes executed: 1"),
    ("I", "============================== Summary by node type =============================="),
    ("I", "\t             [Node type]\t  [count]\t  [avg ms]\t    [avg %]\t    [cdf %]\t  [mem KB]\t[times called]"),
    ("I", "\t                 CONV_2D\t        1\t    40.000\t   100.000%\t   100.000%\t     0.000\t        1"),
    ("I", ""),
    ("I", "Timings (microseconds): count=50 first=145528 curr=145528 min=39960 max=40900 avg=145528 std=3"),
]
NAMES = {"I": "INFO", "E": "ERROR", "V": "VERBOSE", "W": "WARN"}


def _each(form):
    return lambda lines: "\n".join(form(level, text) for level, text in lines) + "\n"


def _plain(level, text):
    return f"{NAMES[level]}: {text}" if text and not text.startswith(("\t", "=")) else text


def _long(lines):
    return "".join(f"[ 07-14 13:14:52.097 22838:22838 {level}/tflite   ]\n{text}\n\n" for level, text in lines)


_STUDIO = "tflite                  org.tensorflow.lite.benchmark        "
LAYOUTS = {
    "plain": _each(_plain),
    "old": _each(lambda level, text: f"ERROR: {text}" if level == "E" else text),
    "brief": _each("{}/tflite  ( 6794): {}".format),
    "process": _each("{}( 6794) {}  (tflite)".format),
    "tag": _each("{}/tflite  : {}".format),
    "thread": _each("{}( 6794: 6794) {}".format),
    "thread of old phones": _each("{}( 6794:0x1a8a) {}".format),
    "time": _each("07-08 15:40:34.274 {}/tflite  ( 6794): {}".format),
    "threadtime": _each("07-14 13:14:52.097 22838 22838 {} tflite  : {}".format),
    "long": _long,
    "year": _each("2024-07-14 13:14:52.097 22838 22838 {} tflite  : {}".format),
    "usec": _each("07-14 13:14:52.097123 22838 22838 {} tflite  : {}".format),
    "zone": _each("2024-07-14 13:14:52.097 +0200 22838 22838 {} tflite  : {}".format),
    "uid": _each("07-14 13:14:52.097  2000 22838 22838 {} tflite  : {}".format),
    "uid name": _each("07-14 13:14:52.097 shell 22838 22838 {} tflite  : {}".format),
    "uid time": _each("07-14 13:14:52.097 {}/tflite  ( 2000: 6794): {}".format),
    "uid app": _each("07-14 13:14:52.097 u0_a123 22838 22838 {} tflite  : {}".format),
    "epoch": _each("1720446034.274 22838 22838 {} tflite  : {}".format),
    "monotonic": _each("    12.345 22838 22838 {} tflite  : {}".format),
    "printable": _each(lambda level, text: f"07-14 13:14:52.097 1 1 {level} tflite  : " + text.replace("\t", "\\t")),
    "color": _each("\x1b[38;5;40m07-14 13:14:52.097 22838 22838 {} tflite  : {}\x1b[0m".format),
    "studio until 2022": _each(
        "2020-09-28 16:25:50.072 11580-11580/org.tensorflow.lite.benchmark {}/tflite: {}".format
    ),
    "studio of 2014": _each("09-28 16:25:50.072 11580-11580/org.tensorflow.lite.benchmark {}/tflite\ufe55 {}".format),
    "studio unknown process": _each("2020-09-28 16:25:50.072 11580-11580/? {}/tflite: {}".format),
    "studio since 2022": _each(lambda level, text: f"2024-05-14 10:55:21.084 18088-18088 {_STUDIO}{level}  {text}"),
    "studio, no package": _each("2024-05-14 10:55:21.084 18088-18088 tflite                  {}  {}".format),
    "studio compact": _each("10:55:21.084  {}  {}".format),
    "shortened": _each(lambda level, text: f"{level} tflite: {text}"),
    "shortened more": _each(lambda level, text: f"tflite    : {_plain(level, text)}"),
    "elided": _each("... {} tflite  : {}".format),
    "github actions": _each(lambda level, text: f"2024-05-14T10:55:21.0840000Z {_plain(level, text)}"),
    "gitlab": _each(lambda level, text: f"2024-05-14T10:55:21.084000Z 01O {_plain(level, text)}"),
    "jenkins": _each(lambda level, text: f"[2024-05-14T10:55:21.084Z] {_plain(level, text)}"),
    "clock": _each(lambda level, text: f"[10:55:21] {_plain(level, text)}"),
    "ts": _each(lambda level, text: f"May 14 10:55:21 {_plain(level, text)}"),
    "journal": _each(lambda level, text: f"May 14 10:55:21 board bench[4711]: {_plain(level, text)}"),
    "compose": _each(lambda level, text: f"bench_1  | {_plain(level, text)}"),
    "logcat in ci": _each("2024-05-14T10:55:21.0840000Z 07-14 13:14:52.097 22838 22838 {} tflite  : {}".format),
}


def _wrapped(text, width):
    pieces = [
        textwrap.wrap(line, width, break_long_words=False, break_on_hyphens=False) or [""] for line in text.splitlines()
    ]
    return "\n".join(piece for line in pieces for piece in line) + "\n"


def _folded(text, width):
    lines = [[line[i : i + width] for i in range(0, len(line), width)] or [""] for line in text.splitlines()]
    return "\n".join(piece for line in lines for piece in line) + "\n"


def _quoted(text, mark="> "):
    return "".join(f"{mark}{line}".rstrip() + "\n" for line in text.splitlines())


PASTES = {
    "as it is": str,
    "crlf": lambda text: text.replace("\n", "\r\n"),
    "adb shell's crcrlf": lambda text: text.replace("\n", "\r\r\n"),
    "quoted": _quoted,
    "quoted twice": lambda text: _quoted(text, ">> "),
    "indented": lambda text: _quoted(text, "    "),
    "code block": lambda text: f"```\n{text}```\n",
    "wrapped at 72": lambda text: _wrapped(text, 72),
    "wrapped at 100 and quoted": lambda text: _quoted(_wrapped(text, 100)),
    "quoted, then wrapped": lambda text: _wrapped(_quoted(text), 78),
    "folded at 80": lambda text: _folded(text, 80),
    "folded at 120 and quoted": lambda text: _quoted(_folded(text, 120)),
}
