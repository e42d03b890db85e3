"""How many phones one host can measure at once: `python benchmarks/scale.py [--quick]`.

1 to 32 virtual phones, one sweep for each number of them. The tool is a stand-in that sleeps and then prints a log that
the official one wrote, so that phones and not this computer's cores are the limit; all else is the program's own way:
preparation, thermal gate, looks at the phone, samples while the tool runs, one store. The ideal is the time that the
tool alone takes on one phone. Virtual phones run on this computer too: what it spends on them is told apart from what
harness spends.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

from harness.benchmark.registry import ToolRegistry
from harness.benchmark.tool import Tool, ToolFamily, ToolSystem
from harness.devices.adb.discovery import connect, disconnect
from harness.devices.device import DeviceFacts
from harness.files import sha256_of
from harness.progress import SilentObserver
from harness.spec.sweep import SweepSpec, load_sweep_spec
from harness.store.store import Store
from harness.sweep.runner import SweepRunner
from harness.sweep.variants import AS_IS_RECIPE
from harness.virtual_phone.phone import virtual_phone
from harness.virtual_phone.recording import host_abi

PHONES = (1, 2, 4, 8, 16, 32)
GOAL = 0.9
MODEL = Path(__file__).parents[1] / "tests" / "accuracy" / "data" / "pooled-float.tflite"
FLAGS = "graph num_threads num_runs min_secs max_secs warmup_runs warmup_min_secs use_xnnpack"
RUNS = 5
LOG = """\
INFO: STARTING!
INFO: Log parameter values verbosely: [0]
INFO: Min num runs: [5]
INFO: Min runs duration (seconds): [0]
INFO: Num threads: [1]
INFO: Min warmup runs duration (seconds): [0]
INFO: Graph: [mnv2_fp32.tflite]
INFO: #threads used for CPU inference: [1]
INFO: Use xnnpack: [1]
INFO: Loaded model mnv2_fp32.tflite
INFO: XNNPACK delegate created.
INFO: Explicitly applied XNNPACK delegate, and the model graph will be completely executed by the delegate.
INFO: The input model file size (MB): 13.9233
INFO: Initialized session in 20.812ms.
INFO: Running benchmark for at least 1 iterations and at least 0 seconds but terminate if exceeding 150 seconds.
INFO: count=1 curr=30458

INFO: Running benchmark for at least 5 iterations and at least 0 seconds but terminate if exceeding 150 seconds.
INFO: count=5 first=14986 curr=15077 min=10643 max=15572 avg=14188.6 std=1796

INFO: Inference timings in us: Init: 20812, First inference: 30458, Warmup (avg): 30458, Inference (avg): 14188.6
INFO: Memory footprint delta from the start of the tool (MB): init=30.4844 overall=39.0312
"""
"""What benchmark_model 2.14.1 wrote for MobileNetV2 on this project's build machine, without its note on memory."""


class StandIn(ToolRegistry):
    """A registry that has one shell script as the tool of every phone."""

    def __init__(self, folder: Path, code: str) -> None:
        super().__init__(folder)
        script = folder / "benchmark_model"
        script.write_text(f"#!/system/bin/sh\n{code}")
        self._tool = Tool(
            name="benchmark_model",
            family=ToolFamily.INTERPRETER,
            system=ToolSystem.VIRTUAL_PHONE,
            abi=host_abi(),
            sha256=sha256_of(script),
            path=script,
            origin="stand-in",
            flags=frozenset(FLAGS.split()),
        )

    def choose(self, facts: DeviceFacts) -> Tool:
        """Return the stand-in."""
        return self._tool


