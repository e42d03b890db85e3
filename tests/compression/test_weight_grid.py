"""Grids of quantized weights: the uniform formula, and that zeros do not vote."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from small_graphs import INPUT_SIZE, dense_graph, static_ranges

from harness.compression.graph import quantizer
from harness.compression.judges import run_graph
from harness.compression.weights.rounding import quantize_weight, regrid
from harness.tflite.number_formats import read_grids

WEIGHTS = arrays(np.float32, (3, 8), elements=st.floats(-2, 2, width=32).filter(lambda x: x == 0 or abs(x) > 1e-3))


@given(WEIGHTS, st.sampled_from([2, 3, 4, 8]), st.sampled_from([None, 0, 1]))
def test_codes_follow_the_uniform_formula(weight: NDArray[Any], bits: int, axis: int | None) -> None:
    codes, scales = quantize_weight(weight, bits, axis=axis, rule="largest")
    limit = 2 ** (bits - 1) - 1
    shape = (1, 1) if axis is None else tuple(-1 if place == axis else 1 for place in range(2))
    steps = scales.reshape(shape)
    assert np.abs(codes).max() <= limit
    assert (codes[weight == 0] == 0).all()
    assert (np.abs(codes * steps - weight) <= steps / 2 * 1.001 + 1e-9).all(), "never off by more than half a step"


@given(WEIGHTS, st.sampled_from([3, 4]))
def test_least_error_is_never_worse_and_ignores_zeros(weight: NDArray[Any], bits: int) -> None:
    def error(rule: Any) -> NDArray[Any]:
        codes, scales = quantize_weight(weight, bits, axis=0, rule=rule)
        return ((codes * scales[:, None] - weight) ** 2).sum(1)

    assert (error("least-error") <= error("largest") * (1 + 1e-5) + 1e-9).all()
    padded = np.hstack([weight, np.zeros((3, 50), np.float32)])
    for one, other in zip(
        quantize_weight(weight, bits, axis=0, rule="least-error")[1],
        quantize_weight(padded, bits, axis=0, rule="least-error")[1],
        strict=True,
    ):
        assert one == other


@pytest.mark.parametrize("activations", ["int8", "float"])
def test_a_graph_on_a_new_grid_computes_what_its_numbers_say(activations: Any) -> None:
    graph = quantizer.prepare(dense_graph())
    random = np.random.default_rng(5)
    inputs = random.normal(size=(50, INPUT_SIZE)).astype(np.float32)
    samples = [{"in": row[None]} for row in inputs]
    ranges = static_ranges(graph, samples)
    rules = [quantizer.FormatRule("int4", activations)]
    plain = quantizer.quantize(graph, rules, ranges=ranges, newest_kernels=True)  # old ones have no int4 here
    finer = regrid(plain, graph, rule="least-error")
    coarse = regrid(plain, graph, int4_bits=2, rule="largest")
    reference = run_graph(graph, inputs)
    errors = [np.abs(run_graph(made, inputs) - reference).mean() for made in (finer, plain, coarse)]
    assert errors[0] < errors[2]
    assert errors[1] < errors[2]
    weights = next(grid for grid in read_grids(coarse) if grid.written_by == "weights")
    assert weights.type == "int4"


def test_the_formats_that_are_shown_are_those_of_the_file() -> None:
    graph = quantizer.prepare(dense_graph())
    samples = [{"in": np.linspace(-1, 3, INPUT_SIZE, dtype=np.float32)[None]}]
    made = quantizer.quantize(
        graph,
        [quantizer.FormatRule("int8", "int8")],
        ranges=static_ranges(graph, samples),
        float_io=False,
    )
    grids = {grid.written_by: grid for grid in read_grids(made)}
    source = grids["input"]
    assert source.steps is not None
    assert source.offsets is not None
    assert source.steps[0] == pytest.approx(4 / 255, rel=1e-3)
    assert source.low == pytest.approx(-1, abs=source.steps[0])
    assert source.high == pytest.approx(3, abs=source.steps[0])
    assert grids["weights"].scales == 4, "one step a channel"
    assert grids["weights"].offsets == (0, 0)


def test_fewer_bits_are_for_int4_alone() -> None:
    """Depthwise kernels, and layers that an accuracy budget gives back their precision, are stored as int8."""
    graph = quantizer.prepare(dense_graph())
    plain = quantizer.quantize(graph, [quantizer.FormatRule("int8")])
    inputs = np.random.default_rng(6).normal(size=(20, INPUT_SIZE)).astype(np.float32)
    assert np.array_equal(
        run_graph(regrid(plain, graph, int4_bits=3, rule="largest"), inputs),
        run_graph(regrid(plain, graph, rule="largest"), inputs),
    )
