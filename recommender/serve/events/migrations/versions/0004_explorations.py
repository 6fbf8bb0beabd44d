"""Explorations: what was drawn for a reserved place of an answer, and with which probabilities."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Create the table, and the index by which rewards are found."""
    op.create_table(
        "explorations",
        sa.Column("recommendation_id", sa.Text, primary_key=True),
        sa.Column("position", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("user_id", sa.Text, nullable=False),
        sa.Column("at_us", sa.BigInteger, nullable=False),
        sa.Column("item_id", sa.Text, nullable=False),
        sa.Column("items", sa.Text, nullable=False),
        sa.Column("probabilities", sa.LargeBinary, nullable=False),
        sa.Column("contexts", sa.LargeBinary, nullable=False),
        sa.Column("policy", sa.Text, nullable=False),
        sa.Column("settled", sa.BigInteger),
        sa.Column("reward", sa.Float(53)),
    )
    op.create_index("explorations_of_user", "explorations", ["user_id"])
    op.create_index("explorations_by_time", "explorations", ["at_us"])
    op.create_index("explorations_settled", "explorations", ["settled"])
    op.create_index("events_of_recommendation", "events", ["recommendation_id"])
