"""The recommender as DuckDB functions: the catalogue, their Arrow halves, bundles in memory."""
