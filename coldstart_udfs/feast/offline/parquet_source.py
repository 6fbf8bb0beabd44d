"""A Feast FileSource for DuckDB: its files, its columns, and columns that are embedded on reading."""

from __future__ import annotations

import difflib
import glob
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote, urlparse

import duckdb

from coldstart_udfs.errors import ColdStartError
from coldstart_udfs.feast.offline.session import first_line, open_connection, repo_folder
from coldstart_udfs.quoting import quote_name, quote_text

if TYPE_CHECKING:
    from feast import RepoConfig
    from feast.data_source import DataSource
    from feast.infra.offline_stores.file_source import FileSource

EMBED_TAG = "coldstart.embed"

_WRITE = "write it first; `coldstart profiles` writes those of a coldstart repository"


class Embedding(NamedTuple):
    """A pair `text->vector` of a source's tag."""

    text: str
    vector: str

    @property
    def fingerprint(self) -> str:
        """The column with the encoder's fingerprint."""
        return f"{self.vector}_fingerprint"


class Column(NamedTuple):
    """A column as SQL: what is read from the files, and what is computed from it for rows of the result.

    `made` has a placeholder for `stored`, so that `embed()` runs only on rows of the result.
    """

    stored: str
    made: str = "{}"

    @property
    def calls(self) -> bool:
        """Whether the connection needs our functions and the encoder's fingerprint."""
        return self.made != "{}"

    @property
    def sql(self) -> str:
        """`made` with `stored` in it."""
        return self.made.format(self.stored)


@dataclass(frozen=True)
class ParquetSource:
    """The parquet files of a FileSource.

    Attributes:
        name: name of the source, for messages.
        path: path as in the repository, for messages.
        files: paths or URLs, in the order in which DuckDB numbers them.
        columns: columns by their name in the files, virtual ones included.
        mapping: Feast's `field_mapping`: column in the files → feature.
        setup: SQL to run on the connection before reading.
    """

    name: str
    path: str
    files: tuple[str, ...]
    columns: Mapping[str, Column]
    mapping: Mapping[str, str]
    setup: tuple[str, ...] = field(default=())

    @property
    def _several(self) -> bool:
        # A folder in a bucket is one pattern that DuckDB resolves.
        return len(self.files) > 1 or "*" in self.files[0]

    @property
    def scan(self) -> str:
        """The expression for FROM."""
        several = ", union_by_name = true" if self._several else ""
        return f"read_parquet([{', '.join(map(quote_text, self.files))}]{several})"

    @property
    def row_id(self) -> str:
        """A BIGINT that identifies a row, equal in all scans of the same files and increasing in their order."""
        return "(file_index::BIGINT * 1099511627776 + file_row_number)" if self._several else "file_row_number"

    @property
    def named(self) -> dict[str, Column]:
        """The columns by the names of features."""
        return {self.mapping.get(name, name): column for name, column in self.columns.items()}

    def column(self, name: str, columns: Mapping[str, Column], wanted_by: str) -> Column:
        """One of `columns`; raises an error that lists them if it does not exist."""
        if name in columns:
            return columns[name]
        close = difflib.get_close_matches(name, columns, n=1)
        hint = f" Did you mean {close[0]}?" if close else ""
        raise ColdStartError(
            f"{self.label} has no column {name!r}, {wanted_by}; it has {', '.join(sorted(columns))}.{hint}"
        )

    @property
    def label(self) -> str:
        """Name and path, for messages."""
        return _label(self.name, self.path)

    def snapshot(self) -> tuple[tuple[int, int, int], ...]:
        """The state of local files; another value later means that they were written to."""
        found = (os.stat(name) for name in self.files if "://" not in name)
        return tuple((stat.st_ino, stat.st_mtime_ns, stat.st_size) for stat in found)


def is_parquet(source: DataSource | None) -> bool:
    """Whether this is a FileSource of parquet files, not of Delta, Iceberg, Lance or MLflow."""
    from feast.data_format import ParquetFormat
    from feast.infra.offline_stores.file_source import FileSource

    if not isinstance(source, FileSource):
        return False
    return source.file_format is None or isinstance(source.file_format, ParquetFormat)


def embeddings(source: DataSource) -> tuple[Embedding, ...]:
    """The columns to embed according to a source's tag `coldstart.embed`.

    Raises:
        ColdStartError: the tag is not of the form `text->vector, text->vector`.
    """
    tag = (source.tags or {}).get(EMBED_TAG)
    if tag is None:
        return ()
    found = []
    for part in tag.split(","):
        text, arrow, vector = (side.strip() for side in part.partition("->"))
        if not (text and arrow and vector):
            raise ColdStartError(
                f'source {source.name}: the tag {EMBED_TAG} is {tag!r}; it must be "text->vector", as in '
                '"description->embedding", several separated by commas'
            )
        found.append(Embedding(text, vector))
    return tuple(found)


def location(config: RepoConfig, path: str) -> str:
    """A path of a FileSource for DuckDB; it may be absolute, relative to the repository, `file://…` or a URL."""
    url = urlparse(path)
    if url.scheme == "file":
        return unquote(url.path)
    return path if url.scheme and url.netloc else str(repo_folder(config) / path)


