"""Run LiteRT's own Python benchmark and print its result as one line of JSON.

The benchmark is Google's, unchanged in what it does. Two things are added around it: its results unrounded (it rounds
to 0.01 ms, a tenth of a small model's latency), and the memory that loading and running the model added to the process.
"""

from __future__ import annotations

import json
import resource
import sys
from typing import Any

import psutil
from ai_edge_litert.tools import benchmark_litert_model

from harness.benchmark.litert_python.benchmark import RESULT_MARK

_KIB_PER_MB = 1024


def main() -> None:
    """Take LiteRT's own arguments; end with its exit code."""
    vars(benchmark_litert_model)["round"] = lambda value, _digits: value  # shadows the builtin in that module alone
    before_mb = psutil.Process().memory_info().rss / 1024**2
    arguments = benchmark_litert_model.parse_args()
    results: dict[str, Any] = benchmark_litert_model.run_benchmark(arguments)
    after_mb = psutil.Process().memory_info().rss / 1024**2
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / _KIB_PER_MB
    results["memory_overall_mb"] = max(0.0, after_mb - before_mb)
    results["peak_memory_mb"] = max(0.0, peak_mb - before_mb, after_mb - before_mb)  # kernels update the peak late
    sys.stdout.write("\n" + RESULT_MARK + json.dumps(results) + "\n")


if __name__ == "__main__":
    main()
