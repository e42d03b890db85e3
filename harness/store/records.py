"""What the store keeps about a sweep, as value objects."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any
from urllib.parse import quote

from harness.version import __version__

FILE_NAME = "results.sqlite3"
"""The database in a results folder."""

CARRIED_ON = "carried_on"
SET_ASIDE = "set_aside"
"""Keys of `SweepRecord.host` next to the facts of the computer that began the sweep."""


class SweepStatus(StrEnum):
    """Where a sweep stands. One that was killed keeps `running`, since nothing was left to say otherwise."""

    RUNNING = "running"
    FINISHED = "finished"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True)
class SweepRecord:
    """One sweep: what was asked for, when, and by which harness on which host."""

    id: str
    started_at: datetime
    """With a time zone; stored as UTC."""
    spec: Mapping[str, object]
    """The whole spec as JSON values, defaults included."""
    preset: str
    seed: int
    host: Mapping[str, object] = field(default_factory=dict)
    """Facts of the computer that began the sweep, and what came later: `carried_on` and `set_aside`."""
    harness_version: str = __version__
    status: SweepStatus = SweepStatus.RUNNING
    finished_at: datetime | None = None

    @property
    def machine(self) -> dict[str, object]:
        """Return the facts of the computer alone."""
        return {name: value for name, value in self.host.items() if name not in (CARRIED_ON, SET_ASIDE)}

    @property
    def carried_on(self) -> list[Mapping[str, Any]]:
        """Return each time it was resumed: when (UTC), on which host, by which harness, with what changed."""
        sittings: list[Mapping[str, Any]] = self.host.get(CARRIED_ON) or []  # type: ignore[assignment]
        return sittings

    @property
    def sittings(self) -> list[datetime]:
        """Return when it was begun, and when it was resumed."""
        return [self.started_at, *(datetime.fromisoformat(one["started_at_utc"]) for one in self.carried_on)]

    @property
    def set_aside(self) -> dict[str, str]:
        """Return the keys of cells that were measured again under other conditions, each with what changed."""
        reasons: dict[str, str] = self.host.get(SET_ASIDE) or {}  # type: ignore[assignment]
        return reasons

    @property
    def is_noise(self) -> bool:
        """Return True if it is an A/A sweep, which only shows how far a device differs from itself."""
        return self.spec.get("purpose") == "noise"

    def as_json(self) -> dict[str, object]:
        """Return the record as JSON values, moments as ISO 8601 in UTC."""
        started_at, finished_at = self.started_at.astimezone(UTC), self.finished_at and self.finished_at.astimezone(UTC)
        return {
            "id": self.id,
            "started_at_utc": started_at.isoformat(),
            "finished_at_utc": finished_at and finished_at.isoformat(),
            "status": self.status.value,
            "preset": self.preset,
            "seed": self.seed,
            "harness_version": self.harness_version,
            "spec": dict(self.spec),
            "host": dict(self.host),
        }


def record_of(row: Mapping[Any, Any]) -> SweepRecord:
    """Read a row of the table `sweeps` back."""
    values = dict(row)
    ended = values.pop("finished_at_utc")
    started_at = datetime.fromisoformat(values.pop("started_at_utc"))
    status = SweepStatus(values.pop("status"))
    finished_at = datetime.fromisoformat(ended) if ended else None
    return SweepRecord(**values, started_at=started_at, status=status, finished_at=finished_at)


def new_sweep_id(started_at: datetime) -> str:
    """Return an id that sorts by time and is unique across hosts, such as `20261124-083000-ab12`."""
    return f"{started_at:%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


@dataclass(frozen=True)
class Cell:
    """Variant x device x delegate x threads, with all else that decides whether two numbers are alike."""

    variant_sha256: str
    variant_name: str
    serial: str
    delegate: str
    """As requested."""
    threads: int
    tool_sha256: str
    core_mask: str | None
    """Hexadecimal, as `taskset` takes it; None: not pinned."""
    profile: str
    """Name of the device profile."""
    mode: Mapping[str, object] = field(default_factory=dict, hash=False)
    """Settings of the measurement, such as runs and warm-up, as JSON values."""

    @classmethod
    def of_row(cls, row: Mapping[Any, Any]) -> Cell:
        """Return the cell of a stored row, which may hold more columns."""
        return cls(**{one.name: row[one.name] for one in fields(cls)})

    @property
    def key(self) -> str:
        """Content hash of every field: results are compared only within one key (promise H22).

        The name is part of it, since two recipes can make the same file and each keeps its own row.
        """
        text = json.dumps(asdict(self), sort_keys=True, ensure_ascii=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


_LONGEST_NAME = 60
"""Characters of one name from outside, so that a file name stays under 255 bytes."""


def sweep_folder(sweep_id: str) -> str:
    """Return the name of a sweep's folder inside the results folder."""
    return safe_name(sweep_id)


def safe_name(text: str) -> str:
    """Quote a name from outside so that it can neither leave the folder nor upset a file system."""
    return quote(text, safe="", errors="replace").replace(".", "%2E", 1 if text.startswith(".") else 0)[:_LONGEST_NAME]
