"""What looking costs: `python benchmarks/telemetry.py [--quick]`.

One virtual phone, one model, the official tool. Invocations with and without the shell that samples clocks beside the
tool take turns, in an order drawn anew for each pair; what they measure must be the same. As many pairs without any
sampling on either side (A/A) show how far two equal halves lie apart on this machine anyway. Printed too: the seconds
of one look at the phone before and after an invocation, which is made while nothing is measured.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import statistics
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from harness.benchmark.invocation import InvocationRequest
from harness.benchmark.invoke import invoke
from harness.benchmark.registry import ToolRegistry, probe_flags
from harness.compression.make import make_variant
from harness.compression.recipes import find_recipe
from harness.devices.adb.discovery import connect, disconnect, open_device
from harness.devices.cores import choose_measured_cores
from harness.devices.state.sampling import take_samples
from harness.devices.state.telemetry import read_telemetry
from harness.paths import cache_folder
from harness.progress import SilentObserver
from harness.spec.model import find_model
from harness.virtual_phone.phone import virtual_phone

RUNS = 3000
"""Of a model that takes under a millisecond: about a second, so that several samples fall into each invocation."""


def main() -> None:
    """Measure, print the table, and end with one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer pairs: within a minute")
    parser.add_argument("--tools", type=Path, help="folder or archive of the official tools, if none is registered")
    arguments = parser.parse_args()
    registry = ToolRegistry()
    if arguments.tools:
        registry.add(arguments.tools)
    vendor = next((tool.vendor_folder for tool in registry.tools() if tool.vendor_folder), None)
    if vendor is None:
        raise SystemExit("No tool for virtual phones is registered: add --tools ARCHIVE.")
    with virtual_phone(f"telemetry-{os.getpid()}", vendor=vendor) as phone:
        figures = measure(connect(phone.serial), registry, pairs=6 if arguments.quick else 40)
        disconnect(phone.serial)
    show(figures)
    machine = {"cores": os.cpu_count(), "platform": platform.platform(), "load": os.getloadavg()[0]}
    print(json.dumps({"benchmark": "telemetry", "figures": figures, "machine": machine}))


def measure(serial: str, registry: ToolRegistry, *, pairs: int) -> dict[str, float]:
    """Return the median ratio of pairs, with sampling over without and without over without, and their spreads."""
    device = open_device(serial)
    tool = registry.choose(device.facts())
    tool_path = device.push(tool.path)
    tool = tool.model_copy(update={"flags": frozenset(probe_flags(device, tool, tool_path))})
    variant = make_variant(
        find_model("fashion-dscnn"), find_recipe("fp32"), cache=cache_folder(), observer=SilentObserver()
    )
    request = InvocationRequest(device.push(variant.path), "cpu", runs=RUNS)
    chosen = choose_measured_cores(device, (0,))
    samples: list[int] = []

    def latency_us(*, sampled: bool) -> float:
        cores = chosen.cores if sampled else ()
        done = invoke(device, tool, tool_path, request, timeout_s=120, core_mask=chosen.mask, sampled_cores=cores)
        if done.measurement is None:
            raise SystemExit(f"The tool failed: {done.failure}")
        if sampled:
            samples.append(take_samples(device)[0].count)
        return done.measurement.latency_median_us or done.measurement.latency_avg_us

    def ratios(*, sampled: bool) -> list[float]:
        found = []
        for _ in range(pairs):
            sides = [sampled, False]
            order = [0, 1] if random.random() < 0.5 else [1, 0]
            latencies = {side: latency_us(sampled=sides[side]) for side in order}
            found.append(latencies[0] / latencies[1])
        return found

    latency_us(sampled=False)  # the first one loads files that the others find in memory
    with_sampling, without = ratios(sampled=True), ratios(sampled=False)
    started = time.perf_counter()
    for _ in range(20):
        read_telemetry(device)
    return {
        "pairs": pairs,
        "sampled_over_not": statistics.median(with_sampling),
        "sampled_over_not_quartiles": _spread(with_sampling),
        "not_over_not": statistics.median(without),
        "not_over_not_quartiles": _spread(without),
        "samples_each": statistics.median(samples),
        "look_ms": 1000 * (time.perf_counter() - started) / 20,
    }


def _spread(values: list[float]) -> float:
    first, _, third = statistics.quantiles(values, n=4)
    return third - first


def show(figures: dict[str, float]) -> None:
    """Print the figures for people."""
    table = Table("what", "figure", title="latency with clocks sampled beside the tool, against without")
    rows = {
        "sampled / not sampled, median of pairs": f"{figures['sampled_over_not']:.4f}",
        "its interquartile range": f"{figures['sampled_over_not_quartiles']:.4f}",
        "not sampled / not sampled (A/A)": f"{figures['not_over_not']:.4f}",
        "its interquartile range ": f"{figures['not_over_not_quartiles']:.4f}",
        "pairs of each": f"{figures['pairs']:.0f}",
        "samples in one invocation": f"{figures['samples_each']:.0f}",
        "a look before or after": f"{figures['look_ms']:.1f} ms",
    }
    for what, figure in rows.items():
        table.add_row(what, figure)
    Console().print(table)


if __name__ == "__main__":
    main()
