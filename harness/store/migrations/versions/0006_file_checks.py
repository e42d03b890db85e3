"""Keep how the files on the devices were hashed again; sweeps of older versions have no rows here."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from harness.store.schema import SafeText, WholeNumber

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Add the table of checks."""
    op.create_table(
        "file_checks",
        sa.Column("id", WholeNumber, primary_key=True),
        sa.Column("sweep_id", SafeText, sa.ForeignKey("sweeps.id"), nullable=False, index=True),
        *(sa.Column(name, SafeText, nullable=False) for name in ("serial", "path", "owner_sha256", "sha256")),
        sa.Column("found_sha256", SafeText),
        sa.Column("checked_at_utc", SafeText, nullable=False),
        *(sa.Column(name, WholeNumber, nullable=False) for name in ("last_invocation_id", "last_accuracy_id")),
    )
