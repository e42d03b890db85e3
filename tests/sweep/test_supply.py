"""What devices see of the variants while these are made."""

import threading

import pytest
from results_examples import card

from harness.sweep.variants import VariantQueue
from harness.tflite.variant import Variant

FIRST, SECOND, THIRD = (Variant(name, card(name)) for name in ("fp32", "int8", "fp16"))


def in_a_thread(call):
    """Begin a call; return a function that awaits what it returns."""
    returned = []
    thread = threading.Thread(target=lambda: returned.append(call()), daemon=True)
    thread.start()

    def result():
        thread.join(10)
        return returned[0]

    return result


def test_variants_that_were_all_there_are_waited_for_by_nobody():
    supply = VariantQueue([FIRST, SECOND])
    assert not supply.is_open
    assert list(supply.as_they_come()) == []
    assert supply.wait_for_all()
    assert supply.ready == (FIRST, SECOND)
    assert supply.named("int8") is SECOND


@pytest.mark.parametrize("is_complete", [True, False])
def test_every_device_is_handed_what_comes_until_no_more_does(is_complete):
    supply = VariantQueue(is_open=True)
    supply.add(FIRST)
    seen = [[], []]
    both = threading.Barrier(3)

    def work(own):
        for variant in supply.as_they_come():
            own.append(variant)
            both.wait(10)
        return supply.wait_for_all()

    ends = [in_a_thread(lambda own=own: work(own)) for own in seen]
    both.wait(10)
    supply.add(SECOND)
    both.wait(10)
    supply.close(is_complete=is_complete)
    assert [end() for end in ends] == [is_complete, is_complete]
    assert seen == [[FIRST, SECOND]] * 2


def test_what_comes_last_is_left_for_when_all_are_there():
    supply = VariantQueue(is_open=True)
    handed = supply.as_they_come()
    supply.add(FIRST)
    assert next(handed) is FIRST
    supply.add(SECOND)
    supply.add(THIRD)
    supply.close(is_complete=True)
    assert list(handed) == []
    assert supply.ready == (FIRST, SECOND, THIRD)
