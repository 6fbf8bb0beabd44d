"""Alembic runs migrations of the event log within the connection, and the transaction, of `schema.connect`."""

from alembic import context

from recommender.serve.events.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
