"""The offline store: DuckDB with an ASOF JOIN for point-in-time retrieval."""