def main() -> None:
    """Run the benchmark and print its table and JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer phones and shorter sleeps, within a minute")
    parser.add_argument("--sleep", type=float, help="seconds that one process takes; default 10, quick 2")
    parser.add_argument("--phones", type=int, nargs="+", help="how many at once; default 1 2 4 8 16 32, quick 1 2 4")
    parser.add_argument("--invocations", type=int, help="of each phone; default 18, as in preset standard, quick 6")
    arguments = parser.parse_args()
    invocations = arguments.invocations or (6 if arguments.quick else 18)
    sleep_s = arguments.sleep or (2.0 if arguments.quick else 10.0)
    counts = arguments.phones or (PHONES[:3] if arguments.quick else PHONES)
    rows = []
    for count in counts:
        with tempfile.TemporaryDirectory() as folder, ExitStack() as phones:
            serials = [start(phones, number) for number in range(count)]
            rows.append(measure(serials, sleep_s, invocations, Path(folder)))
    show(rows)
    machine = {"cores": os.cpu_count(), "platform": platform.platform(), "load": os.getloadavg()[0]}
    figures = {"sleep_s": sleep_s, "invocations": invocations, "goal": GOAL, "rows": rows}
    print(json.dumps({"benchmark": "scale", "figures": figures, "machine": machine}))


def start(phones: ExitStack, number: int) -> str:
    """Start one phone that lives as long as the stack; return its serial."""
    phone = phones.enter_context(virtual_phone(f"scale-{os.getpid()}-{number}"))
    serial = connect(phone.serial)
    phones.callback(disconnect, serial)
    return serial


def measure(serials: Sequence[str], sleep_s: float, invocations: int, folder: Path) -> dict[str, Any]:
    """Sweep all phones at once; return its time against the ideal, and what the host spent."""
    spec = spec_of(serials, invocations)
    code = f"sleep {sleep_s}\ncat <<'END'\n{LOG}END\n"
    harness = psutil.Process()
    cpu_before, host_before, started = harness.cpu_times(), psutil.cpu_times(), time.perf_counter()
    with Store.open(folder / "results") as store:
        outcome = SweepRunner(store, SilentObserver(), registry=StandIn(folder, code)).run(spec, serials)
        sweep_s = time.perf_counter() - started
        stored = store.invocations(outcome.sweep_id)
    cpu, host = harness.cpu_times(), psutil.cpu_times()
    good = sum(row.failure_class is None for row in stored)
    if good != invocations * len(serials):
        raise SystemExit(f"{good} of {invocations * len(serials)} processes succeeded: the time would say nothing.")
    ideal_s = invocations * sleep_s
    spent_s = cpu.user + cpu.system - cpu_before.user - cpu_before.system
    return {
        "phones": len(serials),
        "ideal_s": ideal_s,
        "sweep_s": sweep_s,
        "share_of_ideal": ideal_s / sweep_s,
        "harness_cpu_s_per_phone": spent_s / len(serials),
        "harness_cpu_share_of_core": spent_s / sweep_s,
        "host_busy": 1 - (host.idle - host_before.idle) / (sweep_s * (os.cpu_count() or 1)),
        "memory_mb": harness.memory_info().rss / 1e6,
    }


def spec_of(serials: Sequence[str], invocations: int) -> SweepSpec:
    """Return a sweep of one cell a phone, with latency processes alone."""
    measurement = {
        "invocations": invocations,
        "runs": RUNS,
        "accuracy_samples": 0,
        "memory_invocations": 0,
        "op_profile_invocations": 0,
        "init_pairs": 0,
        "warmup_max_s": 0,
    }
    return load_sweep_spec(
        None,
        {
            "model": str(MODEL),
            "recipes": [AS_IS_RECIPE],
            "devices": list(serials),
            "delegates": ["cpu"],
            "measurement": measurement,
        },
    )


def show(rows: Sequence[dict[str, Any]]) -> None:
    """Print a row a number of phones."""
    table = Table(
        "phones",
        "ideal s",
        "sweep s",
        "share of\nideal",
        "harness CPU s\na phone",
        "harness CPU\ncores",
        "host\nbusy",
        "harness\nMB",
    )
    for row in rows:
        table.add_row(
            str(row["phones"]),
            f"{row['ideal_s']:.1f}",
            f"{row['sweep_s']:.1f}",
            f"{row['share_of_ideal']:.1%}",
            f"{row['harness_cpu_s_per_phone']:.2f}",
            f"{row['harness_cpu_share_of_core']:.2f}",
            f"{row['host_busy']:.0%}",
            f"{row['memory_mb']:.0f}",
        )
    Console().print(table)


if __name__ == "__main__":
    main()
