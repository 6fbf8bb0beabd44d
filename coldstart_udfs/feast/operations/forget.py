"""Erasing a user or an item from all files and stores of a repository."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from coldstart_udfs.encoder.cache import upkeep as cache_upkeep
from coldstart_udfs.encoder.cache.store import default_path, key_of
from coldstart_udfs.encoder.encoder import shared_encoder, shared_encoders
from coldstart_udfs.encoder.manifests import installed
from coldstart_udfs.errors import ColdStartError
from coldstart_udfs.feast.operations.parquet_rows import id_column, is_text, rewrite, row_groups, rows_of, without
from coldstart_udfs.feast.operations.put import PUT
from coldstart_udfs.feast.operations.quotes import quoting
from coldstart_udfs.feast.operations.registry import never_materialized, stored_views, wait_for_materialize
from coldstart_udfs.feast.operations.stores import (
    OnlineRow,
    join_key,
    local_places,
    online_rows,
    open_store,
    parquet_files,
)
from coldstart_udfs.locks import whole, writing
from coldstart_udfs.made_from import data_hash, erased
from coldstart_udfs.profile import has_text
from coldstart_udfs.settings import Enrichment
from coldstart_udfs.text.cleaning import clean_text
from coldstart_udfs.text.redaction import redact

_LEFTOVERS = (".unfinished-*", "*.unfinished")
_ROUNDS = 3


@dataclass(frozen=True)
class Removed:
    """The number of things (`what`: rows, values, vectors) removed from one place."""

    place: str
    what: str
    count: int


@dataclass(frozen=True)
class Forgotten:
    """The result of `forget`.

    Attributes:
        entity: "user" or "item".
        entity_id: id of the entity.
        removed: counts by place, without places that had nothing.
        notes: what remains to be done by hand.
    """

    entity: str
    entity_id: str
    removed: list[Removed]
    notes: list[str]

    @property
    def total(self) -> int:
        """The sum of all counts."""
        return sum(row.count for row in self.removed)


def forget(
    store: Any, entity: str, entity_id: str, *, data: str | Path | None = "data", cache: str | Path | None = None,
    recommenders: Callable[[str, str], Sequence[Path]] | None = None, dry_run: bool = False, patience: float = 60.0,
) -> Forgotten:
    """Erase an entity's texts, vectors and profile from all files and stores of a repository on this machine.

    The vector cache is cleaned first, because vectors can only be found by their texts; then the tables and sources;
    then the online store, where a materialisation that runs meanwhile is waited for, because it may have read the
    sources before. All places are searched again until nothing is found. After an interruption the same call continues;
    a second run finds nothing.

    Args:
        store: a FeatureStore, or the folder of its repository.
        entity: "user" or "item".
        entity_id: its id.
        data: the folder with the tables of the data contract; None if there are none.
        cache: the file of the vector cache; None is the machine's.
        recommenders: gives the folders of trained recommenders that hold an entity; called with `entity` and
            `entity_id`. A note names each: it has to be trained again. None if there are none.
        dry_run: only count.
        patience: for how many seconds to wait for a materialisation.

    Returns:
        What was removed, and what remains to be done by hand.

    Raises:
        ColdStartError: the id is blank, `data` has no table, or data are in a place that this function cannot erase
            from: nothing was removed. Or a file is in use: the same call continues from there.
        InUseError: another process changes the repository or the tables: nothing was removed.
    """
    if not has_text(entity_id):
        raise ColdStartError(f"{entity_id!r} is no {entity}_id: ids are not blank")
    store = open_store(store) if isinstance(store, (str, Path)) else store
    repo, tables = Path(store.repo_path).resolve(), _tables(data)
    cache = default_path() if cache is None else Path(cache)
    key = join_key(store, entity)
    folders = list(dict.fromkeys(path.parent for path in tables))
    places = [whole(repo / "data"), *map(whole, folders)]
    with ExitStack() as stack:
        if not dry_run:
            stack.enter_context(writing(*places, command="coldstart forget"))
            stack.enter_context(writing(repo / "data" / PUT, command="coldstart forget", wait=60))
        hashes = {folder: data_hash(folder) for folder in folders}
        erasure = _Erasure(store, repo, tables, cache, key, entity_id, dry_run, patience)
        trained = recommenders(entity, entity_id) if recommenders else []
        try:
            nothing_left = erasure.run()
        finally:
            for folder in folders if not dry_run else ():
                erased(repo, folder, before=hashes[folder])
    notes = []
    if not nothing_left:
        notes.append("rows came back while they were erased: stop what writes them, then run the same forget again")
    if erasure.busy:
        notes.append(
            f"{', '.join(erasure.busy)}: being materialised, or a `feast materialize` was killed. It may have read the "
            f"{entity} before: when none is running any more, run `feast materialize`, then the same forget again"
        )
    first = never_materialized(store, key)
    if first and not dry_run:
        notes.append(
            f"{', '.join(first)}: never materialised. If a first `feast materialize` is running now, which no "
            "registry shows, run the same forget again when it has ended"
        )
    quotes, searched = quoting(repo, folders, entity_id, erasure.texts)
    notes += _notes(entity, [repo, *folders], trained, quotes, searched, redis=erasure.redis)
    return Forgotten(entity, entity_id, [row for row in erasure.removed() if row.count], notes)


class _Erasure:
    """The search for an entity in all places, and its removal, until nothing is found."""

    def __init__(
        self, store: Any, repo: Path, tables: list[Path], cache: Path, key: str, entity_id: str, dry_run: bool,
        patience: float,
    ) -> None:  # fmt: skip
        self._store, self._repo, self._tables, self._cache = store, repo, tables, cache
        self._key, self._entity_id, self._dry_run, self._patience = key, entity_id, dry_run, patience
        self._online = online_rows(store)
        self._counts: dict[tuple[str, str], int] = {}
        self.texts: list[str] = []
        self.busy: list[str] = []
        self.redis = self._online is not None and "redis" in self._online.name

    def removed(self) -> list[Removed]:
        return [Removed(place, what, count) for (place, what), count in self._counts.items()]

    def run(self) -> bool:
        """Whether nothing is left; a dry run looks once."""
        self._round(first=True)
        return self._dry_run or any(self._round() for _ in range(_ROUNDS))

    def _round(self, *, first: bool = False) -> bool:
        """Erase what is found; whether that was nothing."""
        key, entity_id = self._key, self._entity_id
        files = _holders(_files(self._store, self._repo, self._tables), key, entity_id)
        rows, values = self._online_rows()
        texts = [*_texts_of_files(files, key, entity_id)]
        if values:
            texts += _texts_of_values(values, _fingerprints(files, self._repo))
        self.texts += texts
        reports = _reports(self._repo, texts)
        if first or texts:
            vectors = cache_upkeep.forget(self._cache, _keys(self._repo, texts), dry_run=self._dry_run)
            self._count(f"vector cache, {self._cache}", "vectors", vectors)
        if self._online:
            self._count(self._online.name, "values", len(values))
        for path, count in reports.items():
            self._count(str(path), "rows of statistics that quote a text", count)
            if not self._dry_run:
                rewrite(path, lambda table: pc.invert(_quoting(table, texts)))
        for path, count in files.items():
            self._count(str(path), "rows", count)
            if not self._dry_run:
                rewrite(path, without(id_column(path, key), entity_id))
        if self._online and not self._dry_run and (first or rows):
            self._online.erase(rows)
        if first and not self._dry_run:
            # What was read before the sources were rewritten may be written until then; the next round erases it.
            self.busy = wait_for_materialize(self._store, self._patience)
        return not (files or rows)

    def _online_rows(self) -> tuple[list[OnlineRow], list[bytes]]:
        rows = self._online.find(self._key, self._entity_id) if self._online else []
        return rows, self._online.values(rows) if self._online else []

    def _count(self, place: str, what: str, count: int) -> None:
        self._counts[place, what] = self._counts.get((place, what), 0) + count


def _tables(folder: str | Path | None) -> list[Path]:
    """The tables, interactions first, so that they keep the data contract if the run is interrupted in between."""
    if folder is None:
        return []
    data = Path(folder).resolve()
    if csv := [path.name for path in data.glob("*.csv")]:
        raise ColdStartError(
            f"{data} holds {', '.join(csv)}, and only parquet can be rewritten here; nothing was removed. Give --data "
            "the folder that `coldstart ingest` wrote"
        )
    tables = [path for path in parquet_files([data]) if path.parent == data]
    if not {path.stem for path in tables} & {"items", "users", "interactions"}:
        raise ColdStartError(
            f"{data} holds none of items, users and interactions, so their rows would stay; nothing was removed. "
            "Give --data the folder that `coldstart ingest` wrote, or --no-tables where there is none"
        )
    return sorted(tables, key=lambda path: path.stem in ("users", "items"))


def _fingerprints(files: Iterable[Path], repo: Path) -> set[str]:
    """The fingerprints of encoders: strings in rows of entities that are not texts."""
    settings = Enrichment.of_repo(repo)
    found = {shared_encoder(settings.model, backend=settings.backend).fingerprint}
    for encoder in shared_encoders():
        with suppress(ColdStartError):  # its folder is gone or was never there
            found.add(encoder.fingerprint)
    for path in files:
        names = [name for name in pq.read_schema(path).names if name.endswith("_fingerprint")]
        for table in row_groups(path, *names) if names else ():
            found.update(value for name in names for value in table[name].unique().to_pylist() if value)
    return found


def _files(store: Any, repo: Path, tables: list[Path]) -> list[Path]:
    """The parquet files that may hold rows of an entity, sources last.

    These are the files that the registry names, other files in the repository's data folder, and the tables.

    Raises:
        ColdStartError: a file that the registry names, or a table, cannot be rewritten here.
    """
    sources = [view.batch_source for view in stored_views(store) if view.batch_source is not None]
    others = [saved.storage.to_data_source() for saved in store.list_saved_datasets()]
    others += [service.logging_config.destination.to_data_source() for service in store.list_feature_services()
               if service.logging_config]  # fmt: skip
    in_sources = parquet_files(place for source in sources for place in local_places(source, store.config))
    places = [place for source in others for place in local_places(source, store.config)]
    in_others = parquet_files([repo / "data", *places])
    return list(dict.fromkeys([*(path for path in in_others if path not in in_sources), *tables, *in_sources]))


def _holders(files: Sequence[Path], key: str, entity_id: str) -> dict[Path, int]:
    """The number of rows of the entity in each file that has any."""
    counts = {}
    for path in files:
        column = id_column(path, key)
        counts[path] = sum(_count(rows_of(table, column, entity_id)) for table in row_groups(path, column))
    return {path: count for path, count in counts.items() if count}


def _count(mask: Any) -> int:
    return int(pc.sum(mask).as_py() or 0)


def _quoting(table: pa.Table, texts: Sequence[str]) -> Any:
    """A mask of the rows of `feast monitor` that quote a text: they hold frequent values as JSON."""
    mask = pa.chunked_array([pa.array(np.zeros(len(table), dtype=bool))])
    quoted = {json.dumps(text, ensure_ascii=ascii_only) for text in texts for ascii_only in (True, False)}
    for name in (field.name for field in table.schema if is_text(field.type)):
        for text in quoted:
            mask = pc.or_(mask, pc.fill_null(pc.match_substring(table[name].cast(pa.string()), text), fill_value=False))
    return mask


def _reports(repo: Path, texts: Sequence[str]) -> dict[Path, int]:
    from feast.monitoring.monitoring_utils import MONITORING_DIR

    files = parquet_files([repo / MONITORING_DIR]) if texts else []
    counts = {path: sum(_count(_quoting(table, texts)) for table in row_groups(path)) for path in files}
    return {path: count for path, count in counts.items() if count}


def _texts_of_files(files: Iterable[Path], key: str, entity_id: str) -> Iterator[str]:
    """All strings in rows of the id: any of them may have been embedded, apart from names of events."""
    for path in files:
        strings = [field.name for field in pq.read_schema(path) if is_text(field.type)]
        columns = [name for name in strings if not name.endswith(("_id", "_fingerprint")) and name != "event_type"]
        for table in row_groups(path, *dict.fromkeys([key, *columns])):
            rows = table.filter(rows_of(table, key, entity_id))
            for name in set(columns) - {key}:
                yield from (value for value in rows[name].unique().to_pylist() if value is not None)


def _texts_of_values(values: Iterable[bytes], fingerprints: set[str]) -> Iterator[str]:
    from feast.protos.feast.types.Value_pb2 import Value

    for value in values:
        text = Value.FromString(value).string_val
        if text and text not in fingerprints:
            yield text


def _keys(repo: Path, texts: Iterable[str]) -> list[bytes]:
    """The possible cache keys of texts: as they are, redacted or cleaned, with the prefixes of all models."""
    settings = Enrichment.of_repo(repo)
    prefixes = {"", *(prefix for manifest in installed() for prefix in manifest.prompts.values())}
    for encoder in (shared_encoder(settings.model, backend=settings.backend), *shared_encoders()):
        with suppress(ColdStartError):  # its folder is gone or was never there
            prefixes |= set(encoder.files.prompts.values())
    keys = []
    for text in set(texts):
        clean, safe = clean_text(text), redact(text)
        shapes = {text, text.strip(), clean, safe, clean_text(safe), redact(clean)}
        keys += [key_of(prefix + shape) for prefix, shape in product(prefixes, shapes)]
    return keys


def _notes(
    entity: str, folders: Sequence[Path], trained: Sequence[Path], quotes: Sequence[Path], searched: int, *, redis: bool
) -> list[str]:
    shared = "item profiles are means over buyers" if entity == "user" else "user profiles are sums over items"
    notes = [
        f"raw files stay: the next `coldstart ingest` of them brings the {entity} back",
        f"{shared}: the {entity}'s part in them goes with the next `coldstart profiles`",
        "a running process keeps vectors in memory until it ends: restart `feast serve` and open notebooks",
        "backups, exports, databases of your own, the history of `coldstart sql` and other machines' caches are yours "
        "to clean; if SQL embedded a changed form of a text, `coldstart cache clear` removes its vector",
    ]
    for folder in trained:
        notes.insert(0, f"the recommender in {folder} holds the {entity}'s text: run `coldstart train` again")
    if redis:
        notes.append("Redis' own files hold the keys until it rewrites them: redis-cli BGSAVE, BGREWRITEAOF")
    notes.append(
        f"{searched:,} HTML and JSON files in and beside {', '.join(map(str, folders))} were searched; reports of "
        "`coldstart evaluate` and results of `coldstart embed` elsewhere were not"
    )
    if quotes:
        named = ", ".join(map(str, quotes))
        notes.insert(0, f"{named}: quotes the {entity}; delete it, or write it again after the next training")
    places = dict.fromkeys(path for folder in (*folders, folders[0].parent) for path in _leftovers(folder, folders))
    if places:
        left = ", ".join(map(str, places))
        notes.insert(0, f"a write that was stopped left {left}, not searched: delete it if nothing is written there")
    return notes


def _leftovers(folder: Path, searched: Sequence[Path]) -> Iterator[Path]:
    """What stopped writes left in a folder; directly in it if it is not one of those to search as a whole."""
    for pattern in _LEFTOVERS:
        yield from folder.rglob(pattern) if folder in searched else folder.glob(pattern)
