"""The devices that a sweep works on, one thread each, while phones come and go and variants are made."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Protocol

POLL_EVERY_S = 2.0
_NO_DEVICE = ""
"""In place of a phone's name: the poll for phones that were not there before, and what is done meanwhile all."""
MOST_DEVICES = 256
"""Threads are made as they are needed; more phones than this wait for one another."""


class NewDevices(Protocol):
    """Who can be measured now that could not before. Asked in threads of its own: an answer may take seconds."""

    def returned(self, parked: Collection[str]) -> list[str]:
        """Return which of the devices that went away answer again."""
        ...

    def newcomers(self, known: Collection[str]) -> list[str]:
        """Return which devices belong to the sweep and are not among `known`."""
        ...


class DevicePool:
    """Measures every device until all are done; what a lost one left is resumed when it is back.

    That is so as long as anything else is under way: nobody waits for a phone that may never come back.
    """

    def __init__(
        self,
        measure: Callable[[str], bool],
        arrivals: NewDevices,
        stop: threading.Event,
        note: Callable[[str], None],
        *,
        meanwhile: Callable[[], None] = lambda: None,
        poll_every_s: float = POLL_EVERY_S,
    ) -> None:
        """`measure` works on one device by name; it returns True if the device went away and may be resumed.

        `meanwhile` is other work for the devices, which ends by itself when the sweep is stopped.
        """
        self._measure = measure
        self._arrivals = arrivals
        self._stop = stop
        self._note = note
        self._meanwhile = meanwhile
        self._poll_every_s = poll_every_s
        self._under_way: dict[Future[bool], str] = {}
        self._ended: list[Future[bool]] = []
        self._known: set[str] = set()
        self._parked: set[str] = set()
        self._polls: dict[str, Future[list[str]]] = {}
        """Answers that are awaited: of each parked phone by its name, and of new phones by none."""

    def work(self, names: Sequence[str]) -> None:
        """Measure the named devices and those that come. Ctrl-C lets what is under way finish and starts nothing more.

        Raises what stopped the whole sweep.
        """
        pollers = ThreadPoolExecutor(max_workers=MOST_DEVICES, thread_name_prefix="poll")
        with ThreadPoolExecutor(max_workers=MOST_DEVICES, thread_name_prefix="device") as pool:
            try:
                self._under_way[pool.submit(self._work_meanwhile)] = _NO_DEVICE
                self._begin(pool, names)
                while self._under_way:
                    wait(self._under_way, timeout=self._poll_every_s, return_when=FIRST_COMPLETED)
                    self._collect()
                    if self._under_way and not self._stop.is_set():
                        self._poll(pollers)
                        self._begin_found(pool)
            except KeyboardInterrupt:
                self._stop.set()
                self._note("Interrupted: finishing the running invocations.")
                wait(self._under_way)
                self._collect()
            finally:
                pollers.shutdown(wait=False, cancel_futures=True)
        for future in self._ended:
            future.result()

    def _begin(self, pool: ThreadPoolExecutor, names: Sequence[str]) -> None:
        for name in names:
            self._known.add(name)
            self._under_way[pool.submit(self._measure, name)] = name

    def _work_meanwhile(self) -> bool:
        self._meanwhile()
        return False

    def _collect(self) -> None:
        for future in [future for future in self._under_way if future.done()]:
            name = self._under_way.pop(future)
            self._ended.append(future)
            if future.exception() is None and future.result():
                self._parked.add(name)

    def _poll(self, pool: ThreadPoolExecutor) -> None:
        """Begin to poll for each parked phone and for new ones, unless the last poll is still under way."""
        for name in self._parked - self._polls.keys():
            self._polls[name] = pool.submit(self._arrivals.returned, [name])
        if _NO_DEVICE not in self._polls:
            self._polls[_NO_DEVICE] = pool.submit(self._arrivals.newcomers, frozenset(self._known))

    def _begin_found(self, pool: ThreadPoolExecutor) -> None:
        """Begin to measure whom the pollers have found."""
        for name in [name for name, poll in self._polls.items() if poll.done()]:
            for found in self._polls.pop(name).result():
                if name == _NO_DEVICE:
                    self._note(f"{found} connected: adding it to the sweep.")
                else:
                    self._note(f"{found} is back: resuming its remaining cells.")
                    self._parked.remove(found)
                self._begin(pool, [found])
