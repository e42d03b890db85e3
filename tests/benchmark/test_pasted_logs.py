"""What people put around the lines of a log changes nothing: lists, records, loggers, numbers, two runs in one."""

import json

import pytest
from log_layouts import run_lines

from harness.benchmark.benchmark_model.log import parse_log
from harness.benchmark.benchmark_model.outcome import log_as_dict
from harness.benchmark.learned_prefix import learn_prefixes, without_prefix


def read(text, requested="cpu"):
    return [log_as_dict(run, requested) for run in parse_log(text)]


def figures(run, *names):
    return tuple(run[name] for name in names)


def test_memory_figures_of_two_runs_stay_apart():
    text = """'''
INFO: Memory footprint delta from the start of the tool (MB): init=2.43359 overall=8.67578
INFO: Overall peak memory footprint (MB) via periodic monitoring: 13.1797
'''
INFO: The input model file size (MB): 0.007588
FO: Memory footprint delta from the start of the tool (MB): init=2.4375 overall=20.543
INFO: Overall peak memory footprint (MB) via periodic monitoring: 25.0508
"""
    names = ("memory_init_mb", "memory_overall_mb", "peak_memory_mb")
    assert [figures(run, *names) for run in read(text)] == [(2.43359, 8.67578, 13.1797), (2.4375, 20.543, 25.0508)]


def test_a_run_may_begin_with_a_sentence_about_its_delegate():
    one = (
        "Though NNAPI delegate is explicitly applied, the model graph will not be executed by the delegate.\n"
        "Replacing {} out of 559 node(s) with delegate (TfLiteXNNPackDelegate) node, yielding 11 partitions for "
        "subgraph 0.\nInitialized session in 123.396ms.\n"
        "Inference timings in us: Init: 123396, First inference: 362227, Warmup (avg): 351518, "
        "Inference (avg): 281831\n"
        "Memory footprint delta from the start of the tool (MB): init=95.4609 overall=122.793\n\n"
    )
    runs = read(one.format(510) + "── last__w8a32 / NNAPI ──\n" + one.format(500), "nnapi")
    assert [(run["explicit_apply"], run["fell_back"], len(run["delegations"])) for run in runs] == [
        ("none", True, 1),
        ("none", True, 1),
    ]


def test_a_command_that_greps_for_the_summary_is_no_run():
    text = (
        'adb logcat | grep "Inference timings in us"\n\n... tflite  : Inference timings in us: Init: 1007529, '
        "First inference: 4098, Warmup (avg): 1686.59, Inference (avg): 1687.92\n"
    )
    (run,) = read(text)
    assert figures(run, "init_us", "inference_avg_us", "ok") == (1007529, 1687.92, True)


LIST = """  - if cpu
    - `VERBOSE: Replacing 58 out of 58 node(s) with delegate (TfLiteXNNPackDelegate) node, yielding 1 partitions.`
    - `INFO: Initialized session in 3.337ms.`
    - `INFO: count=9 first=81913 curr=55502 min=55502 max=81913 avg=58984.7 std=8115`
    - `INFO: count=1061 first=56576 curr=56299 min=54669 max=60236 avg=56265.8 std=982`
    - `INFO: Inference timings in us: Init: 3337, Warmup (avg): 58984.7, Inference (avg): 56265.8`
    - `INFO: Overall peak memory footprint (MB) via periodic monitoring: 93.2383`
  - if gpu
    - `INFO: Created TensorFlow Lite delegate for GPU.`
    - `VERBOSE: Replacing 58 out of 58 node(s) with delegate (TfLiteGpuDelegateV2) node, yielding 1 partitions.`
    - `INFO: Initialized session in 842.225ms.`
    - `INFO: count=13 first=115098 curr=36666 min=32079 max=115098 avg=40199.8 std=21694`
    - `INFO: count=1694 first=35688 curr=33419 min=30394 max=42335 avg=35134.9 std=1733`
    - `INFO: Inference timings in us: Init: 842225, Warmup (avg): 40199.8, Inference (avg): 35134.9`
    - `INFO: Overall peak memory footprint (MB) via periodic monitoring: 74.6641`
"""


def test_two_runs_in_a_list_of_code():
    first, second = read(LIST, "gpu")
    assert (first["warmup_stats"]["count"], first["run_stats"]["std"], first["peak_memory_mb"]) == (9, 982, 93.2383)
    assert (second["warmup_stats"]["count"], second["run_stats"]["max"], second["session_init_ms"]) == (
        13,
        42335,
        842.225,
    )
    delegates = [[use["delegate"] for use in run["delegations"]] for run in (first, second)]
    assert delegates == [["TfLiteXNNPackDelegate"], ["TfLiteGpuDelegateV2"]]


