"""Where the time goes, of several profiled processes, and what it proves of the delegate."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from results_examples import START, SWEEP, accuracy_outcome, begin, cell, measure, succeeded

from harness.analysis.summary import operator_shares, share_in_delegate, summarize
from harness.benchmark.invocation import ExecutedBy, OperatorTime, Pass
from harness.export.tables import summary_frame
from harness.store.rows import FinishedInvocation, InvocationRow
from harness.store.store import Store


def row(*operators, purpose=Pass.OP_PROFILE, failure_class=None):
    found = [dict(zip(("operator", "place", "nodes", "time_us"), operator, strict=True)) for operator in operators]
    identity = {"id": 1, "sweep_id": SWEEP, "cell_key": "key", "invocation_index": 0, "attempt": 1, "block": 0}
    process = {"started_at_utc": "", "wall_s": 1.0, "command": [], "log_path": ""}
    return InvocationRow(purpose=purpose, failure_class=failure_class, operators=found, **identity, **process)


def test_the_median_of_the_processes_counts():
    shares = operator_shares(
        [
            row(("CONV_2D", "delegate", 3, time_us), ("CUMSUM", "cpu-builtin", 1, 25.0))
            for time_us in (75.0, 70.0, 900.0)
        ]
    )
    assert [(share.operator, share.nodes, share.time_us, share.share) for share in shares] == [
        ("CONV_2D", 3, 75.0, 0.75),
        ("CUMSUM", 1, 25.0, 0.25),
    ]
    assert share_in_delegate(shares) == 0.75


def test_what_was_not_profiled_has_no_shares():
    failed = row(("CONV_2D", "delegate", 3, 9.0), failure_class="crashed")
    assert operator_shares([row(purpose=Pass.LATENCY), failed]) == []
    assert share_in_delegate([]) is None
    assert share_in_delegate(operator_shares([row(("CONV_2D", "delegate", 1, 0.0))])) == 0.0


@given(st.lists(st.floats(0.001, 1e7), min_size=1, max_size=40), st.integers(0, 5))
def test_the_part_inside_a_delegate_is_never_more_than_the_whole(times_us, outside):
    inside = [(f"A{index}", "delegate", 1, time_us) for index, time_us in enumerate(times_us)]
    beside = [(f"B{index}", "cpu-builtin", 1, 0.0) for index in range(outside)]
    assert share_in_delegate(operator_shares([row(*beside, *inside)])) == 1.0


@pytest.mark.parametrize(("proof", "verdict"), [(True, "fell_back"), (False, "ranked"), (None, "unproven")])
def test_promise_h13_the_profile_proves_what_the_timed_logs_do_not(tmp_path, proof, verdict):
    operators = (
        OperatorTime("CONV_2D", ExecutedBy.DELEGATE, 3, 90.0),
        OperatorTime("CUMSUM", ExecutedBy.BUILTIN, 1, 10.0),
    )
    gpu = cell(delegate="gpu")
    with Store.open(tmp_path) as store:
        begin(store)
        measure(
            store, gpu, [100.0, 101.0, 99.0, 100.0, 102.0], outcome=accuracy_outcome(), requested="gpu", fell_back=None
        )
        store.add_invocation(
            SWEEP,
            gpu.key,
            FinishedInvocation(
                purpose=Pass.OP_PROFILE,
                index=0,
                block=9,
                started_at=START,
                invocation=succeeded(150.0, requested="gpu", fell_back=proof, operators=operators),
            ),
        )
        (summary,) = summary_frame(summarize(store, SWEEP)).to_dict("records")
    assert summary["verdict"] == verdict
    assert summary["delegate_time_share"] == 0.9
    assert summary["latency_median_us"] == 100.0
