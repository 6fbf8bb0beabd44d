"""A Feast FileSource as something that DuckDB reads: files, columns, and columns that are embedded on reading."""

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
    """One `text->vector` of a source's tag."""

    text: str
    vector: str

    @property
    def fingerprint(self) -> str:
        """The column that names the encoder."""
        return f"{self.vector}_fingerprint"


class Column(NamedTuple):
    """A column as SQL: what is read of a row of the files, and what is made of it once the row is wanted.

    `made` has one place for it, so that `embed()` runs on the rows of the answer alone.
    """

    stored: str
    made: str = "{}"

    @property
    def calls(self) -> bool:
        """Whether the connection must have our functions and the encoder's fingerprint."""
        return self.made != "{}"

    @property
    def sql(self) -> str:
        """Both at once."""
        return self.made.format(self.stored)


@dataclass(frozen=True)
class ParquetSource:
    """The parquet files of a FileSource.

    Attributes:
        name: the source's, for messages.
        path: as the repository gives it, for messages.
        files: paths or URLs, in the order in which DuckDB numbers them.
        columns: by the name in the files; virtual ones are included.
        mapping: Feast's `field_mapping`, file name → feature name.
        setup: SQL that must run on the connection before.
    """

    name: str
    path: str
    files: tuple[str, ...]
    columns: Mapping[str, Column]
    mapping: Mapping[str, str]
    setup: tuple[str, ...] = field(default=())

    @property
    def _several(self) -> bool:
        # A folder in a bucket is one pattern, which DuckDB resolves.
        return len(self.files) > 1 or "*" in self.files[0]

    @property
    def scan(self) -> str:
        """What stands after FROM."""
        several = ", union_by_name = true" if self._several else ""
        return f"read_parquet([{', '.join(map(quote_text, self.files))}]{several})"

    @property
    def row_id(self) -> str:
        """A BIGINT that names a row, the same in every scan of the same files; it grows with their order."""
        return "(file_index::BIGINT * 1099511627776 + file_row_number)" if self._several else "file_row_number"

    @property
    def named(self) -> dict[str, Column]:
        """The columns under the names that features have."""
        return {self.mapping.get(name, name): column for name, column in self.columns.items()}

    def column(self, name: str, columns: Mapping[str, Column], wanted_by: str) -> Column:
        """One of `columns`, or an error that says which there are."""
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
        """What local files are now; another value later means that somebody wrote."""
        found = (os.stat(name) for name in self.files if "://" not in name)
        return tuple((stat.st_ino, stat.st_mtime_ns, stat.st_size) for stat in found)


def is_parquet(source: DataSource | None) -> bool:
    """Whether this is a FileSource with parquet in it, as opposed to Delta, Iceberg, Lance or MLflow."""
    from feast.data_format import ParquetFormat
    from feast.infra.offline_stores.file_source import FileSource

    if not isinstance(source, FileSource):
        return False
    return source.file_format is None or isinstance(source.file_format, ParquetFormat)


def embeddings(source: DataSource) -> tuple[Embedding, ...]:
    """What a source's tag `coldstart.embed` asks for.

    Raises:
        ColdStartError: it is not of the form `text->vector, text->vector`.
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
    """A path of a FileSource, as DuckDB takes it: absolute, relative to the repository, `file://…` or a URL."""
    url = urlparse(path)
    if url.scheme == "file":
        return unquote(url.path)
    return path if url.scheme and url.netloc else str(repo_folder(config) / path)


def parquet_files(config: RepoConfig, source: FileSource) -> tuple[str, ...]:
    """The files of a source; of a folder every *.parquet in it, but what is hidden or begins with an underscore.

    Raises:
        ColdStartError: there is none.
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
    """The parquet files below a folder that count."""
    # Not by glob, which fails where another process takes its unfinished folder away meanwhile.
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if _counts(name)]
        yield from (os.path.join(place, name) for name in files if name.endswith(".parquet") and _counts(name))


def _counts(name: str) -> bool:
    """As Arrow has it: neither hidden nor private; but `__log_date=2024-01-01` is a partition."""
    return not name.startswith((".", "_")) or "=" in name


def open_source(config: RepoConfig, source: FileSource) -> ParquetSource:
    """Look at a source's files and tags.

    Raises:
        ColdStartError: no such file, not parquet, or a tag that does not fit.
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
    columns = {name: Column(quote_name(name)) for name, *_ in rows}
    for one in asked:
        check_embedding(source, one, columns)
        columns[one.vector] = Column(quote_name(one.text), "embed({})")
        # Of the row, whether or not it has text; but NULL where there is no row.
        columns[one.fingerprint] = Column("true", "CASE WHEN {} THEN getvariable('encoder_fingerprint') END")
    return ParquetSource(
        name=bare.name, path=bare.path, files=files, columns=columns, mapping=bare.mapping, setup=bare.setup,
    )  # fmt: skip


def check_embedding(source: DataSource, asked: Embedding, columns: Iterable[str]) -> None:
    """That a text column is there and its vector's names are free.

    Raises:
        ColdStartError: the tag names an absent column, or one that exists already.
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
    """SQL that gives DuckDB the endpoint and keys of one S3 source, as Feast gives them to other readers."""
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
