"""The Feast store of a repository: its parquet files, and the rows of an entity in its online store."""

from __future__ import annotations

import glob
import sqlite3
import time
import warnings
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import yaml

from coldstart_udfs.encoder.cache.upkeep import erase
from coldstart_udfs.errors import ColdStartError
from coldstart_udfs.quoting import quote_name

# For how many seconds a registry may be found empty: Feast empties the file before it writes it.
_BEING_WRITTEN = 2.0


def open_store(repo: str | Path) -> Any:
    """The Feast store of a repository that `feast apply` has seen.

    Raises:
        ColdStartError: there is no repository, it was never applied, or its registry was damaged while it was written.
    """
    repo = Path(repo)
    config = repo / "feature_store.yaml"
    if not config.is_file():
        raise ColdStartError(f"{repo} is no Feast repository (no feature_store.yaml); `coldstart init` makes one")
    _check_registry(repo, yaml.safe_load(config.read_text(encoding="utf-8")).get("registry"))
    from feast import FeatureStore

    # ibis calls a method that DuckDB 1.5 deprecates; users cannot change that.
    warnings.filterwarnings("ignore", "fetch_arrow_table", DeprecationWarning)
    return FeatureStore(repo_path=str(repo))


def _check_registry(repo: Path, registry: Any) -> None:
    """Check the file of a registry, if it is one: Feast takes an empty file for a registry without views."""
    if isinstance(registry, dict) and registry.get("registry_type", "file") == "file":
        registry = registry.get("path")
    if not isinstance(registry, str) or "://" in registry:
        return
    path = repo / registry
    if not path.is_file():
        raise ColdStartError(f"{repo} has no registry yet; run `feast -c {repo} apply`")
    until = time.monotonic() + _BEING_WRITTEN
    while not _is_registry(path.read_bytes()):
        if time.monotonic() > until:
            raise ColdStartError(
                f"{path} is {'damaged' if path.stat().st_size else 'empty'}: a `feast` command was killed, or the disk "
                f"was full, while it was written. Delete it, then run `feast -c {repo} apply` and `feast -c {repo} "
                "materialize`"
            )
        time.sleep(0.05)


def _is_registry(content: bytes) -> bool:
    from feast.protos.feast.core.Registry_pb2 import Registry
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    try:
        Registry.FromString(content)
    except DecodeError:
        return False
    return bool(content)


def join_key(store: Any, entity: str) -> str:
    """The column with an entity's ids, such as user_id.

    Raises:
        ColdStartError: the repository does not have this entity, or its ids are not strings.
    """
    entities = {one.name: one for one in store.list_entities()}
    if entity not in entities:
        raise ColdStartError(f"{store.repo_path} has no entity {entity!r}; it has {sorted(entities)}")
    kind = entities[entity].value_type.name
    if kind != "STRING":
        raise ColdStartError(f"the entity {entity!r} has ids of type {kind}; ids are strings in the data contract")
    return str(entities[entity].join_key)


def local_places(source: Any, config: Any) -> list[Path]:
    """The paths of a parquet data source on this machine: a file, a folder, or the matches of a pattern.

    Raises:
        ColdStartError: the source is not parquet, or not on this machine.
    """
    from coldstart_udfs.feast.offline.parquet_source import is_parquet, location

    if is_parquet(source) and "://" not in (place := location(config, source.path)):
        return [Path(place), *(Path(path) for path in glob.glob(place, recursive=True))]
    where = getattr(source, "path", None) or source.name
    raise ColdStartError(
        f"{where} is a {type(source).__name__} that is no parquet on this machine, and cannot be rewritten here; "
        "nothing was removed. Delete the rows there with its own tools and take it out of the registry"
    )


def parquet_files(places: Iterable[Path]) -> list[Path]:
    """The parquet files at some paths, each once. Folders are searched; files left by killed writes are skipped."""
    found: list[Path] = []
    for place in map(Path.resolve, places):
        inside = sorted(place.rglob("*.parquet")) if place.is_dir() else [place] if place.is_file() else []
        found += [path for path in inside if not any(part.startswith(".unfinished-") for part in path.parts)]
    return list(dict.fromkeys(found))


class StoreFile:
    """The file of an online store in SQLite, which may be removed or replaced while it is open; others have none.

    Args:
        store: the FeatureStore.
    """

    def __init__(self, store: Any) -> None:
        self._path: Path | None = None
        if type(store.config.online_store).__name__ == "SqliteOnlineStoreConfig":
            from feast.infra.online_stores.sqlite import SqliteOnlineStore

            self._path = Path(SqliteOnlineStore._get_db_path(store.config))
        self._inode = self._found()

    def missing(self) -> bool:
        """Whether there is none now, though there should be one."""
        return self._path is not None and self._found() is None

    def replaced(self) -> bool:
        """Whether it is another one than at first, or none."""
        return self._found() != self._inode

    def _found(self) -> int | None:
        try:
            return self._path.stat().st_ino if self._path else None
        except FileNotFoundError:
            return None


class OnlineRow(NamedTuple):
    """A row of an entity in the online store; `place` is the table in SQLite, empty for Redis."""

    place: str
    key: bytes


