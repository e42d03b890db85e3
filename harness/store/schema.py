"""The tables of the results store. Column names carry their units; text columns ending in `_utc` are ISO 8601."""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Dialect,
    Float,
    ForeignKeyConstraint,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
)

from harness.text import storable

STORE_SCHEMA_VERSION = 6
"""Raised whenever the tables change, with a script in `migrations/versions` that changes older stores.

A store of a newer version is refused, never guessed at. 2 added how phones were prepared, gated and pinned; 3 how cells
were warmed up; 4 where the time went; 5 raw logs inside a database that several hosts share; 6 how
files on devices were hashed again.
"""

metadata = MetaData()


ANY_TEXT = Text().with_variant(Text(collation="C"), "postgresql")
"""Text that every database sorts alike, by its bytes: PostgreSQL would sort as its administrator's language does."""

WholeNumber = BigInteger().with_variant(Integer(), "sqlite")
"""64 bits everywhere; SQLite's only whole number has them."""


class SafeText(TypeDecorator[str]):
    """Text from phones, models and tools, which may hold anything."""

    impl = ANY_TEXT
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:  # noqa: ANN401 - SQLAlchemy's signature
        """Clean on the way in."""
        return None if value is None else storable(str(value))


def _failure_columns() -> list[Column[Any]]:
    """All three are empty if nothing failed."""
    return [
        Column("failure_class", SafeText),
        Column("failure_message", SafeText),
        Column("failure_evidence", SafeText),
    ]


def _of_sweep(*more: str) -> ForeignKeyConstraint:
    if more:
        return ForeignKeyConstraint(["sweep_id", "cell_key"], ["cells.sweep_id", "cells.key"])
    return ForeignKeyConstraint(["sweep_id"], ["sweeps.id"])


alembic_version = Table("alembic_version", metadata, Column("version_num", String(32), primary_key=True))
"""Which version of the tables a store has, as Alembic keeps it: four digits."""

sweeps = Table(
    "sweeps",
    metadata,
    Column("id", SafeText, primary_key=True),
    Column("started_at_utc", SafeText, nullable=False),
    Column("finished_at_utc", SafeText),
    Column("status", SafeText, nullable=False),
    Column("preset", SafeText, nullable=False),
    Column("seed", WholeNumber, nullable=False),
    Column("harness_version", SafeText, nullable=False),
    Column("spec", JSON, nullable=False),
    Column("host", JSON, nullable=False),
)

devices = Table(
    "devices",
    metadata,
    Column("sweep_id", SafeText, primary_key=True),
    Column("serial", SafeText, primary_key=True),
    Column("title", SafeText, nullable=False),
    Column("kind", SafeText),
    Column("profile", SafeText),
    Column("labels", JSON, nullable=False),
    Column("facts", JSON),
    Column("preparation", JSON),
    *_failure_columns(),
    _of_sweep(),
)

variants = Table(
    "variants",
    metadata,
    Column("sweep_id", SafeText, primary_key=True),
    Column("name", SafeText, primary_key=True),
    Column("sha256", SafeText),
    Column("size_bytes", WholeNumber),
    Column("gzip_size_bytes", WholeNumber),
    Column("card", JSON),
    *_failure_columns(),
    _of_sweep(),
)

tools = Table(
    "tools",
    metadata,
    Column("sweep_id", SafeText, primary_key=True),
    Column("sha256", SafeText, primary_key=True),
    Column("name", SafeText, nullable=False),
    Column("family", SafeText, nullable=False),
    Column("facts", JSON, nullable=False),
    _of_sweep(),
)

cells = Table(
    "cells",
    metadata,
    Column("sweep_id", SafeText, primary_key=True),
    Column("key", SafeText, primary_key=True),
    Column("variant_name", SafeText, nullable=False),
    Column("variant_sha256", SafeText, nullable=False),
    Column("serial", SafeText, nullable=False),
    Column("delegate", SafeText, nullable=False),
    Column("threads", WholeNumber, nullable=False),
    Column("tool_sha256", SafeText, nullable=False),
    Column("core_mask", SafeText),
    Column("profile", SafeText, nullable=False),
    Column("mode", JSON, nullable=False),
    _of_sweep(),
)

