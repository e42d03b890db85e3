"""How fast a store of a million invocations answers: `python benchmarks/store.py [--quick] [--folder FOLDER]`.

A lab of ten phones has measured 40 cells a night for 250 nights, ten invocations each, and every phone against itself
(A/A) ten times. The store is built through the real tables with values as phones give them; the raw logs, which no
command below reads, are left out. Then each command runs as a user runs it: as a process of its own, whose wall time,
processor time and peak memory are printed. The file is in the page cache, as it is right after a night's sweep.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from sqlalchemy import Connection, insert

from harness.devices.device import DeviceFacts, DeviceKind
from harness.spec.sweep import load_sweep_spec
from harness.store import schema
from harness.store.backend import WRITES
from harness.store.location import find_location
from harness.store.records import FILE_NAME, Cell
from harness.store.sqlite import file_engine
from harness.store.versions import prepare_tables
from harness.text import to_json, utc_text
from harness.tflite.variant import VariantCard

VARIANTS = ("fp32", "fp16", "dynamic", "int8", "int16x8", "prune50", "prune50-int8", "cluster16", "qat-int8", "lowrank")
DELEGATES = ("cpu", "cpu-builtin", "gpu", "nnapi")
INVOCATIONS = 10
AA_SWEEPS = 10
FIRST_NIGHT = datetime(2026, 1, 1, 22, tzinfo=UTC)
TOOL_SHA256 = "f" * 64
KINDS_OF_TELEMETRY = 200
"""Different states of a phone; each is written as JSON once, so that building takes minutes, not hours."""


@dataclass(frozen=True)
class KeyedCell:
    """A cell with what is the same in every night, made once."""

    cell: Cell
    key: str
    command: str
    """As JSON."""
    base_us: float


@dataclass(frozen=True)
class Size:
    """How much the store holds."""

    nights: int
    phones: int
    turns: int
    """How often each command is timed."""


FULL, QUICK = Size(nights=250, phones=10, turns=5), Size(nights=5, phones=10, turns=1)


def main() -> None:
    """Build, measure, print the table, and end with one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="five nights, each command once: under a minute")
    parser.add_argument("--folder", type=Path, help="keep the store here, and use the one that is here already")
    arguments = parser.parse_args()
    size = QUICK if arguments.quick else FULL
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        figures: dict[str, float] = {}
        if not (folder / FILE_NAME).exists():
            started = time.perf_counter()
            build(folder, size)
            figures["build_s"] = time.perf_counter() - started
        figures |= count(folder)
        for name, command in commands(folder, Path(temporary)).items():
            figures |= measure(name, command, size.turns)
        figures["report_file_mb"] = (Path(temporary) / "night.html").stat().st_size / 1e6
    show(figures)
    machine = {"cores": os.cpu_count(), "platform": platform.platform(), "load": os.getloadavg()[0]}
    print(json.dumps({"benchmark": "store", "figures": figures, "machine": machine}))


def commands(folder: Path, temporary: Path) -> dict[str, list[str]]:
    """Return what is timed, by its name."""
    results = ["--results", str(folder)]
    return {
        "list": ["results", "list", *results],
        "compare": ["compare", "latest~1", "latest", *results],
        "summary": ["results", "show", "latest", *results],
        "export": [
            "results",
            "export",
            "latest",
            "--rows",
            "invocations",
            "--format",
            "parquet",
            "-o",
            str(temporary / "night.parquet"),
            *results,
        ],
        "prune": ["results", "prune", "--keep", "100", "--dry-run", *results],
        "report": ["report", "latest", "-o", str(temporary / "night.html"), *results],
    }


def measure(name: str, arguments: list[str], turns: int) -> dict[str, float]:
    """Run a command so often; return the median of its wall and processor times, and its peak memory."""
    walls, processors, peaks = [], [], []
    for _ in range(turns + 1):  # the first is left out: it fills the page cache
        started = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-m", "harness", *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        assert process.stderr is not None
        errors = process.stderr.read().decode()
        _, status, usage = os.wait4(process.pid, 0)
        walls.append(time.perf_counter() - started)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode > 1:  # 1: a cell of the night failed
            raise SystemExit(f"harness {' '.join(arguments)}: {errors}")
        processors.append(usage.ru_utime + usage.ru_stime)
        peaks.append(usage.ru_maxrss / 1000)
    return {
        f"{name}_s": float(np.median(walls[1:])),
        f"{name}_processor_s": float(np.median(processors[1:])),
        f"{name}_peak_mb": max(peaks),
    }


