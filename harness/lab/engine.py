"""dask.distributed, which is not installed with harness itself: imported in one place, and said where it is missing."""

from __future__ import annotations

import logging
from typing import Any

from harness.errors import MissingPrerequisiteError
from harness.version import __version__

METRIC = "harness"
"""Under this name a worker's heartbeat carries what it announces."""
SETTINGS: dict[str, Any] = {
    # A phone's host is lost once, and then its phone is lost: nothing is tried anywhere else.
    "distributed.scheduler.allowed-failures": 0,
    "distributed.scheduler.work-stealing": False,
    # Samples each thread's stack a hundred times a second, on the computer that phones are measured from.
    "distributed.worker.profile.enabled": False,
}
"""What harness changes of dask's settings. All others are the user's: dask's files and DASK_ variables."""


def require_engine() -> None:
    """Prepare dask.distributed. Raises `MissingPrerequisiteError` if it is not installed.

    Its log stays off the screen, because harness reports errors in its own words; `DASK_LOGGING__DISTRIBUTED` brings it
    back.
    """
    try:
        import dask
        import distributed  # noqa: F401 - so that its own settings are there to be laid over
    except ModuleNotFoundError as error:
        raise MissingPrerequisiteError(
            f"A lab of several hosts needs a package that is not installed: {error.name}.",
            "Install it on every host: pip install 'harness[lab]'.",
        ) from error
    dask.config.set(SETTINGS)
    if not dask.config.get("logging", None):
        for name in ("distributed", "distributed.client", "tornado.application"):
            logging.getLogger(name).setLevel(logging.CRITICAL)


def version() -> str:
    """Return what must be the same on all hosts, since jobs are objects of this version's classes."""
    return __version__
