"""The event log: what users did, and descriptions that were put, durable when acknowledged (SQLite or PostgreSQL)."""