def test_a_record_that_holds_the_log_as_one_string():
    text = (
        r'"profile_result":null,"result_string":"STARTING!\nUnconsumed cmdline flags: --allow_fp16\n'
        r"Graph: [b40647a5.model]\nInitialized session in 18.738ms.\n"
        r"count=6 first=140706 curr=74599 min=74599 max=140706 avg=85791.2 std=24559\n\n"
        r"count=50 first=74456 curr=74516 min=73909 max=75323 avg=74481.6 std=268\n\n"
        r"Inference timings in us: Init: 18738, First inference: 140706, Warmup (avg): 85791.2, "
        r"Inference (avg): 74481.6\n"
        r'Peak memory footprint (MB): init=6.44141 overall=64.8633\n","status":"ended","use_gpu":true}'
    )
    (run,) = read(text)
    assert run["unconsumed_flags"] == ["--allow_fp16"]
    assert (run["run_stats"]["std"], run["memory_overall_mb"]) == (268, 64.8633)


PLAIN = "".join(f"{text}\n" for _, text in run_lines(profile=True))
CLUTTER = {
    "json": lambda text: json.dumps({"log": text, "exit": 0}),
    "json in json": lambda text: json.dumps(json.dumps({"log": text})),
    "python": lambda text: repr(text.splitlines(keepends=True)),
    "cat -n": lambda text: "".join(f"{number:6}\t{line}\n" for number, line in enumerate(text.splitlines(), 1)),
    "grep -n": lambda text: "".join(f"{number}:{line}\n" for number, line in enumerate(text.splitlines(), 1)),
    "grep in files": lambda text: "".join(f"runs/gpu_3.log:{line}\n" for line in text.splitlines()),
    "logging": lambda text: "".join(f"2026-01-02 10:11:12,345 - bench - INFO - {line}\n" for line in text.splitlines()),
    "ios": lambda text: "".join(
        f"2026-01-02 10:11:12.345 App[97:{line.count('o')}] {line}\n" for line in text.splitlines()
    ),
    "list": lambda text: "".join(f"- `{line}`\n" if line else "\n" for line in text.splitlines()),
    "table": lambda text: "".join(f"| {line} |\n" for line in text.splitlines()),
    "page": lambda text: "".join(f"{line}<br>\n" for line in text.splitlines()),
    "printed twice": lambda text: "".join(f"{line}\nINFO: {line}\n" for line in text.splitlines()),
    "empty lines": lambda text: text.replace("\n", "\n\n"),
}


@pytest.mark.parametrize("kind", CLUTTER)
def test_what_stands_around_the_lines_changes_nothing(kind):
    assert read(CLUTTER[kind](PLAIN * 2)) == read(PLAIN * 2)


def test_a_logger_names_the_level():
    lines = [f"12:0{number} bench ERROR count=1 curr={number}" for number in range(3)]
    assert [without_prefix(line, learn_prefixes(lines)) for line in lines] == [
        (f"count=1 curr={number}", "ERROR") for number in range(3)
    ]


def test_names_of_performance_options_are_no_prefix():
    lines = [f"cpu w/ {threads} threads: count=50 first=34893 curr=33267 avg=33904.9" for threads in (1, 2, 4)]
    assert learn_prefixes(lines) == []
    assert [run["option"] for run in read("\n".join(lines) + "\n")[0]["option_runs"]] == [
        "cpu w/ 1 threads",
        "cpu w/ 2 threads",
        "cpu w/ 4 threads",
    ]


def test_android_studios_compact_view_with_its_tag_and_package():
    prefix = "10:04:31.319  2638-2638  tflite          org.tensorflow.lite.benchmark  I  "
    text = (
        f"{prefix}count=50 first=392063 curr=392613 min=390939 max=416049 avg=392865 std=3443\n"
        f"{prefix}Inference timings in us: Init: 164025, First inference: 394833, Warmup (avg): 394149, "
        "Inference (avg): 392865\n"
    )
    (run,) = read(text)
    assert (run["run_stats"]["max"], run["init_us"]) == (416049, 164025)


def test_a_summary_printed_twice_ends_one_run():
    summary = "Inference timings in us: Init: {}, Warmup (avg): 31.462, Inference (avg): 31.4759\n"
    runs = read("".join(f"STARTING!\n{summary.format(init) * 2}" for init in (1461, 2450)))
    assert [run["init_us"] for run in runs] == [1461, 2450]
