"""What a sweep costs beyond the measuring itself: `python benchmarks/overhead.py [--quick]`.

One virtual phone, one process. First `harness sweep` measures it; then a bare loop of `adb push` and `adb shell` makes
the very same invocations again, with the very command lines that the sweep stored (those of the accuracy pass included,
whose input files it pushes too). Printed are both wall times, their ratio, and what the difference is made of. Making
the variants is left out of both: they are made, and cached, before the clock starts.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from harness.benchmark.registry import ToolRegistry
from harness.cli.progress import watch
from harness.compression.make import make_variant
from harness.compression.recipes import find_recipe
from harness.datasets.labelled import choose_samples, load_dataset
from harness.devices.adb.discovery import connect, disconnect, open_device
from harness.devices.adb.server import adb_program
from harness.devices.state.telemetry import read_telemetry
from harness.paths import cache_folder
from harness.progress import SilentObserver
from harness.spec.model import find_model
from harness.spec.sweep import SweepSpec, load_sweep_spec
from harness.store.rows import AccuracyRow
from harness.store.store import Store
from harness.sweep.runner import SweepRunner
from harness.virtual_phone.phone import virtual_phone

LOOPS = 2
"""Sweep and loop take turns this often, so that a slow moment of the machine falls on both."""


def main() -> None:
    """Measure, print the table, and end with one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one turn of fewer invocations: under a minute")
    parser.add_argument("--tools", type=Path, help="folder or archive of the official tools, if none is registered")
    arguments = parser.parse_args()
    registry = ToolRegistry()
    if arguments.tools:
        registry.add(arguments.tools)
    vendor = next((tool.vendor_folder for tool in registry.tools() if tool.vendor_folder), None)
    if vendor is None:
        raise SystemExit("No tool for virtual phones is registered: add --tools ARCHIVE.")
    overrides: dict[str, Any] = {"delegates": ["cpu"], "measurement": {"accuracy_samples": 500}}
    if arguments.quick:
        overrides["recipes"] = ["fp32", "int8"]
    turns = 1 if arguments.quick else LOOPS
    with virtual_phone(f"overhead-{os.getpid()}", vendor=vendor) as phone, tempfile.TemporaryDirectory() as folder:
        serial = connect(phone.serial)
        figures = measure(serial, overrides, turns, Path(folder), registry)
        disconnect(serial)
    show(figures)
    machine = {"cores": os.cpu_count(), "platform": platform.platform(), "load": os.getloadavg()[0]}
    print(json.dumps({"benchmark": "overhead", "figures": figures, "machine": machine}))


def measure(
    serial: str, overrides: dict[str, Any], turns: int, folder: Path, registry: ToolRegistry
) -> dict[str, float]:
    """Let sweep and bare loop take turns; return seconds, their ratio and the parts of the difference."""
    spec = load_sweep_spec(None, overrides | {"devices": [serial]})
    with Store.open(folder / "warm-up") as store, watch() as watcher:  # makes variants and reference outputs
        SweepRunner(store, watcher, registry=registry).run(spec, [serial])
    sweep_s = loop_s = looks = invocations = 0.0
    for turn in range(turns):
        clean(serial)
        with Store.open(folder / str(turn)) as store:
            started = time.perf_counter()
            outcome = SweepRunner(store, SilentObserver(), registry=registry).run(spec, [serial])
            sweep_s += time.perf_counter() - started
            stored = store.invocations(outcome.sweep_id)
            accuracies = store.accuracies(outcome.sweep_id)
        commands = [list(row.command) for row in stored]
        invocations += len(commands) + len(accuracies)
        looks += len(commands) + 2
        clean(serial)
        loop_s += bare_loop(serial, commands, accuracy_commands(spec, commands, accuracies), spec, registry, folder)
    look_s = cost_of_a_look(serial)
    return {
        "sweep_s": sweep_s,
        "bare_loop_s": loop_s,
        "ratio": sweep_s / loop_s,
        "invocations": invocations,
        "telemetry_s": looks * look_s,
        "telemetry_ms_each": 1000 * look_s,
        "rest_s": sweep_s - loop_s - looks * look_s,
    }