invocations = Table(
    "invocations",
    metadata,
    Column("id", WholeNumber, primary_key=True),
    Column("sweep_id", SafeText, nullable=False),
    Column("cell_key", SafeText, nullable=False),
    Column("purpose", SafeText, nullable=False),
    Column("invocation_index", WholeNumber, nullable=False),
    Column("attempt", WholeNumber, nullable=False),
    Column("block", WholeNumber, nullable=False),
    Column("started_at_utc", SafeText, nullable=False),
    Column("wall_s", Float, nullable=False),
    Column("command", JSON, nullable=False),
    Column("log_path", SafeText, nullable=False),
    Column("labels", JSON, nullable=False),
    Column("telemetry_before", JSON),
    Column("telemetry_during", JSON),
    Column("telemetry_after", JSON),
    Column("gate", JSON),
    Column("cores_allowed", SafeText),
    Column("delegate_achieved", SafeText),
    Column("delegated_nodes", WholeNumber),
    Column("total_nodes", WholeNumber),
    Column("partitions", WholeNumber),
    Column("fell_back", Boolean),
    Column("fell_back_reason", SafeText),
    Column("runs", WholeNumber),
    Column("latency_avg_us", Float),
    Column("latency_median_us", Float),
    Column("latency_min_us", Float),
    Column("latency_max_us", Float),
    Column("latency_std_us", Float),
    Column("init_us", Float),
    Column("first_inference_us", Float),
    Column("warmup_asked_runs", WholeNumber),
    Column("warmup_converged", Boolean),
    Column("warmup_runs", WholeNumber),
    Column("warmup_window_us", Float),
    Column("timed_window_us", Float),
    Column("memory_init_mb", Float),
    Column("memory_overall_mb", Float),
    Column("peak_memory_mb", Float),
    Column("operators", JSON),
    *_failure_columns(),
    _of_sweep("cell"),
    UniqueConstraint("sweep_id", "cell_key", "purpose", "invocation_index", "attempt"),
)

accuracies = Table(
    "accuracies",
    metadata,
    Column("id", WholeNumber, primary_key=True),
    Column("sweep_id", SafeText, nullable=False),
    Column("cell_key", SafeText, nullable=False),
    Column("attempt", WholeNumber, nullable=False),
    Column("wall_s", Float, nullable=False),
    Column("log_path", SafeText, nullable=False),
    Column("samples_per_process", WholeNumber, nullable=False),
    Column("note", SafeText, nullable=False),
    Column("samples", WholeNumber),
    Column("top1", Float),
    Column("top1_low", Float),
    Column("top1_high", Float),
    Column("top5", Float),
    Column("top5_low", Float),
    Column("top5_high", Float),
    Column("agreement", Float),
    Column("agreement_low", Float),
    Column("agreement_high", Float),
    Column("float_top1", Float),
    Column("check_passed", Boolean),
    Column("check", JSON),
    *_failure_columns(),
    _of_sweep("cell"),
    UniqueConstraint("sweep_id", "cell_key", "attempt"),
)

file_checks = Table(
    "file_checks",
    metadata,
    Column("id", WholeNumber, primary_key=True),
    Column("sweep_id", SafeText, nullable=False, index=True),
    Column("serial", SafeText, nullable=False),
    Column("path", SafeText, nullable=False),
    Column("owner_sha256", SafeText, nullable=False),
    Column("sha256", SafeText, nullable=False),
    Column("found_sha256", SafeText),
    Column("checked_at_utc", SafeText, nullable=False),
    Column("last_invocation_id", WholeNumber, nullable=False),
    Column("last_accuracy_id", WholeNumber, nullable=False),
    _of_sweep(),
)
"""Each time that a file of a tool or variant was hashed on a device, and the last rows that were stored by then."""

logs = Table(
    "logs",
    metadata,
    Column("path", SafeText, primary_key=True),
    Column("sweep_id", SafeText, nullable=False, index=True),
    Column("receipt", SafeText, nullable=False),
    Column("content", LargeBinary, nullable=False),
    _of_sweep(),
    UniqueConstraint("receipt"),
)
"""Raw logs, compressed, where no folder is shared by all who read them; next to a SQLite file they are files.

A `receipt` is made up for each finished process before it is stored, so that nothing is stored twice.
"""
