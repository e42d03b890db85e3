"""Run the two processes of a lab: dask's scheduler, and a worker per host that announces and measures its phones."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from harness.errors import MissingPrerequisiteError, UsageError
from harness.lab.engine import METRIC, require_engine
from harness.lab.job import PLUGIN
from harness.lab.phone_registry import PhoneRegistry, host_name
from harness.sweep.device_pool import MOST_DEVICES

if TYPE_CHECKING:
    from distributed import Worker


_NAME = re.compile(r"[A-Za-z0-9_.-]+")
_RETRY_S = 2.0
_BUSY_LOOK_S = 0.2


def serve_worker(scheduler: str, name: str | None, tell: Callable[[str], None]) -> None:
    """Work for a lab until Ctrl-C, which lets running work finish; rejoin if the scheduler went away.

    Raises `MissingPrerequisiteError` if dask is not installed, and `UsageError` if `name` does not fit into the name of
    a phone.
    """
    name = name or host_name()
    if not _NAME.fullmatch(name):
        raise UsageError(f"A host cannot be called {name!r}.", "Name it with --name: letters, digits, - . and _.")
    require_engine()
    shelf = PhoneRegistry()
    shelf.look()  # a host that is visible in the lab shows its phones at once
    shelf.watch()
    asyncio.run(_serve_worker(scheduler, name, shelf, tell))


async def _serve_worker(scheduler: str, name: str, shelf: PhoneRegistry, tell: Callable[[str], None]) -> None:
    told = ""
    tell(f"{name} joins the lab at {scheduler}.")
    while True:
        try:
            await _work_until_lost(scheduler, name, shelf, tell)
            told = ""
        except (OSError, RuntimeError, ValueError) as error:  # such as a name that the scheduler still knows
            reason = str(error.__cause__ or error)
            if reason != told:
                tell(f"{name} cannot join the lab yet: {reason}")
            told = reason
            await asyncio.sleep(_RETRY_S)


async def _work_until_lost(scheduler: str, name: str, shelf: PhoneRegistry, tell: Callable[[str], None]) -> None:
    worker = _make_worker(scheduler, name, shelf)
    async with worker:
        tell(f"{name} is in the lab at {scheduler}.")
        try:
            await worker.finished()
        except asyncio.CancelledError:
            shelf.closing.set()
            tell(f"{name} leaves the lab: finishing what is under way.")
            while shelf.is_busy:
                await asyncio.sleep(_BUSY_LOOK_S)
            raise
    tell(f"{name} lost the lab: what is under way is finished, and nothing more is started until it has rejoined.")


def _make_worker(scheduler: str, name: str, shelf: PhoneRegistry) -> Worker:
    from distributed import Worker, WorkerPlugin
    from distributed.security import Security
    from distributed.worker import DEFAULT_METRICS

    class ShelfPlugin(WorkerPlugin):
        """Where jobs find the shelf of their host."""

        name = PLUGIN

        def __init__(self) -> None:
            self.shelf = shelf

    security = Security()
    return Worker(
        scheduler,
        name=name,
        nthreads=MOST_DEVICES,
        memory_limit=0,
        security=security,
        plugins=(ShelfPlugin(),),
        protocol=protocol_of(security.require_encryption),
        metrics={**DEFAULT_METRICS, METRIC: lambda _worker: shelf.announcement.to_message()},
    )


def serve_scheduler(host: str | None, port: int, tell: Callable[[str], None]) -> None:
    """Run a scheduler until Ctrl-C. Where dask's settings require encryption, it speaks TLS alone.

    Raises `MissingPrerequisiteError` if the port is taken or dask is not installed.
    """
    require_engine()
    asyncio.run(_serve_scheduler(host, port, tell))


async def _serve_scheduler(host: str | None, port: int, tell: Callable[[str], None]) -> None:
    from distributed import Scheduler
    from distributed.security import Security

    security = Security()
    scheduler = Scheduler(
        host=host, port=port, protocol=protocol_of(security.require_encryption), security=security, dashboard=False
    )
    try:
        async with scheduler:
            tell(f"The lab is open at {scheduler.address}. On each host: harness lab worker {scheduler.address}")
            await scheduler.finished()
    except OSError as error:
        raise MissingPrerequisiteError(
            f"No lab can be opened at port {port}: {error.strerror or error}.", "Choose another with --port."
        ) from error


def protocol_of(is_encrypted: bool) -> str:
    """Return how the processes of a lab talk."""
    return "tls" if is_encrypted else "tcp"
