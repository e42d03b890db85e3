"""Phones that come and go: what a lost one left is taken up again, a new one joins, and nobody waits for the lost."""

import threading

import pytest

from harness.sweep.device_pool import DevicePool


class Scripted:
    """Arrivals as the test decides."""

    def __init__(self, returning=(), joining=()):
        self.returning, self.joining = list(returning), list(joining)
        self.looks = 0

    def returned(self, parked):
        self.looks += 1
        return [name for name in parked if name in self.returning]

    def newcomers(self, known):
        return [name for name in self.joining if name not in known]


def crew(measure, arrivals, stop=None):
    notes = []
    return DevicePool(measure, arrivals, stop or threading.Event(), notes.append, poll_every_s=0.01), notes


def test_a_lost_phone_is_measured_again_when_it_is_back_while_others_work():
    calls, back = [], threading.Event()

    def measure(name):
        calls.append(name)
        if name == "other":
            back.wait(30)
        elif calls.count("lost") == 2:
            back.set()
        return name == "lost" and calls.count("lost") == 1

    working, notes = crew(measure, Scripted(returning=["lost"]))
    working.work(["lost", "other"])
    assert sorted(calls) == ["lost", "lost", "other"]
    assert notes == ["lost is back: resuming its remaining cells."]


def test_nobody_waits_for_a_lost_phone_when_all_else_is_done():
    arrivals = Scripted(returning=["lost"])
    working, notes = crew(lambda _name: True, arrivals)
    working.work(["lost"])
    assert (notes, arrivals.looks) == ([], 0)


def test_a_look_that_takes_long_delays_nobody_who_is_back():
    """One parked phone hangs while it is looked at; another is back, and is measured before that look has ended."""
    calls, back = [], threading.Event()

    class OneHangs(Scripted):
        def returned(self, parked):
            if parked == ["hung"]:
                assert back.wait(30), "the look at a hung phone holds the others up"
                return []
            return super().returned(parked)

    def measure(name):
        calls.append(name)
        if name == "other":
            back.wait(30)
        elif calls.count("lost") == 2:
            back.set()
        return name == "hung" or calls.count("lost") == 1

    working, notes = crew(measure, OneHangs(returning=["lost"]))
    working.work(["hung", "lost", "other"])
    assert sorted(calls) == ["hung", "lost", "lost", "other"]
    assert notes == ["lost is back: resuming its remaining cells."]


def test_a_phone_that_is_attached_meanwhile_joins_once():
    calls, joined = [], threading.Event()

    def measure(name):
        calls.append(name)
        if name == "new":
            joined.set()
        return not joined.wait(30)

    working, notes = crew(measure, Scripted(joining=["new"]))
    working.work(["first"])
    assert calls == ["first", "new"]
    assert notes == ["new connected: adding it to the sweep."]


def test_nothing_is_started_once_the_user_has_interrupted():
    stop, calls = threading.Event(), []

    def measure(name):
        calls.append(name)
        stop.set()
        return True

    working, _ = crew(measure, Scripted(returning=["a", "b"], joining=["new"]), stop)
    working.work(["a", "b"])
    assert sorted(calls) == ["a", "b"]


def test_what_stops_the_whole_sweep_is_raised_after_the_others_have_ended():
    ended = []

    def measure(name):
        if name == "bad":
            raise OSError("disk full")
        ended.append(name)
        return False

    working, _ = crew(measure, Scripted())
    with pytest.raises(OSError, match="disk full"):
        working.work(["bad", "good"])
    assert ended == ["good"]
