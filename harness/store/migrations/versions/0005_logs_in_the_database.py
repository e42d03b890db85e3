"""Raw logs inside a database that several hosts share; the version is kept by Alembic from here on."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Change a store of the version before."""
    op.create_table(
        "logs",
        sa.Column("path", TEXT, primary_key=True),
        sa.Column("sweep_id", TEXT, nullable=False),
        sa.Column("receipt", TEXT, nullable=False),
        sa.Column("content", sa.LargeBinary, nullable=False),
        sa.ForeignKeyConstraint(["sweep_id"], ["sweeps.id"]),
        sa.UniqueConstraint("receipt"),
    )
    op.create_index("ix_logs_sweep_id", "logs", ["sweep_id"])
    op.execute("DROP TABLE IF EXISTS schema_versions")
