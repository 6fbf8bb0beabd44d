"""Rows of Parquet files: those of an entity, and files without them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from filelock import FileLock

from coldstart_udfs.errors import ColdStartError
from coldstart_udfs.files import staged


def id_column(path: Path, key: str) -> str:
    """The column of a file that holds the ids of an entity. Facts are about items, which they call subjects."""
    return "subject" if key == "item_id" and path.stem == "facts" else key


def row_groups(path: Path, *columns: str) -> Iterator[pa.Table]:
    """A file's row groups, with these columns or all columns; nothing if a column is missing."""
    try:
        with pq.ParquetFile(path) as file:
            if set(columns) <= set(file.schema_arrow.names):
                for group in range(file.num_row_groups):
                    yield file.read_row_group(group, columns=list(columns) or None)
    except (pa.ArrowInvalid, OSError) as error:
        raise ColdStartError(f"{path} cannot be read as parquet ({error}); repair it or move it away first") from None


def rows_of(table: pa.Table, key: str, entity_id: str) -> Any:
    """A mask of the rows of an id."""
    return pc.fill_null(pc.equal(table[key].cast(pa.string()), entity_id), fill_value=False)


def without(column: str, entity_id: str) -> Callable[[pa.Table], Any]:
    """For `rewrite`: the rows of other ids."""
    return lambda table: pc.invert(rows_of(table, column, entity_id))


def is_text(kind: pa.DataType) -> bool:
    """Whether a column of this type holds texts."""
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def rewrite(path: Path, keep: Callable[[pa.Table], Any]) -> None:
    """Rewrite a file without some rows. A pushed file that is empty then is deleted, unless it is the only file."""
    lock = path.with_name(f".{path.name}.lock")  # the lock of the offline store, if it has added rows to this file
    alone = FileLock(lock) if lock.exists() else nullcontext()
    with alone, pq.ParquetFile(path) as file, staged(path.parent) as scratch:
        columns = [file.metadata.row_group(0).column(n) for n in range(file.metadata.num_columns)]
        about = file.metadata.metadata or {}
        options: dict[str, Any] = {
            "compression": {c.path_in_schema: c.compression.lower().replace("uncompressed", "none") for c in columns},
            "use_dictionary": [c.path_in_schema for c in columns if any("DICTIONARY" in name for name in c.encodings)],
            "store_schema": b"ARROW:schema" in about,
        }
        rows = 0
        with pq.ParquetWriter(scratch / path.name, file.schema_arrow, **options) as writer:
            for group in range(file.num_row_groups):
                table = file.read_row_group(group)
                table = table.filter(keep(table))
                rows += len(table)
                if len(table):
                    writer.write_table(table, row_group_size=len(table))
            if not options["store_schema"]:  # without it the writer writes no other metadata either
                writer.add_key_value_metadata(about)
    if not rows and path.name.startswith("pushed-") and len(list(path.parent.glob("*.parquet"))) > 1:
        path.unlink()
