"""The one process of a lab that all others connect to: dask's own scheduler."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from harness.errors import NothingToRunOnError
from harness.lab.engine import require_engine


def serve(host: str | None, port: int, tell: Callable[[str], None]) -> None:
    """Run a scheduler until Ctrl-C. Where dask's settings require encryption, it speaks TLS alone.

    Raises `NothingToRunOnError` where the port is taken or dask is not installed.
    """
    require_engine()
    asyncio.run(_serve(host, port, tell))


async def _serve(host: str | None, port: int, tell: Callable[[str], None]) -> None:
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
        raise NothingToRunOnError(
            f"No lab can be opened at port {port}: {error.strerror or error}.", "Choose another with --port."
        ) from error


def protocol_of(is_encrypted: bool) -> str:
    """Return how the processes of a lab talk."""
    return "tls" if is_encrypted else "tcp"