class OnlineRows(Protocol):
    """Finds, reads and erases the rows of an entity in an online store."""

    name: str

    def find(self, key: str, entity_id: str) -> list[OnlineRow]:
        """The rows whose entity key has `entity_id` in the column `key`; the key may have other columns."""

    def values(self, rows: list[OnlineRow]) -> list[bytes]:
        """The stored feature values, serialised by Feast."""

    def erase(self, rows: list[OnlineRow]) -> None:
        """Delete the rows so that their bytes are not in the store's files any more."""


def online_rows(store: Any) -> OnlineRows | None:
    """Access to the rows of a repository's online store; None if it has none.

    Raises:
        ColdStartError: the online store is neither SQLite nor Redis.
    """
    config = store.config.online_store
    kind = type(config).__name__
    if config is None:
        return None
    if kind == "SqliteOnlineStoreConfig":
        from feast.infra.online_stores.sqlite import SqliteOnlineStore

        return _Sqlite(Path(SqliteOnlineStore._get_db_path(store.config)), store)
    if kind == "RedisOnlineStoreConfig":
        return _Redis(store)
    raise ColdStartError(
        f"the online store of {store.repo_path} is {config.type}; `coldstart forget` erases from sqlite and redis "
        "alone, and nothing was removed. Delete the entity's rows with that store's own tools, then run this with "
        "`online_store: null` in feature_store.yaml for the rest"
    )


class _Sqlite:
    def __init__(self, path: Path, store: Any) -> None:
        self.name = f"online store, {path}"
        self._path, self._store = path, store

    def find(self, key: str, entity_id: str) -> list[OnlineRow]:
        if not self._path.exists():
            return []
        with closing(sqlite3.connect(self._path, timeout=60)) as connection:
            # Every table with entity keys, also of versioned views and of views removed from the registry.
            query = """
                SELECT name FROM sqlite_master WHERE type = 'table'
                AND (SELECT count(*) FROM pragma_table_info(sqlite_master.name) WHERE name = 'entity_key') > 0
            """
            rows = []
            for (table,) in connection.execute(query).fetchall():
                # Ids are strings, whose bytes are part of the key.
                some = f"SELECT DISTINCT entity_key FROM {quote_name(table)} WHERE instr(entity_key, ?) > 0"
                found = [found for (found,) in connection.execute(some, [entity_id.encode()])]
                rows += [OnlineRow(table, entity_key) for entity_key in found if _is_of(entity_key, key, entity_id)]
        return rows

    def values(self, rows: list[OnlineRow]) -> list[bytes]:
        if not rows:
            return []
        with closing(sqlite3.connect(self._path, timeout=60)) as connection:
            return [
                value
                for table, entity_key in rows
                for (value,) in connection.execute(
                    f"SELECT value FROM {quote_name(table)} WHERE entity_key = ?", [entity_key]
                )
            ]

    def erase(self, rows: list[OnlineRow]) -> None:
        if self._path.exists():
            with closing(sqlite3.connect(self._path, timeout=60)) as connection:
                deletes = [(f"DELETE FROM {quote_name(table)} WHERE entity_key = ?", (key,)) for table, key in rows]
                erase(connection, self._path, deletes)


class _Redis:
    def __init__(self, store: Any) -> None:
        self.name = "online store, redis"
        self._store, self._project = store, store.project.encode()
        # Feast's client, so that clusters, sentinels and passwords are used as configured.
        self._client = store.provider.online_store._get_client(store.config.online_store)

    def find(self, key: str, entity_id: str) -> list[OnlineRow]:
        from feast.infra.key_encoding_utils import serialize_entity_key, serialize_entity_key_prefix
        from feast.protos.feast.types.EntityKey_pb2 import EntityKey
        from feast.protos.feast.types.Value_pb2 import Value

        alone = EntityKey(join_keys=[key], entity_values=[Value(string_val=entity_id)])
        keys = [serialize_entity_key(alone, entity_key_serialization_version=3) + self._project]
        found = [name for name in keys if self._client.exists(name)]
        views = [*self._store.list_feature_views(), *self._store.list_stream_feature_views()]
        for others in {tuple(sorted(view.join_keys)) for view in views if key in view.join_keys} - {(key,)}:
            prefix = serialize_entity_key_prefix(list(others), entity_key_serialization_version=3)
            for name in self._client.scan_iter(_escaped(prefix) + b"*" + _escaped(self._project), count=1000):
                if _is_of(name.removesuffix(self._project), key, entity_id):
                    found.append(name)
        return [OnlineRow("", name) for name in found]

    def values(self, rows: list[OnlineRow]) -> list[bytes]:
        hashes = [self._client.hgetall(row.key) for row in rows]
        return [value for fields in hashes for field, value in fields.items() if not field.startswith(b"_ts:")]

    def erase(self, rows: list[OnlineRow]) -> None:
        for row in rows:
            self._client.delete(row.key)


def _is_of(entity_key: bytes, key: str, entity_id: str) -> bool:
    from feast.infra.key_encoding_utils import deserialize_entity_key

    try:
        found = deserialize_entity_key(entity_key, entity_key_serialization_version=3)
    except ValueError:
        return False  # not a key of Feast
    return any(
        name == key and value.string_val == entity_id
        for name, value in zip(found.join_keys, found.entity_values, strict=False)
    )


def _escaped(pattern: bytes) -> bytes:
    """Bytes with the special characters of Redis patterns escaped."""
    return b"".join(b"\\" + bytes([byte]) if byte in b"*?[]\\^-" else bytes([byte]) for byte in pattern)
