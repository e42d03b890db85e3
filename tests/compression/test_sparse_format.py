"""The sparse format against a decoder that walks it as TensorFlow Lite's does, and against a count of its bytes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import permutations, product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes
from numpy.typing import NDArray

from harness.compression.graph.sparse_format import SparseLayout, SparseValues, encode, smallest

Values = NDArray[Any]


def _decode(sparse: SparseValues, shape: tuple[int, ...]) -> Values:
    """Walk the levels recursively, one value after the other, as `FormatConverter::Populate` does."""
    result = np.zeros(shape, sparse.values.dtype)
    stored = iter(sparse.values)
    rank, block_axes = len(shape), sparse.layout.block_axes

    def walk(level: int, node: int, path: tuple[int, ...]) -> None:
        if level == len(sparse.levels):
            place = [0] * rank
            for axis, index in zip(sparse.layout.order, path, strict=False):
                place[axis] = index
            for axis, index in zip(block_axes, path[rank:], strict=True):
                place[axis] = place[axis] * sparse.layout.block[axis] + index
            result[tuple(place)] = next(stored)
            return
        stage = sparse.levels[level]
        if stage.segments is None:
            for index in range(stage.size):
                walk(level + 1, node * stage.size + index, (*path, index))
            return
        for child in range(int(stage.segments[node]), int(stage.segments[node + 1])):
            walk(level + 1, child, (*path, int(stage.indices[child])))

    walk(0, 0, ())
    assert next(stored, None) is None
    return result


def _mostly_zeros(shape: tuple[int, ...], seed: int, share: float, kind: str) -> Values:
    random = np.random.default_rng(seed)
    values = random.integers(-127, 128, shape).astype(kind)
    return np.where(random.random(shape) < share, 0, values).astype(kind)


@st.composite
def _tensors(draw: st.DrawFn) -> Values:
    shape = draw(array_shapes(min_dims=1, max_dims=4, max_side=8))
    share = draw(st.sampled_from([0.0, 0.5, 0.9, 1.0]))
    return _mostly_zeros(shape, draw(st.integers(0, 999)), share, draw(st.sampled_from(["<f4", "i1"])))


@st.composite
def _layouts(draw: st.DrawFn, shape: tuple[int, ...]) -> SparseLayout:
    order = tuple(draw(st.permutations(range(len(shape)))))
    sparse = tuple(draw(st.booleans()) for _ in shape)
    block = tuple(draw(st.sampled_from([part for part in (1, 2, 4) if size % part == 0])) for size in shape)
    return SparseLayout(order, sparse, block)


@settings(max_examples=200)
@given(data=st.data(), values=_tensors())
def test_every_layout_gives_the_tensor_back(data: st.DataObject, values: Values) -> None:
    sparse = encode(values, data.draw(_layouts(values.shape)))
    np.testing.assert_array_equal(_decode(sparse, values.shape), values)


def _all_layouts(shape: tuple[int, ...]) -> Iterator[SparseLayout]:
    blocks = product(*([part for part in (1, 2, 4, 8) if size % part == 0] for size in shape))
    for block in blocks:
        for order in permutations(range(len(shape))):
            for sparse in product((False, True), repeat=len(shape)):
                yield SparseLayout(order, sparse, block)


@settings(max_examples=8)
@given(
    shape=st.tuples(*[st.sampled_from([1, 2, 3, 8])] * 3),
    seed=st.integers(0, 999),
    share=st.sampled_from([0.3, 0.7, 0.95]),
)
def test_no_layout_is_smaller_than_the_one_chosen(shape: tuple[int, ...], seed: int, share: float) -> None:
    values = _mostly_zeros(shape, seed, share, "<f4")
    chosen = smallest(values)
    np.testing.assert_array_equal(_decode(chosen, shape), values)
    # A sparse level over one place only adds to the bytes, so that leaving those out of the search loses nothing.
    assert chosen.bytes == min(encode(values, layout).bytes for layout in _all_layouts(shape))


def test_a_matrix_by_hand() -> None:
    values = np.array([[0, 7, 0, 0], [0, 0, 0, 0], [5, 0, 0, 6]], np.int8)
    sparse = encode(values, SparseLayout(order=(0, 1), sparse=(False, True), block=(1, 1)))
    rows, columns = sparse.levels
    assert (rows.size, rows.segments) == (3, None)
    assert columns.segments.tolist() == [0, 1, 1, 3]
    assert columns.indices.tolist() == [1, 0, 3]
    assert sparse.values.tolist() == [7, 5, 6]
    assert sparse.bytes == 4 + 3 + 3


def test_a_matrix_of_blocks_by_hand() -> None:
    values = np.zeros((4, 4), np.int8)
    values[:2, 2:] = [[1, 2], [0, 4]]
    values[2:, :2] = [[5, 6], [7, 8]]
    sparse = encode(values, SparseLayout(order=(0, 1), sparse=(True, True), block=(2, 2)))
    rows, columns, *inside = sparse.levels
    assert (rows.segments.tolist(), rows.indices.tolist()) == ([0, 2], [0, 1])
    assert (columns.segments.tolist(), columns.indices.tolist()) == ([0, 1, 2], [1, 0])
    assert [(level.size, level.segments) for level in inside] == [(2, None), (2, None)]
    assert sparse.values.tolist() == [1, 2, 0, 4, 5, 6, 7, 8]


def test_blocks_are_found_where_zeros_come_in_blocks() -> None:
    random = np.random.default_rng(2)
    kept = np.kron(random.random((16, 1, 1, 8)) < 0.2, np.ones((2, 1, 1, 4)))
    chosen = smallest((random.normal(size=kept.shape) * kept).astype(np.float32))
    assert chosen.layout.block == (2, 1, 1, 4)


@pytest.mark.parametrize(
    ("size", "indices", "segments"),
    [(255, "uint8", "uint8"), (256, "uint8", "uint16"), (257, "uint16", "uint16"), (70_000, "int32", "int32")],
)
def test_numbers_take_the_narrowest_type_that_holds_them(size: int, indices: str, segments: str) -> None:
    sparse = encode(np.ones((1, size), np.int8), SparseLayout((0, 1), (False, True), (1, 1)))
    (level,) = (level for level in sparse.levels if level.indices is not None)
    assert (level.indices.dtype, level.segments.dtype) == (indices, segments)
    assert sparse.bytes == math.prod(sparse.values.shape) + level.indices.nbytes + level.segments.nbytes


def test_zeros_alone_keep_one_value_since_an_empty_constant_is_none() -> None:
    assert smallest(np.zeros((4, 3, 3, 8), np.float32)).values.tolist() == [0]


def test_zeros_of_either_sign_are_left_out_and_nan_is_kept() -> None:
    sparse = encode(np.array([-0.0, 0.0, np.nan, 2], np.float32), SparseLayout((0,), (True,), (1,)))
    np.testing.assert_array_equal(sparse.values, [np.nan, 2])


def test_a_layout_says_what_it_is() -> None:
    assert str(SparseLayout((1, 0), (False, True), (1, 4))) == "axes 1, 0* in blocks of 1x4 (* sparse)"
