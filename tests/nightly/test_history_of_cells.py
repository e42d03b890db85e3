"""Cells over nights: what is alike, where it steps, what that shares with other cells."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from stored_nights import add_failed_night, add_night, made_cell, made_night, processes, sweep_id

from harness.analysis.history.nights import CellName, read_nights
from harness.analysis.history.steps import ConditionChange, HistoryStep, changes, find_shifts, group_by_cause
from harness.analysis.ratio import RatioEstimate, RatioInterval
from harness.export.tables import summary_frame
from harness.store.store import Store


@pytest.fixture
def store(tmp_path):
    with Store.open(tmp_path / "results") as store:
        yield store


@pytest.fixture
def generator():
    return np.random.default_rng(7)


def nights_of(store, variant="int8", **more):
    (cell,) = read_nights(store, variant=variant, delegate="cpu", **more)
    return cell


def test_a_night_holds_what_the_sweeps_own_table_says(store):
    from harness.analysis.summary import summarize

    identity = add_night(store, 0, {"int8": [1000.0, 1010.0, 990.0, 1005.0, 1020.0]}, memory=True)
    (row,) = summary_frame(summarize(store, identity)).to_dict("records")
    (night,) = nights_of(store).nights
    assert (night.latency.value, night.latency.low, night.latency.high) == (
        row["latency_median_us"],
        row["latency_low_us"],
        row["latency_high_us"],
    )
    assert night.verdict == row["verdict"]
    assert night.memory_mb == row["memory_overall_mb"]
    assert night.size_bytes == row["size_bytes"]
    assert (night.top1, night.top1_low, night.top1_high) == (row["top1"], row["top1_low"], row["top1_high"])
    assert night.cell_key == row["cell_key"]
    assert night.conditions["tool"] == row["tool_sha256"]


def test_only_the_last_nights_are_read_the_oldest_first(store, generator):
    for night in range(5):
        add_night(store, night, {"int8": processes(generator, 1000), "fp32": processes(generator, 2000)})
    cell = nights_of(store, last=3)
    assert [night.sweep_id for night in cell.nights] == [sweep_id(night) for night in (2, 3, 4)]
    assert {cell.name.variant for cell in read_nights(store)} == {"int8", "fp32"}


def test_noise_sweeps_are_no_nights(store, generator):
    add_night(store, 0, {"int8": processes(generator, 1000)}, purpose="noise")
    assert read_nights(store) == []


def test_a_night_without_enough_processes_is_shown_but_does_not_count(store, generator):
    add_night(store, 0, {"int8": processes(generator, 1000)})
    add_night(store, 1, {"int8": processes(generator, 9000, count=4)})
    add_failed_night(store, 2)
    cell = nights_of(store)
    assert [night.is_good for night in cell.nights] == [True, False]
    assert len(cell.good) == 1


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"os": "build-2"}, "os"),
        ({"tool": "e" * 64}, "tool"),
        ({"cores": "f0"}, "cores"),
        ({"profile": "pixel"}, "profile"),
        ({"mode": {"runs": 50}}, "mode runs"),
        ({"ran": "gpu"}, "ran"),
    ],
)
def test_what_makes_nights_unlike_parts_them_and_is_said(generator, change, what):
    cell = made_cell(
        made_night(number, processes(generator, 1500 if number >= 6 else 1000), **(change if number >= 6 else {}))
        for number in range(12)
    )
    history = find_shifts(cell)
    assert [(part.start, part.end) for part in history.stretches] == [(0, 6), (6, 12)]
    (step,) = history.steps
    assert not step.alike
    assert [cause.what for cause in step.causes] == [what]
    assert step.sweep_id == sweep_id(6)
    assert 1.45 < step.estimate.value < 1.55


def test_nights_that_part_without_a_step_have_none(generator):
    nights = [made_night(number, processes(generator, 1000), os=f"build-{number // 6}") for number in range(12)]
    history = find_shifts(made_cell(nights))
    assert len(history.stretches) == 2
    assert history.steps == []


def test_two_nights_after_an_update_are_too_few_for_a_step(generator):
    nights = [made_night(number, processes(generator, 1000)) for number in range(10)]
    nights += [made_night(number, processes(generator, 2000), os="build-2") for number in (10, 11)]
    assert find_shifts(made_cell(nights)).steps == []


def test_a_new_variant_does_not_part_nights_but_explains_their_step(generator):
    nights = [made_night(number, processes(generator, 1000, noise=0.01)) for number in range(15)]
    nights += [
        made_night(number, processes(generator, 1100, noise=0.01), variant_sha256="b" * 64) for number in range(15, 30)
    ]
    history = find_shifts(made_cell(nights))
    assert len(history.stretches) == 1
    (step,) = history.steps
    assert step.alike
    assert step.is_slower
    assert step.causes == (ConditionChange("variant int8", "a" * 64, "b" * 64),)
    assert step.earliest <= sweep_id(15) <= step.latest


def test_a_step_smaller_than_what_matters_is_left_out(generator):
    cell = made_cell(
        made_night(number, processes(generator, 1010 if number >= 20 else 1000, noise=0.001, spread=0.001))
        for number in range(40)
    )
    assert find_shifts(cell).steps == []
    assert len(find_shifts(cell, effect=0.005).steps) == 1


def test_changes_between_like_nights_are_none(generator):
    one, other = (made_night(number, processes(generator, 1000)) for number in range(2))
    assert changes(one, other) == ()


def test_a_step_between_stretches_is_of_the_levels_next_to_it(generator):
    levels = [1000] * 20 + [1200] * 20 + [1200] * 20
    cell = made_cell(
        made_night(number, processes(generator, level, noise=0.01), os="build-2" if number >= 40 else "build-1")
        for number, level in enumerate(levels)
    )
    (step,) = find_shifts(cell).steps
    assert step.sweep_id == sweep_id(20)


@given(st.lists(st.tuples(st.floats(1, 1e6), st.sampled_from(["a", "b"])), max_size=30))
def test_every_night_lies_in_one_stretch_and_every_step_inside_the_series(nights):
    cell = made_cell(made_night(number, [level] * 5, os=os) for number, (level, os) in enumerate(nights))
    history = find_shifts(cell, effect=0)
    assert [index for part in history.stretches for index in range(part.start, part.end)] == list(range(len(nights)))
    assert all(0 < step.at < len(nights) for step in history.steps)
    assert [step.at for step in history.steps] == sorted({step.at for step in history.steps})


# ---- common causes ----

ESTIMATE = RatioEstimate(1.1, RatioInterval(1.05, 1.15), RatioInterval(1.06, 1.14), 0.001, "ranks", 1.1)


def step(serial, variant, place, *causes, reach=0):
    places = (f"{place:04}", f"{place - reach:04}", f"{place + reach:04}")
    return HistoryStep(CellName(serial, variant, "cpu", 1), place, *places, ESTIMATE, causes, alike=True)


def test_a_cause_that_cells_share_is_told_once():
    tool, variant = ConditionChange("tool", "a", "b"), ConditionChange("variant int8", "c", "d")
    steps = [step("A", "int8", 5, tool, variant), step("A", "fp32", 5, tool), step("B", "fp32", 6, tool)]
    (group,) = group_by_cause(steps)
    assert group.change == tool
    assert group.steps == steps


def test_without_a_cause_steps_of_one_phone_at_one_time_belong_together():
    near = [step("A", "int8", 5, reach=1), step("A", "fp32", 6, reach=1)]
    far = [step("A", "int8", 20), step("B", "int8", 5)]
    groups = group_by_cause([*far, *near])
    assert [len(group.steps) for group in groups] == [2, 1, 1]
    assert all(group.change is None for group in groups)


def test_every_step_is_told_once():
    causes = [ConditionChange("os", str(number), str(number + 1)) for number in range(3)]
    steps = [step("A", f"v{number}", number, *causes[: number % 4]) for number in range(10)]
    told = [step for group in group_by_cause(steps) for step in group.steps]
    assert sorted(told, key=lambda step: step.at) == steps
