"""Sweeps built by hand to upset a page: markup in names, numbers that are none, no rows, many rows, only failures."""

import math

import results_examples as examples

from harness.analysis.sweep_data import read_sweep_data
from harness.errors import Failure, FailureClass
from harness.report.html.page import ReportOptions, render_report
from harness.store.store import Store

ATTACK = "<script>alert(1)</script>"
BREAKOUT = "</script><img src=x onerror=alert(2)>{{ 7 * 7 }}\u2028"
QUOTED_DEVICE = "Bob's \"new\"\nphone <b>'; --"


def open_store(folder):
    return Store.open(folder / "results")


def page_of(store, name="latest", options=None):
    """Render one sweep of a store."""
    return render_report([read_sweep_data(store, store.find_sweep(name))], options or ReportOptions())


def two_variants(store, *, sweep_id=examples.SWEEP, fast=500.0, slow=1000.0, count=18):
    """fp32 and int8, the second clearly faster, on one phone."""
    examples.begin(store, sweep_id, variants=("fp32", "int8"))
    store.add_variant(sweep_id, examples.card("fp32", 390_000))
    quantized = examples.card("int8").model_copy(update={"steps": ({"technique": "quantization"},)})
    store.add_variant(sweep_id, quantized)
    for variant, latency_us in (("fp32", slow), ("int8", fast)):
        latencies = [latency_us * (1 + 0.002 * (index % 5)) for index in range(count)]
        outcome = examples.accuracy_outcome(top1=0.915 if variant == "fp32" else 0.912)
        examples.measure(store, examples.cell(variant), latencies, outcome=outcome, sweep_id=sweep_id)
    return store


def attacked(store):
    """Every text that can come from outside is an attack, beside figures that are no numbers."""
    device = examples.facts(serial=BREAKOUT, model=QUOTED_DEVICE, maker=ATTACK)
    store.start_sweep(examples.sweep_record(spec={"model": ATTACK}, host={"name": BREAKOUT}))
    store.add_device(examples.SWEEP, device, "generic", (ATTACK, BREAKOUT))
    for name in (ATTACK, BREAKOUT):
        store.add_variant(examples.SWEEP, examples.card(name))
    store.add_tool(examples.SWEEP, examples.tool())
    for index, name in enumerate((ATTACK, BREAKOUT)):
        cell = examples.cell(name, serial=BREAKOUT)
        outcome = examples.accuracy_outcome(note=ATTACK)
        examples.measure(
            store,
            cell,
            [1000.0 + index, 1010, 1020, 990, 1005],
            outcome=outcome,
            memory_overall_mb=math.nan,
            init_us=math.inf,
            latency_std_us=-math.inf,
        )
    failure = Failure(FailureClass.DELEGATE_FAILED, ATTACK, BREAKOUT)
    cell = examples.cell(ATTACK, "gpu", serial=BREAKOUT)
    store.add_cell(examples.SWEEP, cell)
    examples.add(store, cell, 0, examples.failed(failure))
    return store


def empty(store):
    """A sweep without a single row."""
    store.start_sweep(examples.sweep_record())
    return store


def only_failures(store):
    """Nothing but failures, of several classes."""
    examples.begin(store, variants=("fp32", "int8"))
    for variant in ("fp32", "int8"):
        for delegate, failure_class in (("gpu", FailureClass.CRASHED), ("cpu", FailureClass.TIMEOUT)):
            cell = examples.cell(variant, delegate)
            store.add_cell(examples.SWEEP, cell)
            failure = Failure(failure_class, f"The tool ended badly on {delegate}.", "signal 11")
            examples.add(store, cell, 0, examples.failed(failure))
    return store
