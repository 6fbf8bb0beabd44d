"""The recommender as DuckDB functions: the catalogue, the Arrow functions, and bundles in memory."""
