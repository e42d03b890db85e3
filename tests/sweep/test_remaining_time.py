"""The time that is left comes from the times of what is done, and from nothing else."""

from harness.sweep.device.progress import RemainingTime, StepKind, TimeLeft

A, B = ("a", StepKind.PROCESS), ("b", StepKind.PROCESS)
GROUND = ("a", StepKind.SETUP)


class Clock:
    def __init__(self):
        self.now_s = 0.0

    def __call__(self):
        return self.now_s


def begun(steps):
    clock = Clock()
    remaining = RemainingTime(clock)
    remaining.plan(steps)

    def spend(step, seconds, *, is_timed=True):
        clock.now_s += seconds
        remaining.done(step, is_timed=is_timed)

    return clock, remaining, spend


def test_nothing_is_told_before_anything_is_timed():
    _, remaining, _ = begun({A: 3})
    assert remaining.left() == TimeLeft(None, is_lower_bound=True)


def test_a_cell_takes_its_own_mean_and_one_that_was_not_timed_that_of_all():
    _, remaining, spend = begun({A: 4, B: 4, ("c", StepKind.PROCESS): 1})
    spend(A, 2)
    spend(A, 4)
    spend(B, 30)
    assert remaining.left() == TimeLeft(2 * 3 + 3 * 30 + 1 * 12, is_lower_bound=False)


def test_a_kind_that_was_never_timed_makes_it_a_lower_bound():
    _, remaining, spend = begun({GROUND: 2, A: 5})
    spend(GROUND, 7)
    assert remaining.left() == TimeLeft(7, is_lower_bound=True)
    spend(GROUND, 7)
    assert remaining.left() == TimeLeft(None, is_lower_bound=True)


def test_the_step_under_way_counts_down_but_not_beyond_its_worth():
    clock, remaining, spend = begun({A: 3})
    spend(A, 10)
    clock.now_s += 4
    assert remaining.left().seconds == 16
    clock.now_s += 400
    assert remaining.left().seconds == 10


def test_what_was_skipped_or_given_up_is_neither_timed_nor_open():
    _, remaining, spend = begun({A: 3, B: 3})
    spend(A, 0, is_timed=False)
    spend(A, 10)
    remaining.drop("b")
    assert remaining.left() == TimeLeft(10, is_lower_bound=False)
    spend(A, 10)
    assert remaining.left() == TimeLeft(None, is_lower_bound=False)
