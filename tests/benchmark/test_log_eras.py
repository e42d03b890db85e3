"""What tools of other years, builds and vendors print, as posted: sentences, tables and errors."""

import pytest

from harness.benchmark.benchmark_model.log import parse_log
from harness.benchmark.benchmark_model.outcome import judge_log, log_as_dict


def read(text, requested="cpu"):
    return [log_as_dict(run, requested) for run in parse_log(text)]


def figures(run, *names):
    return tuple(run[name] for name in names)


@pytest.mark.parametrize(
    ("sentence", "extent", "kernels"),
    [
        ("Applied GPU delegate, and the model graph will be completely executed w/ the delegate.", "complete", None),
        ("Applied GPU delegate, and the model graph will be partially executed w/ the delegate.", "partial", None),
        (
            "Explicitly applied GPU delegate, and the model graph will be partially executed by the delegate w/ 2 "
            "delegate kernels.",
            "partial",
            2,
        ),
    ],
)
def test_delegate_sentences_of_each_era(sentence, extent, kernels):
    (run,) = read(f"STARTING!\n{sentence}\nInference timings in us: Init: 9, Inference (avg): 8680.33\n", "gpu")
    assert figures(run, "explicit_apply", "delegate_kernels") == (extent, kernels)
    assert run["fell_back"] is (extent != "complete")


def test_core_ml_puts_a_comma_before_its_partitions():
    (run,) = read("INFO: CoreML delegate: 75 nodes delegated out of 77 nodes, with 2 partitions.\n", "coreml")
    assert figures(run, "delegated_nodes", "total_nodes", "partitions") == (75, 77, 2)


def test_an_older_sentence_does_not_hide_the_vendors_total():
    text = """INFO: TfLiteHexagonDelegate delegate: 136 nodes delegated out of 139 nodes with 2 partitions.

VERBOSE: Replacing 136 node(s) with delegate (TfLiteHexagonDelegate) node, yielding 5 partitions.
"""
    (run,) = read(text, "hexagon")
    assert figures(run, "delegated_nodes", "total_nodes", "fell_back") == (136, 139, True)
    assert len(run["delegations"]) == 1


def test_of_two_applied_delegates_the_requested_counts():
    text = (
        "INFO: Explicitly applied GPU delegate, and the model graph will be completely executed by the delegate.\n"
        "INFO: Though NNAPI delegate is explicitly applied, the model graph will not be executed by the delegate.\n"
    )
    assert [read(text, name)[0]["explicit_apply"] for name in ("gpu", "nnapi")] == ["complete", "none"]
    assert log_as_dict(parse_log(text)[0])["explicit_apply"] == "complete"


MICROCONTROLLER = (
    "Inference timings in us: Init: {0}, First inference: 129, Warmup (avg): 39.1513, Inference (avg): 58.311\n"
)
TABLES = """Profiling Info for Benchmark Initialization:
\t         [node type]\t [start]\t [first]\t [avg ms]\t [%]\t  [cdf%]\t  [mem KB]\t[times called]\t[Name]
\t     AllocateTensors\t   0.000\t   0.147\t    0.147\t100.000%\t100.000%\t 0.000\t    1\tAllocateTensors/ld

Number of nodes executed: 1
\t             [Node type]\t  [count]\t  [avg ms]\t    [avg %]\t    [cdf %]\t  [mem KB]\t[times called]
\t         AllocateTensors\t        1\t     0.147\t   100.000%\t   100.000%\t     0.000\t        1

Operator-wise Profiling Info for Regular Benchmark Runs:
Number of nodes executed: 8
\t             [Node type]\t  [count]\t  [avg ms]\t    [avg %]\t    [cdf %]\t  [mem KB]\t[times called]
\t         FULLY_CONNECTED\t        4\t     0.029\t    69.048%\t    69.048%\t     0.000\t        3
\t                    TANH\t        4\t     0.013\t    30.952%\t   100.000%\t     0.000\t        4

Timings (microseconds): count=2254 first=70 curr=47 min=37 max=70 avg=45.5075 std=2
"""


def test_tables_without_titles():
    (run,) = read(MICROCONTROLLER.format(2450) + TABLES)
    assert [(row["node_type"], row["avg_ms"]) for row in run["op_profile_init_nodes"]] == [("AllocateTensors", 0.147)]
    rows = [(row["node_type"], row["count"], row["avg_pct"]) for row in run["op_profile_nodes"]]
    assert rows == [("FULLY_CONNECTED", 4, 69.048), ("TANH", 4, 30.952)]


def test_the_only_table_of_litert_is_the_operators():
    text = """========== BENCHMARK RESULTS ==========
INFO: [./litert/tools/benchmark_litert_model.h:82] Model initialization: 4.48 ms
============================== Summary by node type ==============================
\t                             [Node type]\t  [count]\t  [avg ms]\t    [avg %]\t    [cdf %]\t  [mem KB]\t[times called]
\t         Fully Connected (NC, PF32) GEMM\t        1\t     0.382\t    93.171%\t    93.171%\t     0.000\t        1
\t                         AllocateTensors\t        1\t     0.000\t     0.000%\t   100.000%\t   452.000\t        0
"""
    (run,) = read(text)
    assert [row["node_type"] for row in run["op_profile_nodes"]] == [
        "Fully Connected (NC, PF32) GEMM",
        "AllocateTensors",
    ]
    assert figures(run, "op_profile_init_nodes", "memory_label", "memory_init_mb") == (None, None, None)


def test_a_profile_cut_before_its_summary_is_seen():
    title = "============================== Run Order =============================="
    text = f"{title}\n[node type]  [first]  [avg ms]  [Name]\nAllocateTensors  2.833  1.419  AllocateTensors/0\n"
    (run,) = read(text)
    assert figures(run, "op_profile", "op_profile_nodes", "ok") == (True, None, False)


@pytest.mark.parametrize(
    ("lines", "failure_class"),
    [
        (
            ["ERROR: Failed to build program executable - Build program failure(97:0) : error : conversion between "],
            "delegate_failed",
        ),
        (
            [
                "ERROR: Didn't find op for builtin opcode 'MUL' version '5'. An older version of this builtin might be "
                "supported. Are you using an old TFLite binary with a newer model?",
                "ERROR: Registration failed.",
                "Failed to initialize the interpreter",
                "Benchmarking failed.",
            ],
            "unsupported_op_version",
        ),
    ],
)
def test_what_ended_a_run_has_its_class_and_text(lines, failure_class):
    (run,) = parse_log("INFO: Loaded model m.tflite\n" + "\n\n".join(lines) + "\n")
    verdict = judge_log(run, "gpu")
    assert (verdict.error_class, verdict.error_text) == (failure_class, " / ".join(line.strip() for line in lines))
