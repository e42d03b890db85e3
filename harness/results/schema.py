"""The tables of the results store. Column names carry their units; text columns ending in `_utc` are ISO 8601."""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    Dialect,
    Float,
    ForeignKeyConstraint,
    Integer,
    MetaData,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
)

from harness.results.plain import storable

SCHEMA_VERSION = 4
"""Raised whenever a column is added; a store of a newer version is refused, never guessed at.

A store of an older version is brought up to date when it is opened, so a column that is added must be nullable. 2 added
how phones were prepared, gated and pinned; 3 how cells were warmed up; 4 where the time went.
"""

metadata = MetaData()


class SafeText(TypeDecorator[str]):
    """Text from phones, models and tools, which may hold anything."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:  # noqa: ANN401 - SQLAlchemy's signature
        """Clean on the way in."""
        return None if value is None else storable(str(value))


def _failure_columns() -> list[Column[Any]]:
    """All three are empty where nothing failed."""
    return [
        Column("failure_class", SafeText),
        Column("failure_message", SafeText),
        Column("failure_evidence", SafeText),
    ]


def _of_sweep(*more: str) -> ForeignKeyConstraint:
    if more:
        return ForeignKeyConstraint(["sweep_id", "cell_key"], ["cells.sweep_id", "cells.key"])
    return ForeignKeyConstraint(["sweep_id"], ["sweeps.id"])


schema_versions = Table("schema_versions", metadata, Column("version", Integer, primary_key=True))

sweeps = Table(
    "sweeps",
    metadata,
    Column("id", SafeText, primary_key=True),
    Column("started_at_utc", SafeText, nullable=False),
    Column("finished_at_utc", SafeText),
    Column("status", SafeText, nullable=False),
    Column("preset", SafeText, nullable=False),
    Column("seed", Integer, nullable=False),
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
    Column("size_bytes", Integer),
    Column("gzip_size_bytes", Integer),
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
    Column("threads", Integer, nullable=False),
    Column("tool_sha256", SafeText, nullable=False),
    Column("core_mask", SafeText),
    Column("profile", SafeText, nullable=False),
    Column("mode", JSON, nullable=False),
    _of_sweep(),
)

invocations = Table(
    "invocations",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("sweep_id", SafeText, nullable=False),
    Column("cell_key", SafeText, nullable=False),
    Column("purpose", SafeText, nullable=False),
    Column("invocation_index", Integer, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("block", Integer, nullable=False),
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
    Column("delegated_nodes", Integer),
    Column("total_nodes", Integer),
    Column("partitions", Integer),
    Column("fell_back", Boolean),
    Column("fell_back_reason", SafeText),
    Column("runs", Integer),
    Column("latency_avg_us", Float),
    Column("latency_median_us", Float),
    Column("latency_min_us", Float),
    Column("latency_max_us", Float),
    Column("latency_std_us", Float),
    Column("init_us", Float),
    Column("first_inference_us", Float),
    Column("warmup_asked_runs", Integer),
    Column("warmup_converged", Boolean),
    Column("warmup_runs", Integer),
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
    Column("id", Integer, primary_key=True),
    Column("sweep_id", SafeText, nullable=False),
    Column("cell_key", SafeText, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("wall_s", Float, nullable=False),
    Column("log_path", SafeText, nullable=False),
    Column("samples_per_process", Integer, nullable=False),
    Column("note", SafeText, nullable=False),
    Column("samples", Integer),
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