def parquet_files(config: RepoConfig, source: FileSource) -> tuple[str, ...]:
    """The files of a source. A folder has all *.parquet in it, except hidden ones and those with an underscore first.

    Raises:
        ColdStartError: there are no files.
    """
    where = location(config, source.path)
    if "://" in where:
        return (where if where.endswith(".parquet") or "*" in where else where.rstrip("/") + "/*.parquet",)
    if os.path.isfile(where):
        return (where,)
    if os.path.isdir(where):
        found = sorted(files_of_folder(where))
        if found:
            return tuple(found)
        raise ColdStartError(f"{_label(source.name, source.path)}: the folder {where} holds no *.parquet; {_WRITE}")
    found = sorted(glob.glob(where))
    if found:
        return tuple(found)
    raise ColdStartError(f"{_label(source.name, source.path)}: there is no file or folder {where}; {_WRITE}")


def files_of_folder(folder: str | os.PathLike[str]) -> Iterator[str]:
    """The parquet files below a folder, except hidden and private ones."""
    # Not with glob, which fails if another process removes its unfinished folder meanwhile.
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if _counts(name)]
        yield from (os.path.join(place, name) for name in files if name.endswith(".parquet") and _counts(name))


def _counts(name: str) -> bool:
    """Whether a name is neither hidden nor private, as in Arrow; `__log_date=2024-01-01` is a partition."""
    return not name.startswith((".", "_")) or "=" in name


def open_source(config: RepoConfig, source: FileSource) -> ParquetSource:
    """Read a source's tags and the columns of its files.

    Raises:
        ColdStartError: a file does not exist or is not parquet, or the tag does not match its columns.
    """
    asked = embeddings(source)
    files = parquet_files(config, source)
    bare = ParquetSource(
        name=source.name, path=source.path, files=files, columns={}, mapping=dict(source.field_mapping or {}),
        setup=_secret(config, source),
    )  # fmt: skip
    with open_connection(config) as con:
        try:
            for statement in bare.setup:
                con.execute(statement)
            rows = con.execute(f"DESCRIBE SELECT * FROM {bare.scan}").fetchall()
        except duckdb.Error as error:
            raise ColdStartError(f"{bare.label} cannot be read as parquet: {first_line(error)}") from None
    # DuckDB 2.0 has a type for instants in nanoseconds, which cannot be compared with those in microseconds.
    casts = {"TIMESTAMPTZ_NS": "::TIMESTAMPTZ"}
    columns = {name: Column(quote_name(name) + casts.get(kind, "")) for name, kind, *_ in rows}
    for one in asked:
        check_embedding(source, one, columns)
        columns[one.vector] = Column(quote_name(one.text), "embed({})")
        # For every row, with or without text; NULL where there is no row.
        columns[one.fingerprint] = Column("true", "CASE WHEN {} THEN getvariable('encoder_fingerprint') END")
    return ParquetSource(
        name=bare.name, path=bare.path, files=files, columns=columns, mapping=bare.mapping, setup=bare.setup,
    )  # fmt: skip


def check_embedding(source: DataSource, asked: Embedding, columns: Iterable[str]) -> None:
    """Check that the text column of a tag exists and that the columns it makes do not.

    Raises:
        ColdStartError: otherwise.
    """
    names = list(columns)
    about = f"source {source.name}: the tag {EMBED_TAG} \"{asked.text}->{asked.vector}\""
    if asked.text not in names:
        raise ColdStartError(f"{about} names a column {asked.text!r}; the files have {', '.join(sorted(names))}")
    taken = [name for name in (asked.vector, asked.fingerprint) if name in names]
    if taken:
        raise ColdStartError(
            f"{about} makes a column {taken[0]!r}, which is there already; name another, or take the tag out"
        )


def _secret(config: RepoConfig, source: FileSource) -> tuple[str, ...]:
    """SQL that sets the endpoint and keys of an S3 source in DuckDB, as Feast configures them for other readers."""
    if not source.path.startswith("s3://"):
        return ()
    keys = source.resolve_credentials() or {}
    endpoint = source.s3_endpoint_override
    if not (keys or endpoint):
        return ()
    settings = getattr(config.offline_store, "settings", {})
    places = {"KEY_ID": "AWS_ACCESS_KEY_ID", "SECRET": "AWS_SECRET_ACCESS_KEY", "SESSION_TOKEN": "AWS_SESSION_TOKEN",
              "REGION": "AWS_DEFAULT_REGION"}  # fmt: skip
    names = {"KEY_ID": "s3_access_key_id", "SECRET": "s3_secret_access_key", "SESSION_TOKEN": "s3_session_token",
             "REGION": "s3_region"}  # fmt: skip
    given = {part: keys.get(key) or settings.get(names[part]) or os.environ.get(key) for part, key in places.items()}
    parts = [f"{name} {quote_text(str(value))}" for name, value in given.items() if value]
    if endpoint:
        scheme, _, host = endpoint.rpartition("://")
        parts += [f"ENDPOINT {quote_text(host)}", "URL_STYLE 'path'", f"USE_SSL {str(scheme != 'http').lower()}"]
    scope = source.path.split("*")[0]
    described = ", ".join(["TYPE s3", f"SCOPE {quote_text(scope)}", *parts])
    return (f"CREATE OR REPLACE SECRET {quote_name(source.name)} ({described})",)


def _label(name: str, path: str) -> str:
    return f"source {name}" if name == path else f"source {name} ({path})"