def clean(serial: str) -> None:
    """Take everything off the phone, so that both sides push all files."""
    device = open_device(serial)
    device.remove(device.work_folder)


def accuracy_commands(spec: SweepSpec, commands: list[list[str]], accuracies: Sequence[AccuracyRow]) -> list[list[str]]:
    """Return the accuracy pass of each cell as a command line: one process for all samples."""
    samples = min(spec.measurement.accuracy_samples, 500)
    first = {next(part for part in command if part.startswith("--graph=")): command for command in commands}
    return [
        [
            command[0],
            graph,
            "--num_threads=1",
            "--num_runs=1",
            "--min_secs=0",
            "--warmup_runs=0",
            "--warmup_min_secs=0",
            "--use_xnnpack=true",
            "--input_layer=input0",
            f"--input_layer_shape={samples},28,28,1",
            "--input_layer_value_files=input0:/data/local/tmp/harness/blobs/input",
            "--output_filepath=/data/local/tmp/harness/output",
        ]
        for graph, command in list(first.items())[: len(accuracies)]
    ]


def bare_loop(
    serial: str,
    commands: list[list[str]],
    accuracy: list[list[str]],
    spec: SweepSpec,
    registry: ToolRegistry,
    folder: Path,
) -> float:
    """Push the files, then make every invocation by `adb shell`; return the wall time in seconds."""
    model = find_model(spec.model)
    variants = [
        make_variant(model, find_recipe(name), cache=cache_folder(), observer=SilentObserver()) for name in spec.recipes
    ]
    tool = next(tool for tool in registry.tools() if tool.vendor_folder)
    inputs = folder / "input"
    dataset = load_dataset(model)
    assert dataset is not None
    inputs.write_bytes(choose_samples(dataset, spec.measurement.accuracy_samples).inputs[0].tobytes())
    blobs = "/data/local/tmp/harness/blobs"

    def adb(*parts: str) -> None:
        subprocess.run([adb_program(), "-s", serial, *parts], check=True, capture_output=True, timeout=300)

    started = time.perf_counter()
    adb("shell", f"mkdir -p {blobs}")
    adb("push", str(tool.path), f"{blobs}/{tool.sha256}")
    for variant in variants:
        adb("push", str(variant.path), f"{blobs}/{variant.sha256}")
    for command in accuracy:
        adb("push", str(inputs), f"{blobs}/input")
        adb("shell", shlex.join(command))
        adb("pull", "/data/local/tmp/harness/output", str(folder / "output"))
    for command in commands:
        adb("shell", shlex.join(command))
    return time.perf_counter() - started


def cost_of_a_look(serial: str) -> float:
    """Return the seconds of one look at the phone's state, the mean of twenty."""
    device = open_device(serial)
    started = time.perf_counter()
    for _ in range(20):
        read_telemetry(device)
    return (time.perf_counter() - started) / 20


def show(figures: dict[str, float]) -> None:
    """Print the figures for people."""
    table = Table("what", "figure", title="harness sweep against a bare loop of adb push and adb shell")
    rows = {
        "harness sweep": f"{figures['sweep_s']:.2f} s",
        "bare loop, same invocations": f"{figures['bare_loop_s']:.2f} s",
        "ratio": f"{figures['ratio']:.3f}",
        "processes of the tool": f"{figures['invocations']:.0f}",
        "of the difference: looks": f"{figures['telemetry_s']:.2f} s ({figures['telemetry_ms_each']:.1f} ms each)",
        "of the difference: all else": f"{figures['rest_s']:+.2f} s (hashes, storing; less adb)",
    }
    for what, figure in rows.items():
        table.add_row(what, figure)
    Console().print(table)


if __name__ == "__main__":
    main()
