"""Placements against every possible one."""

from itertools import combinations, permutations, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.partition.placement import Placement, Table, Unit, fastest_chain, fastest_pipeline

CPU, SECOND, GPU = Unit("cpu 0", "cpu", "1"), Unit("cpu 1", "cpu", "2"), Unit("gpu", "gpu", None)
UNITS = (CPU, SECOND, GPU)


def test_a_chain_changes_the_unit_where_that_pays():
    table = Table({"cpu": [10, 10, 1], "gpu": [1, 1, 9]}, [0, 50, 2])
    chain = fastest_chain(table, [CPU, GPU])
    assert [(stage.unit.name, stage.first, stage.last) for stage in chain.stages] == [("gpu", 0, 1), ("cpu 0", 2, 2)]
    assert chain.latency_us == 2 + 3


def test_a_chain_stays_where_crossing_is_dear():
    chain = fastest_chain(Table({"cpu": [10, 10, 1], "gpu": [1, 1, 9]}, [0, 50, 20]), [CPU, GPU])
    assert [(stage.unit.name, stage.first, stage.last) for stage in chain.stages] == [("gpu", 0, 2)]


def test_a_pipeline_uses_every_unit_once():
    pipeline = fastest_pipeline(Table({"cpu": [4, 4, 4, 4], "gpu": [2, 2, 2, 2]}, [0, 1, 1, 1]), UNITS, 3)
    assert {stage.unit.name for stage in pipeline.stages} == {"cpu 0", "cpu 1", "gpu"}
    assert pipeline.interval_us == 5


def test_what_a_unit_cannot_run_is_left_to_others():
    table = Table({"cpu": [5, 5, 5], "gpu": [1, None, 1]}, [0, 0, 0])
    pipeline = fastest_pipeline(table, UNITS, 2)
    assert all(not (stage.unit is GPU and stage.first <= 1 <= stage.last) for stage in pipeline.stages)
    assert fastest_chain(Table({"gpu": [1, None, 1]}, [0, 0, 0]), [GPU]) is None
    assert fastest_pipeline(table, UNITS, 4) is None


times = st.lists(st.one_of(st.none(), st.integers(1, 50)), min_size=4, max_size=4)


def every_pipeline(table, stages):
    for cuts in combinations(range(1, table.pieces), stages - 1):
        ends = [0, *cuts, table.pieces]
        for units in permutations(UNITS, stages):
            found = [table.stage(unit, ends[place], ends[place + 1]) for place, unit in enumerate(units)]
            if None not in found:
                yield Placement(tuple(found))


@given(times, times, st.lists(st.integers(0, 20), min_size=3, max_size=3), st.integers(1, 3))
def test_no_pipeline_is_faster(cpu, gpu, crossing, stages):
    table = Table({"cpu": cpu, "gpu": gpu}, [0, *crossing])
    best = min((way.interval_us for way in every_pipeline(table, stages)), default=None)
    found = fastest_pipeline(table, UNITS, stages)
    assert (found and found.interval_us) == best


@given(times, times, st.lists(st.integers(0, 20), min_size=3, max_size=3))
def test_no_chain_is_faster(cpu, gpu, crossing):
    table = Table({"cpu": cpu, "gpu": gpu}, [0, *crossing])
    ways = []
    for count in range(1, 5):
        for cuts in combinations(range(1, 4), count - 1):
            ends = [0, *cuts, 4]
            for units in product((CPU, GPU), repeat=count):
                found = [table.stage(unit, ends[place], ends[place + 1]) for place, unit in enumerate(units)]
                if None not in found:
                    ways.append(Placement(tuple(found)).latency_us)
    chain = fastest_chain(table, [CPU, GPU])
    assert (chain and chain.latency_us) == min(ways, default=None)


def test_figures_of_a_placement():
    table = Table({"cpu": [3, 4], "gpu": [9, 5]}, [0, 1])
    pipeline = fastest_pipeline(table, [CPU, GPU], 2)
    assert (pipeline.interval_us, pipeline.latency_us) == (6, 9)
    assert pipeline.latency_us == pytest.approx(sum(stage.predicted_us for stage in pipeline.stages))
