"""Connect to a lab: list its hosts, and run functions on them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import ValidationError

from harness.errors import MissingPrerequisiteError, UsageError
from harness.lab.engine import METRIC, require_engine, version
from harness.lab.phone_registry import Announcement

if TYPE_CHECKING:
    from distributed import Client, Future

CONNECT_TIMEOUT_S = 10.0
_FRESH_S = 1.0
"""How long the scheduler's last answer is reused."""
_FIRST_POLL_S, _POLL_S = 0.01, 0.5
"""Between two polls of a running task; short at first, because a piece of a file takes almost no time."""

T = TypeVar("T")


class HostLostError(Exception):
    """A host disconnected, or all of them with the scheduler."""


@dataclass(frozen=True)
class LabHost:
    """One host of the lab, as its worker announces it."""

    name: str
    address: str
    """Of this worker only; one that rejoins has another."""
    announcement: Announcement


class Lab:
    """A connection to a scheduler. Safe to use from several threads."""

    def __init__(self, address: str, client: Client) -> None:
        self.address = address
        self._client = client
        self._lock = threading.Lock()
        self._hosts: dict[str, LabHost] = {}
        self._asked_at = float("-inf")

    def hosts(self) -> list[LabHost]:
        """Return the connected hosts. Raises `HostLostError` if the scheduler does not answer."""
        with self._lock:
            if time.monotonic() - self._asked_at > _FRESH_S:
                self._hosts = {host.address: host for host in self._ask()}
                self._asked_at = time.monotonic()
            return list(self._hosts.values())

    def _ask(self) -> Iterator[LabHost]:
        try:
            workers = self._client.scheduler_info()["workers"]
        except Exception as error:  # of several libraries: whatever keeps the answer away
            raise HostLostError("the scheduler does not answer") from error
        for address, worker in workers.items():
            try:
                announcement = Announcement.from_message(worker["metrics"][METRIC])
            except (KeyError, ValidationError):  # another program's worker
                continue
            yield LabHost(str(worker["name"]), address, announcement)

    def do(self, host: LabHost, work: Callable[..., T], *arguments: object, while_waiting: Callable[[], None]) -> T:
        """Run a function once on one host and return its result.

        Calls `while_waiting` repeatedly. Raises `HostLostError` if the host disconnects in the meantime.
        """
        future = self._submit(host, work, *arguments)
        pause_s = _FIRST_POLL_S
        try:
            while not future.done():
                while_waiting()
                if host.address not in {known.address for known in self.hosts()}:
                    raise HostLostError(f"the connection to {host.name} was lost")
                time.sleep(pause_s)
                pause_s = min(2 * pause_s, _POLL_S)
            outcome: T = self._result(future, host)
            return outcome
        finally:
            future.release()

    def start(self, host: LabHost, work: Callable[..., object], *arguments: object) -> Future:
        """Start a function on one host without waiting; releasing the future cancels it."""
        return self._submit(host, work, *arguments)

    def _submit(self, host: LabHost, work: Callable[..., object], *arguments: object) -> Future:
        return self._client.submit(
            work, *arguments, workers=[host.address], allow_other_workers=False, retries=0, pure=False
        )

    def _result(self, future: Future, host: LabHost) -> Any:  # noqa: ANN401
        from concurrent.futures import CancelledError

        from distributed.scheduler import KilledWorker

        try:
            return future.result()
        except (KilledWorker, CancelledError) as error:
            raise HostLostError(f"the connection to {host.name} was lost") from error

    def listen(self, topic: str, handler: Callable[[dict[str, Any]], None]) -> None:
        """Call `handler` with every message that jobs log under a topic."""
        self._client.subscribe_topic(topic, lambda event: handler(event[1]))


@contextmanager
def joined(address: str) -> Iterator[Lab]:
    """Connect to a lab for a `with` block.

    Raises `MissingPrerequisiteError` if none is open there or no host has joined it, `UsageError` if a host runs
    another version of harness.
    """
    require_engine()
    from distributed import Client

    try:
        client = Client(address, timeout=CONNECT_TIMEOUT_S, set_as_default=False)
    except (OSError, TimeoutError, ValueError) as error:
        raise MissingPrerequisiteError(
            f"No lab is open at {address}: {error}.", "Open one there: `harness lab scheduler`."
        ) from error
    with client:
        lab = Lab(address, client)
        _require_hosts(lab)
        yield lab


def _require_hosts(lab: Lab) -> None:
    hosts = lab.hosts()
    if not hosts:
        raise MissingPrerequisiteError(
            f"No host has joined the lab at {lab.address}.", f"On each host: `harness lab worker {lab.address}`."
        )
    if others := [host for host in hosts if host.announcement.version != version()]:
        told = ", ".join(f"{host.name} runs harness {host.announcement.version}" for host in others)
        raise UsageError(f"This is harness {version()}, but {told}.", "Install the same version on all hosts.")
