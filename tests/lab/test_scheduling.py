"""Any phone of a model serves a cell: all are done once, fast phones do more, and nothing is lost with a phone."""

import threading
from collections import Counter
from contextlib import closing
from dataclasses import replace

import pytest
from results_examples import SWEEP, accuracy_outcome, begin, cell, facts, measure
from scripted_sweep import ScriptedSweep

from harness.benchmark.invocation import Pass
from harness.spec.sweep import load_sweep_spec
from harness.store.store import Store
from harness.sweep.sharing import AnyOfModel, EachDevice

MEASUREMENT = load_sweep_spec(None, {"measurement": {"memory_invocations": 0, "op_profile_invocations": 0}}).measurement
NAMES = [f"recipe{number:02}" for number in range(12)]


@pytest.fixture
def store(tmp_path):
    with Store.open(tmp_path) as opened:
        yield opened


@pytest.fixture
def stop():
    return threading.Event()


def cells_of(serial):
    return [cell(name, delegate, serial) for name in NAMES for delegate in ("cpu", "gpu")]


def asked(scheduling, serial, model="Pixel 8"):
    return scheduling.claims(facts(serial, model), cells_of(serial), MEASUREMENT)


def names(share):
    return [(one.variant_name, one.delegate) for one in share]


ALL = names(cells_of("x"))


def test_each_device_measures_every_cell_at_once():
    (share,) = EachDevice().claims(facts(), cells_of("a"), MEASUREMENT)
    assert names(share) == ALL


def test_phones_of_a_model_do_every_cell_once_in_shrinking_shares(store, stop):
    scheduling = AnyOfModel(store, SWEEP, 2, stop)
    phones = {serial: asked(scheduling, serial) for serial in ("a", "b")}
    done, sizes = Counter(), []
    for serial in ("a", "b") * 3:
        share = next(phones[serial])
        assert {one.serial for one in share} == {serial}
        sizes.append(len(share))
        done.update(names(share))
    assert sizes == [6, 5, 4, 3, 2, 1]
    assert len({delegate for _, delegate in list(done)[:6]}) == 1  # what is compared stays together
    for serial in ("a", "b"):
        phones[serial].close()
    assert max(done.values()) == 1


def test_a_fast_phone_does_more_and_both_end(store, stop):
    scheduling = AnyOfModel(store, SWEEP, 2, stop)
    begun, may_end = threading.Event(), threading.Event()
    done = {"slow": [], "fast": []}

    def slow():
        for share in asked(scheduling, "slow"):
            done["slow"] += names(share)
            begun.set()
            may_end.wait(30)

    def fast():
        begun.wait(30)
        for share in asked(scheduling, "fast"):
            done["fast"] += names(share)
            if len(done["fast"]) == len(ALL) - len(done["slow"]):
                may_end.set()

    threads = [threading.Thread(target=work) for work in (slow, fast)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(done["slow"]) == 6
    assert sorted(done["slow"] + done["fast"]) == sorted(ALL)


def test_what_a_lost_phone_had_begun_is_done_by_another_that_had_waited_for_it(store, stop):
    scheduling = AnyOfModel(store, SWEEP, 1, stop)
    done, took = [], threading.Event()

    def lost():
        with closing(asked(scheduling, "lost")) as shares:
            lost_share.extend(names(next(shares)))
            took.set()
            waiting.wait(30)  # and then it is gone

    def steady():
        took.wait(30)
        for share in asked(scheduling, "steady"):
            done.extend(names(share))
            if len(done) == len(ALL) - len(lost_share):
                waiting.set()

    lost_share, waiting = [], threading.Event()
    threads = [threading.Thread(target=work) for work in (lost, steady)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(lost_share) == 12
    assert sorted(done) == sorted(ALL)


def test_a_phone_that_is_back_first_takes_what_it_had_begun(store, stop):
    scheduling = AnyOfModel(store, SWEEP, 2, stop)
    with closing(asked(scheduling, "a")) as shares:
        begun = names(next(shares))
    again = asked(scheduling, "a")
    assert names(next(again)) == begun
    again.close()
    other = asked(scheduling, "b")
    assert set(names(next(other))).isdisjoint(begun)
    other.close()


def test_other_models_share_nothing(store, stop):
    scheduling = AnyOfModel(store, SWEEP, 2, stop)
    for serial, model in (("a", "Pixel 8"), ("b", "Pixel 8 Pro")):
        assert sorted(name for share in asked(scheduling, serial, model) for name in names(share)) == sorted(ALL)


def test_a_sweep_that_is_carried_on_repeats_nothing_on_another_phone(store, stop):
    begin(store, variants=NAMES, devices=[facts("a")])
    finished, half, *_ = cells_of("a")
    measure(store, finished, [100.0] * MEASUREMENT.invocations, memory=False)
    measure(store, half, [100.0] * 2, memory=False)
    assert (half.key, Pass.LATENCY, 4) not in store.done(SWEEP)
    scheduling = AnyOfModel(store, SWEEP, 2, stop)
    first = asked(scheduling, "a")
    assert names(next(first))[0] == (half.variant_name, half.delegate)
    rest = [name for share in asked(scheduling, "b", "Pixel 8 Pro") for name in names(share)]
    assert len(rest) == len(ALL)  # another model's cells are others
    first.close()
    done = [name for share in asked(scheduling, "c") for name in names(share)]
    assert (finished.variant_name, finished.delegate) not in done
    assert len(done) == len(ALL) - 1


def test_nothing_more_is_handed_out_once_the_user_has_interrupted(store, stop):
    shares = asked(AnyOfModel(store, SWEEP, 2, stop), "a")
    next(shares)
    stop.set()
    assert list(shares) == []


@pytest.mark.virtual_phone
def test_two_phones_of_one_model_share_a_sweep(start_phone, tmp_path):
    sweep = ScriptedSweep(tmp_path, prepare=False, per="model", delegates=["cpu", "cpu-builtin", "gpu", "nnapi"])
    phones = [start_phone() for _ in range(2)]
    sweep.run_as_the_program_does(*(phone.serial for phone in phones))
    delegates = Counter(one["delegate"] for one in sweep.cells)
    assert delegates == dict.fromkeys(("cpu", "cpu-builtin", "gpu", "nnapi"), 1)
    assert {one["serial"] for one in sweep.cells} == {phone.serial for phone in phones}


def test_a_cell_whose_outputs_were_checked_otherwise_is_open_again(store, stop):
    begin(store, devices=[facts("a")])
    first, second = cells_of("a")[:2]
    outcome = accuracy_outcome()
    for one, sha256 in ((first, "a" * 64), (second, "b" * 64)):
        checked = replace(outcome, check=replace(outcome.check, evidence_sha256=sha256))
        measure(store, one, [1000.0] * MEASUREMENT.invocations, outcome=checked, memory=False)
    (share,) = AnyOfModel(store, SWEEP, 1, stop, "b" * 64).claims(facts("a"), [first, second], MEASUREMENT)
    assert share == [first]
