"""The public Python interface: the jobs of the command line as functions. It changes only with a new major version.

Importing it is instant: TensorFlow, pandas and the database load on first use. Nothing is printed; pass `progress` to
follow long work. Every function raises `harness.errors.HarnessError`, whose `advice` says what to do.
"""

from harness.api.comparing import Comparison, Decisions, compare, decide
from harness.api.compressing import CompressedVariants, compress
from harness.api.measuring import SweepResult, bench, read_sweep_spec, sweep
from harness.api.noise import NoiseFloors, measure_noise
from harness.api.stored import Report, load_results, read_export, report, write_export

__all__ = [
    "Comparison",
    "CompressedVariants",
    "Decisions",
    "NoiseFloors",
    "Report",
    "SweepResult",
    "bench",
    "compare",
    "compress",
    "decide",
    "load_results",
    "measure_noise",
    "read_export",
    "read_sweep_spec",
    "report",
    "sweep",
    "write_export",
]