def count(folder: Path) -> dict[str, float]:
    """Return how much the store holds."""
    engine = file_engine(find_location(folder).url)
    with engine.connect() as connection:
        sweeps = connection.exec_driver_sql("SELECT count(*) FROM sweeps").scalar_one()
        invocations = connection.exec_driver_sql("SELECT count(*) FROM invocations").scalar_one()
    engine.dispose()
    return {"sweeps": sweeps, "invocations": invocations, "file_mb": (folder / FILE_NAME).stat().st_size / 1e6}


# ---- building ----


def build(folder: Path, size: Size) -> None:
    """Fill a new store."""
    engine = file_engine(find_location(folder).url)
    prepare_tables(engine, str(folder))
    generator = np.random.default_rng(1)
    phones = [f"R58M{index:03}" for index in range(size.phones)]
    cells = [keyed(variant, phone, delegate) for phone in phones for variant in VARIANTS for delegate in DELEGATES]
    telemetry = [to_json(phone_state(generator)) for _ in range(KINDS_OF_TELEMETRY)]
    sampled = [to_json(clock_samples(generator)) for _ in range(KINDS_OF_TELEMETRY)]
    with engine.connect().execution_options(**{WRITES: True}) as connection:
        for night in range(size.nights):
            started_at = FIRST_NIGHT + timedelta(days=night)
            with connection.begin():
                add_sweep(connection, started_at, cells, telemetry, sampled, generator)
        for turn in range(AA_SWEEPS):
            for index, cell in enumerate(cells[:: len(VARIANTS) * len(DELEGATES)]):
                started_at = FIRST_NIGHT + timedelta(hours=-100 * (turn + 1), minutes=index)
                with connection.begin():
                    add_sweep(connection, started_at, [cell], telemetry, sampled, generator)
    engine.dispose()


def add_sweep(
    connection: Connection,
    started_at: datetime,
    cells: list[KeyedCell],
    telemetry: list[str],
    sampled: list[str],
    generator: np.random.Generator,
) -> None:
    """Insert one sweep with all that belongs to it. One cell alone is measured against itself (A/A)."""
    sweep_id = f"{started_at:%Y%m%d-%H%M%S}-ab12"
    is_noise = len(cells) == 1
    phones, variants = (
        dict.fromkeys(getattr(cell.cell, name) for cell in cells) for name in ("serial", "variant_name")
    )
    spec = load_sweep_spec(None, {"purpose": "noise"} if is_noise else {}).model_dump(mode="json")
    of_sweep = {"sweep_id": sweep_id}
    connection.execute(
        insert(schema.sweeps).values(
            id=sweep_id,
            started_at_utc=utc_text(started_at),
            finished_at_utc=utc_text(started_at + timedelta(hours=8)),
            status="finished",
            preset="standard",
            seed=1,
            harness_version="0.1.0",
            spec=spec,
            host={"name": "lab"},
        )
    )
    connection.execute(
        insert(schema.devices),
        [
            of_sweep
            | {
                "serial": phone,
                "title": "Google Pixel 8",
                "kind": "phone",
                "profile": "pixel-8",
                "labels": [],
                "facts": asdict(facts(phone)),
                "preparation": {},
            }
            for phone in phones
        ],
    )
    connection.execute(
        insert(schema.variants),
        [
            of_sweep
            | {
                "name": name,
                "sha256": sha256(name),
                "size_bytes": 100_000,
                "gzip_size_bytes": 60_000,
                "card": card(name),
            }
            for name in variants
        ],
    )
    tool = {"name": "benchmark_model", "family": "interpreter", "facts": {"flags": ["graph", "num_runs"]}}
    connection.execute(insert(schema.tools).values(of_sweep | {"sha256": TOOL_SHA256} | tool))
    connection.execute(insert(schema.cells), [of_sweep | asdict(cell.cell) | {"key": cell.key} for cell in cells])
    names = [column.name for column in schema.invocations.columns if column.name != "id"]
    rows = invocation_rows(sweep_id, started_at, cells, telemetry, sampled, generator)
    connection.exec_driver_sql(
        f"INSERT INTO invocations ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})",
        [tuple(row.get(name) for name in names) for row in rows],
    )
    connection.execute(
        insert(schema.accuracies),
        [
            of_sweep
            | {
                "cell_key": cell.key,
                "attempt": 1,
                "wall_s": 20.0,
                "log_path": "a.log.gz",
                "note": "",
                "samples_per_process": 500,
                "samples": 500,
                "top1": 0.91,
                "top1_low": 0.88,
                "top1_high": 0.93,
                "agreement": 0.98,
                "agreement_low": 0.96,
                "agreement_high": 0.99,
                "float_top1": 0.912,
                "check_passed": True,
                "check": {"samples": 500, "cosine": 0.9991, "passed": True},
            }
            for cell in cells
        ],
    )


