"""A whole sweep whose recipes make good and broken variants; the device is a stand-in that stores equal latencies."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from results_examples import accuracy_outcome, cell, facts, measure, tool

from harness.analysis.summary import summarize
from harness.paths import cache_folder
from harness.progress import SilentObserver
from harness.spec.sweep import load_sweep_spec
from harness.store.store import Store
from harness.sweep import variants as variants_module
from harness.sweep.device_source import AdbSource
from harness.sweep.runner import SweepRunner
from harness.tflite.variant import Variant

MODEL = Path(__file__).parents[1] / "accuracy/data/pooled-float.tflite"


class EqualDevice(AdbSource):
    """Gives every variant the same latencies and a passed output check."""

    def measure(self, context, _name):
        context.variants.wait_for_all()
        context.store.add_device(context.sweep_id, facts(), "generic")
        context.store.add_tool(context.sweep_id, tool())
        for variant in context.variants.ready:
            known = replace(cell(variant.name), variant_sha256=variant.sha256)
            measure(context.store, known, [100.0] * 5, outcome=accuracy_outcome(), sweep_id=context.sweep_id)
        return False


@pytest.fixture
def run(tmp_path):
    """Run a sweep of recipes of the tiny model, and return its rows by variant."""

    def sweep(*recipes, resume=None):
        spec = load_sweep_spec(None, {"model": str(MODEL), "recipes": recipes, "devices": ["host"]})
        with Store.open(tmp_path) as store:
            runner = SweepRunner(store, SilentObserver(), site=EqualDevice())
            outcome = runner.run(spec, ["host"], resume=resume)
            return outcome.sweep_id, {row.variant: row for row in summarize(store, outcome.sweep_id)}

    return sweep


@pytest.fixture
def turned_biases(monkeypatch):
    """Break what the recipe fp16 makes: its biases get another sign."""
    from ai_edge_litert.schema_py_generated import TensorType
    from ai_edge_litert.tools import flatbuffer_utils

    make = variants_module.make_variant

    def broken(model, recipe, **arguments):
        made = make(model, recipe, **arguments)
        if recipe.name != "fp16":
            return made
        content = flatbuffer_utils.read_model(str(made.path))
        for tensor in content.subgraphs[0].tensors:
            data = content.buffers[tensor.buffer].data
            if len(tensor.shape) == 1 and data is not None and tensor.type == TensorType.FLOAT16:
                turned = -np.frombuffer(bytes(data), np.float16)
                content.buffers[tensor.buffer].data = np.frombuffer(turned.tobytes(), np.uint8)
        path = cache_folder() / "broken.tflite"
        flatbuffer_utils.write_model(content, str(path))
        return Variant(path, made.card.model_copy(update={"sha256": "b" * 64}))

    monkeypatch.setattr(variants_module, "make_variant", broken)


def test_promise_h23_a_broken_variant_is_never_ranked(run, turned_biases):
    """Without labels and without data; equal latencies would give both the first place."""
    _, rows = run("as-is", "fp16")
    assert (rows["as-is"].verdict, rows["as-is"].rank) == ("ranked", 1)
    assert (rows["as-is"].fidelity_note, rows["as-is"].fidelity_range_kept) == (None, 1)
    assert (rows["fp16"].verdict, rows["fp16"].rank) == ("accuracy_lost", None)
    assert rows["fp16"].failure_class == "accuracy_lost"
    assert rows["fp16"].fidelity_inputs == "random"
    assert rows["fp16"].fidelity_snr_db < 40
    assert "signal to noise" in rows["fp16"].failure_message


def test_promise_h23_good_variants_keep_their_rank(run, monkeypatch):
    sweep_id, rows = run("fp16", "dynamic-int8")
    assert {name: (row.verdict, row.rank) for name, row in rows.items()} == {
        "fp16": ("ranked", 1),
        "dynamic-int8": ("ranked", 1),
    }
    assert rows["fp16"].fidelity_snr_db > rows["dynamic-int8"].fidelity_snr_db > 10
    # A resumed sweep compares nothing again: no process is started.
    monkeypatch.setattr("harness.accuracy.reference.run_child", None)
    _, again = run("fp16", "dynamic-int8", resume=sweep_id)
    assert {name: row.fidelity_snr_db for name, row in again.items()} == {
        name: row.fidelity_snr_db for name, row in rows.items()
    }
