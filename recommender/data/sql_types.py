"""Beginnings of the names of DuckDB's types of numbers."""

from __future__ import annotations

WHOLE_NUMBERS = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT",
                 "UHUGEINT")  # fmt: skip
FRACTIONAL_NUMBERS = ("FLOAT", "DOUBLE", "DECIMAL")
