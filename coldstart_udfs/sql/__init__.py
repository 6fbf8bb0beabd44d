"""DuckDB functions: the catalogue, their Arrow halves, registration, the reference page."""
