"""The event log."""

import os

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create the tables, and the one row of `log_state`."""
    state = op.create_table(
        "log_state",
        sa.Column("only", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("last", sa.BigInteger, nullable=False),
        sa.Column("salt", sa.LargeBinary, nullable=False),
    )
    op.bulk_insert(state, [{"only": 1, "last": 0, "salt": os.urandom(32)}])
    op.create_table(
        "events",
        sa.Column("id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("user_id", sa.Text, nullable=False),
        sa.Column("item_id", sa.Text),
        sa.Column("event_type", sa.Text, nullable=False),
        sa.Column("event_us", sa.BigInteger, nullable=False),
        sa.Column("weight", sa.Float(53)),
        sa.Column("rating", sa.Float(53)),
        sa.Column("position", sa.Integer),
        sa.Column("query", sa.Text),
        sa.Column("recommendation_id", sa.Text),
    )
    op.create_index("events_of_user", "events", ["user_id"])
    op.create_table(
        "descriptions",
        sa.Column("id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("entity", sa.Text, nullable=False),
        sa.Column("entity_id", sa.Text, nullable=False),
        sa.Column("description", sa.Text, nullable=False),
        sa.Column("attributes", sa.Text),
        sa.Column("event_us", sa.BigInteger, nullable=False),
    )
    op.create_index("descriptions_of_entity", "descriptions", ["entity", "entity_id"])
    op.create_table(
        "erasures",
        sa.Column("id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("digest", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "batches",
        sa.Column("key_digest", sa.LargeBinary, primary_key=True),
        sa.Column("digest", sa.LargeBinary, nullable=False),
        sa.Column("first_id", sa.BigInteger, nullable=False),
        sa.Column("size", sa.Integer, nullable=False),
        sa.Column("received_us", sa.BigInteger, nullable=False),
    )
    op.create_index("batches_by_age", "batches", ["received_us"])
