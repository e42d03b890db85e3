"""What stores held when their version was still kept in a table of harness's own: versions 1 to 4.

Those were brought up to date by adding the columns that they lacked, and so they are here, once more. Nothing of this
file may change: it says what is there, not what should be.
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = None

metadata = sa.MetaData()
TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
WHOLE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make what is missing; all that a store holds stays as it is."""
    connection = op.get_bind()
    metadata.create_all(connection)
    inspector = sa.inspect(connection)
    for table in metadata.sorted_tables:
        there = {column["name"] for column in inspector.get_columns(table.name)}
        for column in table.columns:
            if column.name not in there:
                op.add_column(table.name, sa.Column(column.name, column.type))


def failure_columns() -> list[sa.Column[str]]:
    """All three are empty where nothing failed."""
    return [sa.Column(name, TEXT) for name in ("failure_class", "failure_message", "failure_evidence")]


sa.Table(
    "sweeps",
    metadata,
    sa.Column("id", TEXT, primary_key=True),
    sa.Column("started_at_utc", TEXT, nullable=False),
    sa.Column("finished_at_utc", TEXT),
    sa.Column("status", TEXT, nullable=False),
    sa.Column("preset", TEXT, nullable=False),
    sa.Column("seed", WHOLE, nullable=False),
    sa.Column("harness_version", TEXT, nullable=False),
    sa.Column("spec", sa.JSON, nullable=False),
    sa.Column("host", sa.JSON, nullable=False),
)

sa.Table(
    "devices",
    metadata,
    sa.Column("sweep_id", TEXT, primary_key=True),
    sa.Column("serial", TEXT, primary_key=True),
    sa.Column("title", TEXT, nullable=False),
    sa.Column("kind", TEXT),
    sa.Column("profile", TEXT),
    sa.Column("labels", sa.JSON, nullable=False),
    sa.Column("facts", sa.JSON),
    sa.Column("preparation", sa.JSON),
    *failure_columns(),
    sa.ForeignKeyConstraint(["sweep_id"], ["sweeps.id"]),
)

sa.Table(
    "variants",
    metadata,
    sa.Column("sweep_id", TEXT, primary_key=True),
    sa.Column("name", TEXT, primary_key=True),
    sa.Column("sha256", TEXT),
    sa.Column("size_bytes", WHOLE),
    sa.Column("gzip_size_bytes", WHOLE),
    sa.Column("card", sa.JSON),
    *failure_columns(),
    sa.ForeignKeyConstraint(["sweep_id"], ["sweeps.id"]),
)

sa.Table(
    "tools",
    metadata,
    sa.Column("sweep_id", TEXT, primary_key=True),
    sa.Column("sha256", TEXT, primary_key=True),
    sa.Column("name", TEXT, nullable=False),
    sa.Column("family", TEXT, nullable=False),
    sa.Column("facts", sa.JSON, nullable=False),
    sa.ForeignKeyConstraint(["sweep_id"], ["sweeps.id"]),
)

sa.Table(
    "cells",
    metadata,
    sa.Column("sweep_id", TEXT, primary_key=True),
    sa.Column("key", TEXT, primary_key=True),
    sa.Column("variant_name", TEXT, nullable=False),
    sa.Column("variant_sha256", TEXT, nullable=False),
    sa.Column("serial", TEXT, nullable=False),
    sa.Column("delegate", TEXT, nullable=False),
    sa.Column("threads", WHOLE, nullable=False),
    sa.Column("tool_sha256", TEXT, nullable=False),
    sa.Column("core_mask", TEXT),
    sa.Column("profile", TEXT, nullable=False),
    sa.Column("mode", sa.JSON, nullable=False),
    sa.ForeignKeyConstraint(["sweep_id"], ["sweeps.id"]),
)

sa.Table(
    "invocations",
    metadata,
    sa.Column("id", WHOLE, primary_key=True),
    sa.Column("sweep_id", TEXT, nullable=False),
    sa.Column("cell_key", TEXT, nullable=False),
    sa.Column("purpose", TEXT, nullable=False),
    sa.Column("invocation_index", WHOLE, nullable=False),
    sa.Column("attempt", WHOLE, nullable=False),
    sa.Column("block", WHOLE, nullable=False),
    sa.Column("started_at_utc", TEXT, nullable=False),
    sa.Column("wall_s", sa.Float, nullable=False),
    sa.Column("command", sa.JSON, nullable=False),
    sa.Column("log_path", TEXT, nullable=False),
    sa.Column("labels", sa.JSON, nullable=False),
    sa.Column("telemetry_before", sa.JSON),
    sa.Column("telemetry_during", sa.JSON),
    sa.Column("telemetry_after", sa.JSON),
    sa.Column("gate", sa.JSON),
    sa.Column("cores_allowed", TEXT),
    sa.Column("delegate_achieved", TEXT),
    sa.Column("delegated_nodes", WHOLE),
    sa.Column("total_nodes", WHOLE),
    sa.Column("partitions", WHOLE),
    sa.Column("fell_back", sa.Boolean),
    sa.Column("fell_back_reason", TEXT),
    sa.Column("runs", WHOLE),
    sa.Column("latency_avg_us", sa.Float),
    sa.Column("latency_median_us", sa.Float),
    sa.Column("latency_min_us", sa.Float),
    sa.Column("latency_max_us", sa.Float),
    sa.Column("latency_std_us", sa.Float),
    sa.Column("init_us", sa.Float),
    sa.Column("first_inference_us", sa.Float),
    sa.Column("warmup_asked_runs", WHOLE),
    sa.Column("warmup_converged", sa.Boolean),
    sa.Column("warmup_runs", WHOLE),
    sa.Column("warmup_window_us", sa.Float),
    sa.Column("timed_window_us", sa.Float),
    sa.Column("memory_init_mb", sa.Float),
    sa.Column("memory_overall_mb", sa.Float),
    sa.Column("peak_memory_mb", sa.Float),
    sa.Column("operators", sa.JSON),
    *failure_columns(),
    sa.ForeignKeyConstraint(["sweep_id", "cell_key"], ["cells.sweep_id", "cells.key"]),
    sa.UniqueConstraint("sweep_id", "cell_key", "purpose", "invocation_index", "attempt"),
)

sa.Table(
    "accuracies",
    metadata,
    sa.Column("id", WHOLE, primary_key=True),
    sa.Column("sweep_id", TEXT, nullable=False),
    sa.Column("cell_key", TEXT, nullable=False),
    sa.Column("attempt", WHOLE, nullable=False),
    sa.Column("wall_s", sa.Float, nullable=False),
    sa.Column("log_path", TEXT, nullable=False),
    sa.Column("samples_per_process", WHOLE, nullable=False),
    sa.Column("note", TEXT, nullable=False),
    sa.Column("samples", WHOLE),
    sa.Column("top1", sa.Float),
    sa.Column("top1_low", sa.Float),
    sa.Column("top1_high", sa.Float),
    sa.Column("top5", sa.Float),
    sa.Column("top5_low", sa.Float),
    sa.Column("top5_high", sa.Float),
    sa.Column("agreement", sa.Float),
    sa.Column("agreement_low", sa.Float),
    sa.Column("agreement_high", sa.Float),
    sa.Column("float_top1", sa.Float),
    sa.Column("check_passed", sa.Boolean),
    sa.Column("check", sa.JSON),
    *failure_columns(),
    sa.ForeignKeyConstraint(["sweep_id", "cell_key"], ["cells.sweep_id", "cells.key"]),
    sa.UniqueConstraint("sweep_id", "cell_key", "attempt"),
)
