"""Costs of steps out of an op profile: recorded ones, and a real one on this host."""

import json
import tarfile
from pathlib import Path

import pytest

from harness.benchmark.benchmark_model.log import parse_log
from harness.benchmark.invocation import ProfiledNode
from harness.errors import FailureError
from harness.partition.costs import step_times
from harness.partition.cuts import balanced_cuts
from harness.partition.graph import Graph, Operator, Tensor

DATA = Path(__file__).parents[1]


def chain_graph(operators, constant=()):
    """Return a graph of operators one after the other; `constant` ones stand beside it and read a constant."""
    tensors = tuple(Tensor(f"t{place}", (1,), "int8") for place in range(2 * operators + 2))
    nodes = tuple(
        Operator("DEQUANTIZE", (2 * operators + 1,), (operators + 1 + place,))
        if place in constant
        else Operator("ABS", (max(before for before in range(-1, place) if before not in constant) + 1,), (place + 1,))
        for place in range(operators)
    )
    return Graph(nodes, tensors, (0,), (operators,), frozenset({2 * operators + 1}))


def node(number, milliseconds, calls=1, name="[t]"):
    return ProfiledNode("ABS", f"{name}:{number}", milliseconds, calls)


def test_times_go_to_the_operators_that_they_were_measured_of():
    nodes = [node(0, 0.5), node(2, 1.0, calls=2), node(1, 0.25), node(7, 9.0, name="Delegate/Convolution")]
    assert step_times(chain_graph(3), nodes) == [500, 250, 2000]


def test_constant_operators_are_nobodys_step():
    graph = chain_graph(3, constant={1})
    assert graph.steps == (0, 2)
    assert step_times(graph, [node(0, 1.0), node(1, 5.0), node(2, 2.0)]) == [1000, 2000]


def test_a_profile_that_leaves_operators_out_is_told():
    with pytest.raises(FailureError, match="tells nothing of 1 operators, such as ABS"):
        step_times(chain_graph(2), [node(0, 1.0)])


def test_a_recorded_profile_of_mobilenet_is_cut_into_equal_times():
    """The first third of MobileNetV2's operators takes more than half of the built-in kernels' time."""
    with tarfile.open(DATA / "benchmark/data/tool-logs.tar.xz") as archive:
        member = next(one for one in archive.getmembers() if one.name.endswith("opprof_cpu.out"))
        log = archive.extractfile(member).read().decode()
    nodes = parse_log(log)[-1].op_profile_order
    graph = chain_graph(len(nodes))
    times_us = step_times(graph, nodes)
    (cut,) = balanced_cuts(graph, times_us, 2)
    assert sum(times_us) > 20_000
    assert abs(sum(times_us[:cut]) - sum(times_us[cut:])) < max(times_us)
    assert cut < len(nodes) / 3


@pytest.mark.official_tool
def test_cuts_by_time_on_this_host(harness_cli, registered_tools):
    model = str(DATA / "accuracy/data/pooled-float.tflite")
    finished = harness_cli("partition", model, "--by", "time", "--stages", "2", "-o", "stages", "--json")
    assert finished.returncode == 0, finished.stderr
    document = json.loads(finished.stdout)
    assert document["exact"] is True
    assert len(document["cuts"]) == 1


def test_cuts_by_time_need_a_tool_that_tells_it(harness_cli):
    refused = harness_cli("partition", str(DATA / "accuracy/data/pooled-float.tflite"), "--by", "time")
    assert refused.returncode == 2
    assert "tells no time by operator, which --by time needs" in refused.stderr
