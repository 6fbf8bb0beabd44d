"""JSON files as DuckDB tables: texts stay texts, and long numbers keep every digit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import duckdb

from coldstart_udfs.quoting import quote_name, quote_text
from coldstart_udfs.tabular.encoding import FileError

# The longest object; DuckDB's own limit is 16 MB.
_LONGEST = 64 * 1024 * 1024
# Whole numbers of more digits than this are not exact as DOUBLE.
_EXACT_DIGITS = 15
_LONG_NUMBER = f"[0-9]{{{_EXACT_DIGITS + 1},}}"
_KEPT = ("BOOLEAN", "BIGINT")


def read_json(con: duckdb.DuckDBPyConnection, file: Path, path: Path, pattern: str, table: str) -> None:
    """Create a table from JSON objects.

    Args:
        con: a connection.
        file: the file in UTF-8.
        path: its name for errors.
        pattern: the file as a pattern of DuckDB.
        table: the table to create.

    Raises:
        FileError: it holds no objects, two keys differ in letter case alone, or a line is no JSON.
        duckdb.Error: it is no JSON.
    """
    shape = f"maximum_object_size = {_LONGEST}, hive_partitioning = false"
    source = quote_text(pattern)
    try:
        objects = f"read_json_objects({source}, {shape})"
        named = f"SELECT DISTINCT unnest(json_keys(json)) FROM {objects} WHERE json_type(json) = 'OBJECT'"
        keys = [key for (key,) in con.execute(named).fetchall()]
        others, long = con.execute(
            f"SELECT count(*) FILTER (json_type(json) <> 'OBJECT'), "
            f"count(*) FILTER (regexp_matches(json::VARCHAR, '{_LONG_NUMBER}')) FROM {objects}"
        ).fetchall()[0]
    except duckdb.Error:
        _name_bad_line(file, path)
        raise
    if others or not keys:
        raise FileError(f"{path} must hold objects, one on each line or in one list, and has {others:,} other values")
    lower = [key.lower() for key in keys]
    alike = sorted(key for key in keys if lower.count(key.lower()) > 1)
    if alike:
        raise FileError(f"{path} has keys that differ in letter case alone: {alike}; rename them")
    settings = f"sample_size = -1, map_inference_threshold = -1, maximum_depth = -1, {shape}"
    inferred = con.sql(f"FROM read_json({source}, {settings})")
    types = {
        column: "VARCHAR" if str(kind) == "DOUBLE" else _plain(kind, exact=bool(long))
        for column, kind in zip(inferred.columns, inferred.types, strict=True)
    }
    listed = ", ".join(f"{quote_text(column)}: {quote_text(kind)}" for column, kind in types.items())
    doubles = [column for column, kind in zip(inferred.columns, inferred.types, strict=True) if str(kind) == "DOUBLE"]
    con.execute(
        f"CREATE TABLE {quote_name(table)} AS FROM read_json({source}, columns = {{{listed}}}, {shape})"
    )
    for column in map(quote_name, doubles):
        many = f"SELECT count(*) FROM {quote_name(table)} WHERE regexp_full_match({column}, '-?{_LONG_NUMBER}')"
        if not con.execute(many).fetchall()[0][0]:
            con.execute(f"ALTER TABLE {quote_name(table)} ALTER {column} TYPE DOUBLE")


def _plain(kind: Any, *, exact: bool) -> str:
    """A type without what DuckDB reads into texts (dates, times, UUIDs); with `exact`, without DOUBLE as well."""
    if kind.id == "list":
        return f"{_plain(kind.children[0][1], exact=exact)}[]"
    if kind.id == "struct":
        fields = ", ".join(f"{quote_name(name)} {_plain(inner, exact=exact)}" for name, inner in kind.children)
        return f"STRUCT({fields})"
    if str(kind) in _KEPT or (str(kind) == "DOUBLE" and not exact):
        return str(kind)
    return "JSON" if kind.id == "map" else "VARCHAR"


def _name_bad_line(file: Path, path: Path) -> None:
    """Raise an error that names the first line that is no JSON, if the file has one value on each line."""
    with file.open(encoding="utf-8-sig", errors="surrogateescape") as lines:
        for number, line in enumerate(lines, 1):
            if number == 1 and line.lstrip().startswith("["):
                return
            try:
                if line.strip():
                    json.loads(line)
            except (ValueError, RecursionError) as error:
                if not line.isprintable() and "\udc80" <= max(line) <= "\udcff":
                    return  # not UTF-8
                reason = str(error).partition(":")[0]
                raise FileError(
                    f"{path} cannot be read as JSON lines: line {number:,}: {reason}: {line[:80].strip()}"
                ) from None
