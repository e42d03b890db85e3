"""Reading a .tflite file's facts, and surviving any bytes at all."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_graphs import dense_graph

from harness.errors import CompressionError, FailureClass
from harness.tflite.flatbuffer import read_graph

GRAPH = dense_graph()


def test_facts_of_a_float_graph() -> None:
    facts = read_graph(GRAPH, name="dense")
    assert facts.operators == {"FULLY_CONNECTED": 1}
    assert facts.operator_versions == {"FULLY_CONNECTED": 1}
    assert facts.weight_types == {"float32": 4 * 16 * 4}
    assert facts.custom_operators == ()
    (first,) = facts.inputs
    assert (first.name, first.shape, first.type, first.scale) == ("in", (1, 16), "float32", None)
    (last,) = facts.outputs
    assert (last.name, last.shape) == ("out", (1, 4))


def test_custom_operators_are_named() -> None:
    facts = read_graph(dense_graph(custom_operator="MyOp"), name="dense")
    assert facts.custom_operators == ("MyOp",)
    assert facts.operators == {"MyOp": 1}


def test_versions_are_read() -> None:
    assert read_graph(dense_graph(version=12), name="dense").operator_versions == {"FULLY_CONNECTED": 12}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty"),
        (b"PK\x03\x04 a zip file", "not a .tflite file"),
        (b"TFL3", "not a .tflite file"),
        (GRAPH[:200], "corrupt or cut short"),
        (b"\xff\xff\xff\x7fTFL3", "corrupt or cut short"),
    ],
)
def test_what_is_no_model_is_refused_with_its_reason(content: bytes, says: str) -> None:
    with pytest.raises(CompressionError, match=says) as caught:
        read_graph(content, name="the file")
    assert caught.value.failure.failure_class is FailureClass.INVALID_MODEL


@settings(max_examples=400, deadline=None)
@given(
    changes=st.lists(st.tuples(st.integers(0, len(GRAPH) - 1), st.integers(0, 255)), max_size=8),
    length=st.integers(0, len(GRAPH)),
)
def test_corrupt_bytes_give_facts_or_invalid_model(changes: list[tuple[int, int]], length: int) -> None:
    content = bytearray(GRAPH)
    for position, value in changes:
        content[position] = value
    _facts_or_invalid(bytes(content[:length]))


@settings(max_examples=200, deadline=None)
@given(position=st.integers(2, len(GRAPH) // 4 - 1), value=st.integers(-(2**31), 2**31 - 1))
def test_corrupt_offsets_and_lengths_give_facts_or_invalid_model(position: int, value: int) -> None:
    content = bytearray(GRAPH)
    struct.pack_into("<i", content, position * 4, value)
    _facts_or_invalid(bytes(content))


@given(st.binary(max_size=300))
def test_any_bytes_after_the_identifier(tail: bytes) -> None:
    _facts_or_invalid(struct.pack("<I", 8) + b"TFL3" + tail)


def _facts_or_invalid(content: bytes) -> None:
    try:
        facts = read_graph(content, name="fuzzed")
    except CompressionError as error:
        assert error.failure.failure_class is FailureClass.INVALID_MODEL
    else:
        assert all(count > 0 for count in facts.operators.values())
