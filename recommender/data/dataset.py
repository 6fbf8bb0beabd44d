"""Read the tables of an evaluation, or of `coldstart weigh`, from files, without Feast."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import duckdb

from coldstart_udfs.console import Report, no_report
from coldstart_udfs.encoder.encoder import Encoder, shared_encoder
from coldstart_udfs.encoder.progress import encoding_progress
from coldstart_udfs.errors import ColdStartError
from coldstart_udfs.profile import has_text
from coldstart_udfs.quoting import quote_name
from coldstart_udfs.settings import EVENT_WEIGHTS, Enrichment
from recommender.data.contract import ATTRIBUTES, DESCRIPTION, ITEM_ID, ContractError
from recommender.data.entities import Entities, describe
from recommender.data.event_types import told
from recommender.data.interactions import Interactions
from recommender.data.raw_files import tables_of
from recommender.data.searches import Searchers, read_searches
from recommender.data.tables import load_files, read_interactions


@dataclass(frozen=True)
class Dataset:
    """The data of an evaluation.

    Attributes:
        name: name of the folder of the items.
        interactions: all interactions.
        users: users without history and without their searches.
        items: items without history.
        groups: the group of each item; items of one group are held out together. None: each item is its own group.
        searchers: the same users with their searches; None if there are no searches.
        notes: what was understood of the tables, for the reader of a result.
    """

    name: str
    interactions: Interactions
    users: Entities
    items: Entities
    groups: Sequence[str] | None = None
    searchers: Searchers | None = None
    notes: Sequence[str] = ()


def settings_of(repo: Path) -> Enrichment:
    """Return the settings of a Feast repository, which need not be applied.

    Raises:
        ColdStartError: the folder is not a repository, or its `enrichment.json` is invalid.
    """
    if not (repo / "feature_store.yaml").is_file():
        raise ColdStartError(f"{repo} is not a Feast repository (no feature_store.yaml); `coldstart init` creates one")
    return Enrichment.of_repo(repo)


def files_in(folder: Path) -> tuple[Path, Path | None, Path]:
    """Return the files of items, users (if any) and interactions in a folder.

    Raises:
        ContractError: the path is not a folder, a table is missing, or a table has two files.
    """
    if not folder.is_dir():
        raise ContractError(f"{folder} is not a folder; pass the folder of items, users and interactions")
    files = tables_of(folder)
    for table in ("items", "interactions"):
        if table not in files:
            raise ContractError(
                f"{folder} has no {table}.parquet (or .csv, .jsonl, .xlsx); `coldstart ingest` writes one"
            )
    return files["items"], files.get("users"), files["interactions"]


def read_dataset(
    items: Path, users: Path | None, interactions: Path, *, model: str | None = None, backend: str | None = None,
    group_column: str | None = None, weights: Mapping[str, float] = EVENT_WEIGHTS, encoding: str | None = None,
    date_order: str | None = None, left_out: Collection[str] = (), embed: bool = True, report: Report = no_report,
) -> Dataset:
    """Read and validate the tables, and encode the descriptions. `make_splits` adds the searches.

    Args:
        items: a file with one of the endings of `coldstart_udfs.tabular.read_file`.
        users: the same; None: the users of the interactions, without features.
        interactions: the same.
        model: the encoder's model; None is the default model.
        backend: the encoder's backend; None is "auto".
        group_column: a column of items that identifies variants of one product. It is not used as an attribute, because
            training never sees the value of a group that is held out. An item without a value is its own group.
        weights: `event_weights` of the settings; its types are known.
        encoding: of CSV and JSON files, see `read_file`.
        date_order: of dates such as 03/04/24, see `recommender.data.timestamps.read_moments`.
        left_out: columns of items that are not used as attributes.
        embed: False leaves the embeddings zero, for callers who compute their own.
        report: called with (stage, done, total).

    Raises:
        ContractError: a file is missing, has another type, or breaks the contract.
        ColdStartError: there is no such column or encoder.
    """
    files = {"items": items, "users": users, "interactions": interactions}
    encoder = shared_encoder(model, backend=backend)
    with duckdb.connect() as con:
        loaded = load_files(
            con, files, weights, encoding=encoding, date_order=date_order, as_text=group_column
        )
        groups = _groups(con, group_column, items) if group_column else None
        events = read_interactions(con, weights)
        searches = read_searches(con)
        hidden = [*left_out, *([group_column] if group_column else [])]
        known = [_described(con, encoder if embed else None, side, names, report)
                 for side, names in (("user", []), ("item", hidden))]  # fmt: skip
    searchers = Searchers(known[0], searches, encoder) if len(searches) else None
    renamed = any(one.raw and one.name != one.raw for one in loaded.event_types)
    types = [f"event types: {told(loaded.event_types, weights)}"] if renamed else []
    notes = [*types, *loaded.notes]
    return Dataset(items.absolute().parent.name, events, known[0], known[1], groups, searchers, notes)


def _groups(con: duckdb.DuckDBPyConnection, column: str, shown: Path) -> list[str]:
    columns = [row[0] for row in con.execute("DESCRIBE items").fetchall() if row[0] != ATTRIBUTES]
    if column not in columns:
        raise ColdStartError(f"{shown} has no column {column!r} for groups; the columns are {columns}")
    rows = con.execute(f"SELECT {ITEM_ID}, {quote_name(column)} FROM items ORDER BY 1").fetchall()
    # A CSV file's numbers are DOUBLE; their group must be that of the same number in a Parquet file.
    whole = [(name, int(group) if isinstance(group, float) and group.is_integer() else group) for name, group in rows]
    return [name if group is None or not str(group).strip() else str(group) for name, group in whole]


def _described(
    con: duckdb.DuckDBPyConnection, encoder: Encoder | None, side: str, left_out: Sequence[str], report: Report
) -> Entities:
    rows = con.execute(f"SELECT {side}_id, {DESCRIPTION}, {ATTRIBUTES} FROM {side}s ORDER BY 1").fetchall()
    ids, descriptions, labels = zip(*rows, strict=True)
    own = tuple(f"{column}=" for column in left_out)
    attributes = [[label for label in row if not label.startswith(own)] for row in labels]
    if encoder is None:
        given = [text if text and has_text(text) else "" for text in descriptions]
        return replace(Entities.nothing(list(ids), 1, ""), descriptions=given, attributes=attributes)
    texts = len({text for text in descriptions if text})
    with encoding_progress(lambda stats: report(f"texts of {side}s", stats.hits + stats.encoded, texts)):
        return describe(encoder, list(ids), list(descriptions), attributes)
