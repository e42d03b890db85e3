"""Sweeps as tests need them: real value objects in a real store."""

from datetime import UTC, datetime, timedelta

from harness.accuracy.outcome import Accuracy, AccuracyOutcome, OutputCheck, Proportion
from harness.benchmark.invocation import Delegation, Invocation, Measurement, Pass
from harness.benchmark.tool import Tool, ToolFamily, ToolSystem
from harness.devices.device import DeviceFacts, DeviceKind
from harness.store.records import Cell, SweepRecord
from harness.store.rows import FinishedInvocation
from harness.tflite.variant import VariantCard

START = datetime(2026, 11, 24, 8, 30, tzinfo=UTC)
SWEEP = "20261124-083000-ab12"


def sweep_record(identity=SWEEP, **changes):
    values = {"spec": {"model": "fashion-dscnn"}, "preset": "quick", "seed": 1, "host": {"name": "lab"}}
    return SweepRecord(identity, START, **(values | changes))


def facts(serial="R58M", model="Pixel 8", maker="Google", kind=DeviceKind.PHONE):
    return DeviceFacts(serial, kind, model=model, maker=maker)


def card(name="int8", size_bytes=100_000):
    return VariantCard(
        model="fashion-dscnn",
        model_sha256="0" * 64,
        recipe=name,
        steps=(),
        target_runtime="2.14.1",
        libraries={},
        calibration=None,
        sha256=sha256(name),
        size_bytes=size_bytes,
        gzip_size_bytes=size_bytes // 2,
        operators={"CONV_2D": 3},
        operator_versions={"CONV_2D": 1},
        custom_operators=(),
        weight_types={},
        inputs=(),
        outputs=(),
        seconds=1.5,
    )


def sha256(name):
    return (name.encode().hex() * 64)[:64]


def tool():
    return Tool(
        name="benchmark_model",
        family=ToolFamily.INTERPRETER,
        system=ToolSystem.ANDROID,
        abi="arm64-v8a",
        sha256="f" * 64,
        path="/tools/benchmark_model",
        origin="test",
        flags=frozenset({"graph", "num_runs"}),
    )


def cell(variant="int8", delegate="cpu", serial="R58M", threads=1, **changes):
    values = {"tool_sha256": "f" * 64, "core_mask": None, "profile": "generic", "mode": {"runs": 30}}
    return Cell(sha256(variant), variant, serial, delegate, threads, **(values | changes))


def measurement(latency_us=1000.0, requested="cpu", achieved=None, fell_back=False, nodes=(31, 31), **changes):
    values = {
        "runs": 30,
        "latency_avg_us": latency_us,
        "latency_min_us": latency_us,
        "latency_max_us": latency_us,
        "latency_std_us": 1.0,
        "latency_median_us": None,
        "init_us": 5000.0,
        "first_inference_us": 1500.0,
        "memory_init_mb": 1.5,
        "memory_overall_mb": 4.5,
        "peak_memory_mb": None,
    }
    delegation = Delegation(requested, achieved or requested, *nodes, 1, fell_back, "")
    return Measurement(delegation, **(values | changes))


def succeeded(latency_us=1000.0, **changes):
    return Invocation(("benchmark_model", "--graph=x"), "the log", 1.25, measurement=measurement(latency_us, **changes))


def failed(failure):
    return Invocation(("benchmark_model", "--graph=x"), "the log", 1.25, failure=failure)


def accuracy_outcome(top1=0.91, float_top1=0.915, *, passed=True, failure=None, note=""):
    check = OutputCheck(500, 0.999, 0.01, 1.0, False, False, passed, "cosine at least 0.99")
    share = Proportion(top1, top1 - 0.02, top1 + 0.02)
    accuracy = Accuracy(500, share, None, Proportion(0.98, 0.97, 0.99), float_top1)
    return AccuracyOutcome(check, accuracy, failure, 500, note, "accuracy log", 2.5)


def begin(store, sweep_id=SWEEP, *, variants=("int8",), devices=None):
    """Start a sweep with its devices, variants and tool."""
    store.start_sweep(sweep_record(sweep_id))
    for device in devices or [facts()]:
        store.add_device(sweep_id, device, "generic", ())
    for name in variants:
        store.add_variant(sweep_id, card(name))
    store.add_tool(sweep_id, tool())


def add(store, cell, index, invocation, *, purpose=Pass.LATENCY, sweep_id=SWEEP):
    store.add_invocation(
        sweep_id,
        cell.key,
        FinishedInvocation(
            purpose=purpose,
            index=index,
            block=index,
            invocation=invocation,
            started_at=START + timedelta(seconds=index),
            telemetry_before={"battery_percent": 80},
        ),
    )


def measure(store, cell, latencies_us, *, outcome=None, memory=True, sweep_id=SWEEP, **changes):
    """Store a cell with one invocation a latency, a memory pass and an accuracy outcome."""
    store.add_cell(sweep_id, cell)
    changes = {"requested": cell.delegate} | changes
    for index, latency_us in enumerate(latencies_us):
        add(store, cell, index, succeeded(latency_us, **changes), sweep_id=sweep_id)
    if memory:
        add(store, cell, 0, succeeded(9999.0, **changes), purpose=Pass.MEMORY, sweep_id=sweep_id)
    if outcome:
        store.add_accuracy(sweep_id, cell.key, outcome)
