"""Experiments, and who was shown which arm."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "experiments",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("layer", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("spec", sa.Text, nullable=False),
        sa.Column("buckets", sa.Text),
        sa.Column("created_us", sa.BigInteger, nullable=False),
        sa.Column("started_us", sa.BigInteger),
        sa.Column("stopped_us", sa.BigInteger),
    )
    op.create_table(
        "exposures",
        sa.Column("experiment", sa.Text, primary_key=True),
        sa.Column("user_id", sa.Text, primary_key=True),
        sa.Column("occasion", sa.Text, primary_key=True),
        sa.Column("arm", sa.Text, nullable=False),
        sa.Column("exposed_us", sa.BigInteger, nullable=False),
        sa.Column("recommendation_id", sa.Text, nullable=False),
        sa.Column("teams", sa.Text),
    )
    op.create_index("exposures_of_user", "exposures", ["user_id"])
