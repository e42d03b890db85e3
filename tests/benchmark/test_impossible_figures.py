"""Figures that no process can have measured are never numbers: faster than a clock, longer than the process."""

import pytest
import results_examples

from harness.benchmark.benchmark_model.outcome import judge
from harness.benchmark.invocation import InvocationRequest, Pass
from harness.benchmark.invoke import invoke
from harness.devices.device import CommandResult, DeviceKind
from harness.errors import FailureClass

MEMORY = """\
Memory footprint delta from the start of the tool (MB): init={init} overall={overall}
Overall peak memory footprint (MB) via periodic monitoring: {peak}
Memory status at the end of exeution:
- VmRSS              : {resident} MB
"""


def log_of(us, runs=10, more=""):
    return (
        "STARTING!\n"
        "Running benchmark for at least 1 iterations and at least 0.5 seconds but terminate if exceeding 150 seconds.\n"
        f"count=1 curr={us}\n"
        f"Running benchmark for at least {runs} iterations and at least 0 seconds but terminate if exceeding 150 s.\n"
        f"count={runs} first={us} curr={us} min={us} max={us} avg={us} std=0\n"
        f"Inference timings in us: Init: 100, First inference: {us}, Warmup (avg): {us}, Inference (avg): {us}\n" + more
    )


class Phone:
    """A device on which every process prints the same in the same time."""

    kind = DeviceKind.PHONE

    def __init__(self, **result):
        self._result = CommandResult(exit_code=0, stderr="", **result)

    def run(self, arguments, **options):
        return self._result


@pytest.fixture
def tool(tmp_path):
    flags = "graph num_threads num_runs min_secs max_secs warmup_runs warmup_min_secs use_xnnpack"
    return results_examples.tool().model_copy(update={"path": tmp_path, "flags": frozenset(flags.split())})


@pytest.mark.parametrize(
    ("us", "runs", "wall_s", "said"),
    [
        (1e-9, 10, 1.0, "1e-09 us"),
        (0.04, 1000, 1.0, "0.04 us"),
        (0.06, 10, 1.0, "less than a tick of its clock"),
        (90_000, 10, 0.5, "but the process took 0.5 s"),
        (90_000, 10, 0.95, None),
        (0.3, 50, 1.0, None),
        (1.2e6, 1, 2.0, None),
    ],
)
def test_a_latency_fits_clock_and_process(tool, us, runs, wall_s, said):
    phone = Phone(stdout=log_of(us, runs), wall_s=wall_s)
    invocation = invoke(phone, tool, "/t", InvocationRequest("m", "cpu-builtin", runs=runs), timeout_s=9)
    if said is None:
        assert invocation.measurement.latency_avg_us == us
    else:
        assert invocation.failure.failure_class is FailureClass.TOOL_OUTPUT_UNREADABLE
        assert said in invocation.failure.message


def test_cut_output_is_not_read(tool):
    phone = Phone(stdout=log_of(90), wall_s=1.0, dropped_bytes=32_000_000)
    invocation = invoke(phone, tool, "/t", InvocationRequest("m", "cpu-builtin", runs=10), timeout_s=9)
    assert invocation.failure.failure_class is FailureClass.TOOL_OUTPUT_UNREADABLE
    assert "32.0 MB more than harness reads" in invocation.failure.message


@pytest.mark.parametrize(
    ("figures", "is_own"),
    [
        ({"init": 30.5, "overall": 39.0, "peak": 47.7, "resident": 47}, True),  # a log of the official tool
        ({"init": 0, "overall": 0, "peak": 218.0, "resident": 12}, False),  # started by a process of 218 MB
        ({"init": 0, "overall": 0.5, "peak": 36.0, "resident": 12}, False),
        ({"init": 20, "overall": 300, "peak": 310.0, "resident": 40}, True),  # let go of after loading
    ],
)
def test_a_peak_that_was_inherited_is_refused(figures, is_own):
    result = CommandResult(0, log_of(90, more=MEMORY.format(**figures)), "", 1.0)
    outcome = judge(result, InvocationRequest("m", "cpu-builtin", runs=10, purpose=Pass.MEMORY))
    if is_own:
        assert outcome.peak_memory_mb == figures["peak"]
    else:
        assert "is not the tool's own" in outcome.message
