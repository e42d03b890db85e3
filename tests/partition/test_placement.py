"""Placements against every possible one."""

from itertools import combinations, pairwise, product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.partition.pipeline import fastest_pipeline
from harness.partition.placement import Cost, Placement, Table, Unit, fastest_chain, utilization

CPU, SECOND = Unit("cpu@0", "cpu", "1", (0,), may_share=True), Unit("cpu@1", "cpu", "2", (1,), may_share=True)
GPU = Unit("gpu", "gpu", "3", (0, 1))
UNITS = (CPU, SECOND, GPU)


def table(crossing, gpu_cores_busy=0.0, whole=None, **times):
    """Return a table of times; the CPU's are processor time too, and the GPU keeps so many cores busy."""
    share = {"cpu": 1.0, "builtin": 1.0, "gpu": gpu_cores_busy}
    costs = {
        delegate: [None if time is None else Cost(time, time * share[delegate]) for time in column]
        for delegate, column in times.items()
    }
    return Table(costs, crossing, whole)


def test_a_chain_changes_the_unit_where_that_pays():
    chain = fastest_chain(table([0, 50, 2], cpu=[10, 10, 1], gpu=[1, 1, 9]), [CPU, GPU])
    assert [(stage.unit.name, stage.first, stage.last) for stage in chain.stages] == [("gpu", 0, 1), ("cpu@0", 2, 2)]
    assert chain.latency_us == 2 + 3


def test_a_chain_stays_where_crossing_is_dear():
    chain = fastest_chain(table([0, 50, 20], cpu=[10, 10, 1], gpu=[1, 1, 9]), [CPU, GPU])
    assert [(stage.unit.name, stage.first, stage.last) for stage in chain.stages] == [("gpu", 0, 2)]


def test_a_pipeline_uses_an_accelerator_that_leaves_the_cores_alone():
    pipeline = fastest_pipeline(table([0, 1, 1, 1], cpu=[4, 4, 4, 4], gpu=[2, 2, 2, 2]), UNITS, 3)
    assert {stage.unit.name for stage in pipeline.stages} == {"cpu@0", "cpu@1", "gpu"}
    assert pipeline.interval_us == 5


def test_an_accelerator_whose_work_the_cores_do_is_left_out():
    busy = table([0, 1, 1, 1], cpu=[4, 4, 4, 4], gpu=[2, 2, 2, 2], gpu_cores_busy=3.0)
    pipeline = fastest_pipeline(busy, UNITS, 3)
    assert [stage.unit.name for stage in pipeline.stages] == ["cpu@0", "cpu@1", "cpu@0"]
    assert pipeline.interval_us == 4 + 1 + 4  # both of the first core's stages
    assert pipeline.limit in ("cpu@0", "cpu@1")
    mixed = fastest_pipeline(busy, UNITS, 3, including=["gpu"])
    assert "gpu" in {stage.unit.name for stage in mixed.stages}
    assert mixed.interval_us == (3 * 2 + 4 + 1 + 2 * 4 + 1) / 2
    assert mixed.limit == "cores 0, 1"


def test_what_a_unit_cannot_run_is_left_to_others():
    some = table([0, 0, 0], cpu=[5, 5, 5], gpu=[1, None, 1])
    pipeline = fastest_pipeline(some, UNITS, 2)
    assert all(not (stage.unit is GPU and stage.first <= 1 <= stage.last) for stage in pipeline.stages)
    assert fastest_chain(table([0, 0, 0], gpu=[1, None, 1]), [GPU]) is None
    assert fastest_pipeline(some, UNITS, 4) is None
    assert fastest_pipeline(some, [CPU], 2) is None  # neighbours on one unit are one stage


def test_pieces_in_one_file_have_no_seams():
    measured = table([0, 1, 1], cpu=[10, 10, 10], whole={"cpu": Cost(24, 27)})
    assert measured.stage(CPU, 1, 2).predicted_us == 10 + 1
    joined = measured.stage(CPU, 1, 3)
    assert joined.predicted_us == 20 - 3 + 1
    assert joined.processor_us == 20 - 1.5 + 1
    assert measured.stage(CPU, 0, 3).predicted_us == 24
    assert table([0, 0], cpu=[10, 1], whole={"cpu": Cost(2, 2)}).stage(CPU, 0, 2).predicted_us == 10


times = st.lists(st.one_of(st.none(), st.integers(1, 50)), min_size=4, max_size=4)


BUILT_IN = tuple(Unit(f"builtin@{core}", "builtin", f"{core + 1}", (core,), may_share=True) for core in (0, 1))


