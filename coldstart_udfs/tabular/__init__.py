"""Files as DuckDB tables: Parquet, CSV, JSON and Excel, without guesses from a sample.

A CSV file is split by the separator of its header and read as text. What a column means is decided where it is known:
by the data contract, or by the user's script.
"""

from __future__ import annotations

from coldstart_udfs.tabular.encoding import FileError
from coldstart_udfs.tabular.read import as_parquet, kind_of, read_file, table_name
from coldstart_udfs.tabular.workbooks import sheets_of

__all__ = ["FileError", "as_parquet", "kind_of", "read_file", "sheets_of", "table_name"]
