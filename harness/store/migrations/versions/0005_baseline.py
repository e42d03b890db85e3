"""The first version that is supported: a new store gets these tables from the schema; later scripts start here."""

revision = "0005"
down_revision = None


def upgrade() -> None:
    """Change nothing."""