def invocation_rows(
    sweep_id: str,
    started_at: datetime,
    cells: list[KeyedCell],
    telemetry: list[str],
    sampled: list[str],
    generator: np.random.Generator,
) -> Iterator[dict[str, Any]]:
    """Yield the processes of a sweep in interleaved blocks: all as latency, but for one a cell that looks at memory.

    Of processes, 3 % noise; of nights, 2 %; one process in a hundred lands on a slow core.
    """
    night = 1 + 0.02 * generator.standard_normal()
    for block in range(INVOCATIONS):
        noise = np.exp(0.03 * generator.standard_normal(len(cells))) * night
        noise[generator.random(len(cells)) < 0.01] *= 7
        for place, (keyed_cell, factor) in enumerate(zip(cells, noise.tolist(), strict=True)):
            cell = keyed_cell.cell
            is_memory = block == INVOCATIONS - 1
            latency_us = keyed_cell.base_us * factor
            kind = (place * 31 + block) % KINDS_OF_TELEMETRY
            is_cpu = cell.delegate.startswith("cpu")
            yield {
                "sweep_id": sweep_id,
                "cell_key": keyed_cell.key,
                "purpose": "memory" if is_memory else "latency",
                "invocation_index": 0 if is_memory else block,
                "attempt": 1,
                "block": block,
                "started_at_utc": utc_text(started_at + timedelta(seconds=3 * (block * len(cells) + place))),
                "wall_s": 2.5,
                "command": keyed_cell.command,
                "labels": "[]",
                "log_path": log_path(sweep_id, keyed_cell, block),
                "telemetry_before": telemetry[kind],
                "telemetry_after": telemetry[kind - 1],
                "telemetry_during": sampled[kind],
                "cores_allowed": "f0",
                "gate": '{"waited_s": 0.0, "looks": 1, "held_by": "", "open": true, "cool": true}',
                "delegate_achieved": cell.delegate,
                "delegated_nodes": 28 if is_cpu else 31,
                "total_nodes": 31,
                "partitions": 1,
                "fell_back": False,
                "fell_back_reason": "",
                "runs": 50,
                "latency_avg_us": latency_us,
                "latency_min_us": latency_us * 0.97,
                "latency_max_us": latency_us * 1.2,
                "latency_std_us": latency_us * 0.028,
                "init_us": 5000.0,
                "first_inference_us": 1.5 * latency_us,
                "warmup_asked_runs": 20,
                "warmup_converged": True,
                "warmup_runs": 20,
                "memory_init_mb": 4.5,
                "warmup_window_us": 20 * latency_us,
                "timed_window_us": 50 * latency_us,
                "memory_overall_mb": 12.25,
            }


def keyed(variant: str, phone: str, delegate: str) -> KeyedCell:
    """Return a cell; each variant and delegate has a latency of its own."""
    cell = Cell(sha256(variant), variant, phone, delegate, 4, TOOL_SHA256, "f0", "pixel-8", {"runs": 50})
    base_us = 1000.0 * (1 + VARIANTS.index(variant) + 3 * DELEGATES.index(delegate))
    return KeyedCell(cell, cell.key, command(cell), base_us)


