"""Leases: work that one worker does for all."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "leases",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("holder", sa.Text),
        sa.Column("until_us", sa.BigInteger, nullable=False),
        sa.Column("state", sa.Text),
    )