def every_pipeline(measured, stages, units=UNITS):
    for cuts in combinations(range(1, measured.pieces), stages - 1):
        ends = [0, *cuts, measured.pieces]
        for chosen in product(units, repeat=stages):
            found = [measured.stage(unit, *ends[place : place + 2]) for place, unit in enumerate(chosen)]
            neighbours = any(one is other for one, other in pairwise(chosen))
            if None not in found and not neighbours and chosen.count(GPU) < 2:
                yield Placement(tuple(found))


@settings(deadline=None)
@given(times, times, st.lists(st.integers(0, 20), min_size=3, max_size=3), st.integers(1, 4), st.floats(0, 2))
def test_no_pipeline_is_faster(cpu, gpu, crossing, stages, gpu_cores_busy):
    measured = table([0, *crossing], cpu=cpu, gpu=gpu, gpu_cores_busy=gpu_cores_busy)
    for including in ((), ("gpu",)):
        ways = [
            way
            for way in every_pipeline(measured, stages)
            if {stage.unit.delegate for stage in way.stages}.issuperset(including)
        ]
        best = min((way.interval_us for way in ways), default=None)
        found = fastest_pipeline(measured, UNITS, stages, including=including)
        assert (found and found.interval_us) == (best and pytest.approx(best))


@settings(deadline=None, max_examples=40)
@given(times, times, times, st.integers(2, 3))
def test_two_kinds_of_kernels_share_the_cores(cpu, builtin, gpu, stages):
    """What the one takes of a core is lost to the other."""
    measured = table([0, 1, 1, 1], cpu=cpu, builtin=builtin, gpu=gpu, gpu_cores_busy=0.5)
    units = (*UNITS, *BUILT_IN)
    best = min((way.interval_us for way in every_pipeline(measured, stages, units)), default=None)
    found = fastest_pipeline(measured, units, stages)
    assert (found and found.interval_us) == (best and pytest.approx(best))


@given(times, times, st.lists(st.integers(0, 20), min_size=3, max_size=3))
def test_no_chain_is_faster(cpu, gpu, crossing):
    measured = table([0, *crossing], cpu=cpu, gpu=gpu)
    ways = []
    for count in range(1, 5):
        for cuts in combinations(range(1, 4), count - 1):
            ends = [0, *cuts, 4]
            for units in product((CPU, GPU), repeat=count):
                found = [measured.stage(unit, ends[place], ends[place + 1]) for place, unit in enumerate(units)]
                if None not in found:
                    ways.append(Placement(tuple(found)).latency_us)
    chain = fastest_chain(measured, [CPU, GPU])
    assert (chain and chain.latency_us) == min(ways, default=None)


def test_large_tables_are_searched_too():
    """Thirty-two pieces on four cores and an accelerator: no pipeline can beat all cores at work all the time."""
    cores = [Unit(f"cpu@{core}", "cpu", f"{1 << core:x}", (core,), may_share=True) for core in range(4)]
    measured = table([0] * 32, cpu=[1.0] * 32, gpu=[3.0] * 32, gpu_cores_busy=1.0)
    units = [*cores, Unit("gpu", "gpu", "f", (0, 1, 2, 3))]
    assert fastest_pipeline(measured, units, 4).interval_us == 8
    assert 8 <= fastest_pipeline(measured, units, 5).interval_us < 9


def test_figures_of_a_placement():
    pipeline = fastest_pipeline(table([0, 1], cpu=[3, 4], gpu=[9, 5]), [CPU, GPU], 2)
    assert (pipeline.interval_us, pipeline.latency_us) == (6, 9)
    assert pipeline.latency_us == pytest.approx(sum(stage.predicted_us for stage in pipeline.stages))


def test_the_busiest_of_units_and_shared_cores_is_told():
    cpu, gpu = Unit("cpu@0", "cpu", "1", (0,)), Unit("gpu", "gpu", "3", (0, 1))
    costs = {cpu: Cost(10_000, 10_000), gpu: Cost(20_000, 40_000)}
    assert utilization(costs, {cpu: 50.0, gpu: 25.0}) == pytest.approx(0.75)  # (50 * 10 + 25 * 40) ms on two cores
    idle = {cpu: Cost(10_000, 10_000), gpu: Cost(20_000, 1_000)}  # an accelerator that needs little of a core
    assert utilization(idle, {cpu: 98.0, gpu: 49.0}) == pytest.approx(0.98)
    assert utilization({cpu: Cost(10_000, 10_000)}, {cpu: 100.0}) == pytest.approx(1.0)
