"""The order of invocations: seeded, interleaved, complete."""

from hypothesis import given
from hypothesis import strategies as st

from harness.benchmark.invocation import Pass
from harness.spec.sweep import MeasurementSettings, load_sweep_spec
from harness.store.records import Cell
from harness.sweep.plan import expected_duration_s, outline, plan_invocations


def cells(count):
    return [Cell(f"sha{i}", f"v{i}", "S", "cpu", 1, "tool", None, "generic") for i in range(count)]


COUNTS = st.builds(
    MeasurementSettings,
    invocations=st.integers(5, 12),
    runs=st.just(10),
    accuracy_samples=st.just(0),
    memory_invocations=st.integers(0, 3),
    op_profile_invocations=st.integers(0, 2),
)


@given(st.integers(1, 8), COUNTS, st.integers())
def test_promise_h8_every_block_holds_every_cell_once(count, measurement, seed):
    planned = plan_invocations(cells(count), measurement, seed=seed)
    keys = {cell.key for cell in cells(count)}
    asked = measurement.invocations + measurement.memory_invocations + measurement.op_profile_invocations
    assert len(planned) == count * asked
    for block in {invocation.block for invocation in planned}:
        inside = [invocation for invocation in planned if invocation.block == block]
        assert {invocation.cell.key for invocation in inside} == keys
        assert len(inside) == count
        assert len({(invocation.purpose, invocation.index) for invocation in inside}) == 1
    assert [invocation.block for invocation in planned] == sorted(invocation.block for invocation in planned)


@given(st.integers(2, 8), COUNTS, st.integers())
def test_promise_h10_memory_and_profile_come_after_latency_and_the_order_is_the_seeds(count, measurement, seed):
    planned = plan_invocations(cells(count), measurement, seed=seed)
    purposes = [invocation.purpose for invocation in planned]
    assert purposes == sorted(purposes, key=[Pass.LATENCY, Pass.MEMORY, Pass.OP_PROFILE].index)
    assert planned == plan_invocations(list(reversed(cells(count))), measurement, seed=seed)


def test_promise_h8_blocks_differ_and_seeds_differ():
    measurement = MeasurementSettings(invocations=20, runs=1, accuracy_samples=0)
    one, two = (plan_invocations(cells(5), measurement, seed=seed) for seed in (1, 2))
    orders = {tuple(i.cell.key for i in one if i.block == block) for block in range(20)}
    assert len(orders) > 5
    assert one != two


def test_the_outline_counts_cells_and_devices_run_side_by_side():
    spec = load_sweep_spec(None, {"recipes": ["fp32", "int8"], "threads": [1, 2]})
    rows = outline(spec, {"a": ["cpu", "gpu"], "b": ["cpu"]})
    assert len(rows) == 2 * 2 * 3
    alone = expected_duration_s([row for row in rows if row.device == "a"])
    assert expected_duration_s(rows) == alone > 0