def command(cell: Cell) -> str:
    """Return a command line as JSON."""
    folder = "/data/local/tmp/harness/blobs"
    return to_json(
        [
            f"{folder}/{TOOL_SHA256}",
            f"--graph={folder}/{cell.variant_sha256}",
            "--num_threads=4",
            "--num_runs=50",
            "--min_secs=0",
            "--max_secs=150",
            "--warmup_runs=20",
            "--warmup_min_secs=0",
            f"--use_xnnpack={str(cell.delegate == 'cpu').lower()}",
            f"--use_gpu={str(cell.delegate == 'gpu').lower()}",
        ]
    )


def log_path(sweep_id: str, keyed_cell: KeyedCell, block: int) -> str:
    """Return where the raw log would lie."""
    cell = keyed_cell.cell
    name = f"{cell.variant_name}--{cell.delegate}--t4--{keyed_cell.key}--{block:03}-1"
    return f"{sweep_id}/logs/{cell.serial}/{name}.log.gz"


def phone_state(generator: np.random.Generator) -> dict[str, object]:
    """Return what a look at a phone of eight cores gives."""
    frequencies = {f"cpu{core}": int(generator.integers(300, 2900)) * 1000 for core in range(8)}
    sensors = ("skin", "battery", "cpu-big", "cpu-mid", "cpu-little", "gpu", "tpu", "modem")
    return {
        "thermal_status": 0,
        "temperatures_c": {sensor: round(float(generator.normal(34, 3)), 1) for sensor in sensors},
        "battery_percent": int(generator.integers(40, 100)),
        "battery_temperature_c": 29.5,
        "plugged": "usb",
        "screen_on": False,
        "power_save": False,
        "core_frequencies_khz": frequencies,
        "core_floors_khz": dict.fromkeys(frequencies, 300_000),
        "core_ceilings_khz": dict.fromkeys(frequencies, 2_900_000),
        "load_1min": round(float(generator.gamma(2, 0.5)), 2),
    }


def clock_samples(generator: np.random.Generator) -> dict[str, object]:
    """Return clocks as they are sampled beside the timed runs."""
    return {
        "interval_s": 0.25,
        "core_frequencies_khz": {
            f"cpu{core}": (1000 * generator.integers(1000, 2900, 10)).tolist() for core in range(4, 8)
        },
    }


def facts(serial: str) -> DeviceFacts:
    """Return a phone."""
    fingerprint = "google/shiba/shiba:15/AP4A.250105.002/12701944:user/release-keys"
    return DeviceFacts(serial, DeviceKind.PHONE, model="Pixel 8", maker="Google", fingerprint=fingerprint)


def sha256(name: str) -> str:
    """Return something as long as a SHA-256."""
    return (name.encode().hex() * 64)[:64]


def card(name: str) -> dict[str, Any]:
    """Return a variant's card."""
    return VariantCard(
        model="fashion-dscnn",
        model_sha256="0" * 64,
        recipe=name,
        steps=(),
        target_runtime="2.14.1",
        libraries={},
        calibration=None,
        sha256=sha256(name),
        size_bytes=100_000,
        gzip_size_bytes=60_000,
        operators={"CONV_2D": 31},
        operator_versions={"CONV_2D": 1},
        custom_operators=(),
        weight_types={},
        inputs=(),
        outputs=(),
        seconds=1.5,
    ).model_dump(mode="json")


def show(figures: dict[str, float]) -> None:
    """Print the figures for people."""
    title = (
        f"{figures['invocations']:,.0f} invocations of {figures['sweeps']:.0f} sweeps, {figures['file_mb']:.0f} MB; "
        f"a night's report {figures['report_file_mb']:.1f} MB"
    )
    table = Table("command", "wall s", "processor s", "peak MB", title=title)
    for name in [key.removesuffix("_peak_mb") for key in figures if key.endswith("_peak_mb")]:
        wall, processor, peak = (figures[f"{name}_{what}"] for what in ("s", "processor_s", "peak_mb"))
        table.add_row(name, f"{wall:.2f}", f"{processor:.2f}", f"{peak:.0f}")
    Console().print(table)


if __name__ == "__main__":
    main()
