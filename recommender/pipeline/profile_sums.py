"""Sum the changes of profiles, snapshot by snapshot, and stream the profiles into Parquet files."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from coldstart_udfs.arrow_lists import FLOATS, embeddings_to_arrow
from coldstart_udfs.console import Report, no_report
from coldstart_udfs.profile import Vectors, item_profile_blocks, user_profiles

CHANGES = "profile_changes"
# Rows of a row group, which a reader holds at a time, and users that are summed at once: 13 MB of 384 floats each.
ROW_GROUP = 8_192
_NEVER = datetime(1, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Changes:
    """The changes of all snapshots, each of a pair of a user and an item.

    Attributes:
        user_ids: sorted.
        item_ids: sorted; only items with an embedding.
        embeddings: (items, d) float32.
        pair_users: (pairs,) int32 row of each pair's user; pairs are sorted by item, then by user.
        pair_items: (pairs,) int32 row of each pair's item.
        pairs: (n,) int32 the pair of each change; no pair twice in one snapshot.
        weights: (n,) float64, as of the change's own snapshot.
        times: (n,) int32, what the change adds to the evidence.
        bounds: (snapshots + 1,) the changes of snapshot k are bounds[k]:bounds[k + 1].
    """

    user_ids: pa.Array
    item_ids: pa.Array
    embeddings: Vectors
    pair_users: NDArray[np.int32]
    pair_items: NDArray[np.int32]
    pairs: NDArray[np.int32]
    weights: NDArray[np.float64]
    times: NDArray[np.int32]
    bounds: Sequence[int]


def read_changes(con: duckdb.DuckDBPyConnection, moments: Sequence[datetime], *, report: Report = no_report) -> Changes:
    """Read the view `profile_changes` for each snapshot.

    Args:
        con: with the tables and views of `sql/descriptions.sql` and `sql/profiles.sql`.
        moments: the snapshots, oldest first.
        report: called with (stage, done, total).
    """
    con.execute("""
        CREATE TEMP TABLE item_rows AS
        SELECT item_id, (row_number() OVER (ORDER BY item_id) - 1)::INTEGER AS item
        FROM item_descriptions WHERE item_embedding IS NOT NULL;
        CREATE TEMP TABLE user_rows AS
        SELECT user_id, (row_number() OVER (ORDER BY user_id) - 1)::INTEGER AS "user"
        FROM (SELECT DISTINCT user_id FROM changes);
    """)
    user_ids, item_ids = (_ids(con, side) for side in ("user", "item"))
    columns: dict[str, list[NDArray[np.generic]]] = {name: [] for name in ("user", "item", "times", "weight")}
    bounds, previous = [0], _NEVER
    for number, moment in enumerate(moments):
        report("changes up to each month", number, len(moments))
        con.execute("SET VARIABLE previous = $1::TIMESTAMPTZ", [previous])
        con.execute("SET VARIABLE as_of = $1::TIMESTAMPTZ", [moment])
        found = con.sql(f"""
            SELECT "user", item, times::INTEGER AS times, weight::DOUBLE AS weight
            FROM {CHANGES} JOIN user_rows USING (user_id) JOIN item_rows USING (item_id)
        """).to_arrow_table()  # fmt: skip
        for name, parts in columns.items():
            parts.append(found[name].to_numpy())
        bounds.append(bounds[-1] + len(found))
        previous = moment
    report("changes up to each month", len(moments), len(moments))
    users, items = (np.concatenate(columns.pop(name)) for name in ("user", "item"))
    keys, pairs = np.unique(items.astype(np.int64) * len(user_ids) + users, return_inverse=True)
    del users, items
    pair_items, pair_users = np.divmod(keys, max(len(user_ids), 1))
    return Changes(
        user_ids, item_ids, _embeddings(con, len(item_ids)), pair_users.astype(np.int32), pair_items.astype(np.int32),
        pairs.astype(np.int32), np.concatenate(columns["weight"]), np.concatenate(columns["times"]), bounds,
    )  # fmt: skip


def write_profiles(
    changes: Changes, moments: Sequence[datetime], half_life_days: float, fingerprint: str, folder: Path, *,
    report: Report = no_report,
) -> dict[str, int]:
    """Write user_profiles.parquet and item_profiles.parquet: the profiles as of each snapshot.

    Beside the changes, memory holds the vectors of the items and one profile of each user.

    Args:
        changes: as `read_changes` returns them.
        moments: the snapshots, oldest first.
        half_life_days: `inf` for events that do not age.
        fingerprint: of the encoder.
        folder: where the files are written.
        report: called with (stage, done, total).

    Returns:
        The number of rows of each file.
    """
    n_users, n_items, width = len(changes.user_ids), len(changes.item_ids), changes.embeddings.shape[1]
    profiles = np.zeros((n_users, width), dtype=np.float32)
    user_evidence, item_evidence = np.zeros(n_users, dtype=np.int64), np.zeros(n_items, dtype=np.int64)
    known_users, known_items = np.zeros(n_users, dtype=bool), np.zeros(n_items, dtype=bool)
    pair_weights, pair_times = np.zeros(len(changes.pair_users)), np.zeros(len(changes.pair_users), dtype=np.int32)
    with (
        _ProfileFile(folder, "user", changes.user_ids, width, fingerprint) as user_file,
        _ProfileFile(folder, "item", changes.item_ids, width, fingerprint) as item_file,
    ):
        for number, moment in enumerate(moments):
            report("profiles as of each month", number, len(moments))
            if number and math.isfinite(half_life_days):
                aged = 0.5 ** ((moment - moments[number - 1]) / timedelta(days=half_life_days))
                profiles *= np.float32(aged)
                pair_weights *= aged
            new = slice(changes.bounds[number], changes.bounds[number + 1])
            pairs, weights, times = changes.pairs[new], changes.weights[new], changes.times[new]
            users, items = changes.pair_users[pairs], changes.pair_items[pairs]
            pair_weights[pairs] += weights
            pair_times[pairs] += times
            np.add.at(user_evidence, users, times)
            np.add.at(item_evidence, items, times)
            known_users[users] = known_items[items] = True

            for changed, sums in _user_sums(users, items, weights, changes.embeddings):
                profiles[changed] += sums
            profiles[user_evidence == 0] = 0  # exactly, without rounding errors
            written = known_users if math.isfinite(half_life_days) else np.bincount(users, minlength=n_users) > 0
            rows = np.flatnonzero(written)
            for first in range(0, len(rows), ROW_GROUP):
                chosen = rows[first : first + ROW_GROUP]
                user_file.add(chosen, profiles[chosen], user_evidence, moment)
            user_file.flush(user_evidence, moment)

            counted = (pair_times > 0) & (user_evidence[changes.pair_users] > pair_times)
            offsets = np.concatenate([[0], np.cumsum(np.bincount(changes.pair_items[counted], minlength=n_items))])
            buyers, weights = changes.pair_users[counted], pair_weights[counted]
            for block, means in item_profile_blocks(buyers, weights, offsets, changes.embeddings, profiles):
                there = known_items[block]
                item_file.add(block.start + np.flatnonzero(there), means[there], item_evidence, moment)
            item_file.flush(item_evidence, moment)
    report("profiles as of each month", len(moments), len(moments))
    return {"item_profiles": item_file.rows, "user_profiles": user_file.rows}


def _user_sums(
    users: NDArray[np.int32], items: NDArray[np.int32], weights: NDArray[np.float64], embeddings: Vectors
) -> Iterator[tuple[NDArray[np.integer], Vectors]]:
    """The users with changes, ROW_GROUP at a time, and the sums of their changes."""
    order = np.argsort(users, kind="stable")
    found, starts = np.unique(users[order], return_index=True)
    starts = np.append(starts, len(order))
    for first in range(0, len(found), ROW_GROUP):
        chosen = found[first : first + ROW_GROUP]
        rows = order[starts[first] : starts[first + len(chosen)]]
        local = np.searchsorted(chosen, users[rows])
        yield chosen, user_profiles(local, items[rows], weights[rows], embeddings, len(chosen))


class _ProfileFile:
    """A Parquet source of profiles, written in row groups of bounded size."""

    def __init__(self, folder: Path, side: str, ids: pa.Array, width: int, fingerprint: str) -> None:
        self.rows = 0
        self._ids, self._fingerprint = ids, fingerprint
        self._schema = pa.schema([
            (f"{side}_id", pa.string()), (f"{side}_profile", FLOATS), (f"{side}_evidence", pa.int64()),
            ("embedding_fingerprint", pa.string()), ("event_timestamp", pa.timestamp("us", "UTC")),
        ])  # fmt: skip
        named = [f"{side}_id", "embedding_fingerprint"]  # numbers of vectors hardly repeat
        self._writer = pq.ParquetWriter(
            folder / f"{side}_profiles.parquet", self._schema, compression="zstd", use_dictionary=named,
            store_schema=False,
        )  # fmt: skip
        self._writer.add_key_value_metadata({"embedding_fingerprint": fingerprint})
        self._matrix = np.empty((ROW_GROUP, width), dtype=np.float32)
        self._chosen = np.empty(ROW_GROUP, dtype=np.int64)
        self._filled = 0

    def __enter__(self) -> _ProfileFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()

    def add(self, rows: NDArray[np.int64], profiles: Vectors, evidence: NDArray[np.int64], moment: datetime) -> None:
        """Add the profiles of these rows of the ids, as of a moment."""
        while len(rows):
            n = min(len(rows), ROW_GROUP - self._filled)
            until = self._filled + n
            self._chosen[self._filled : until], self._matrix[self._filled : until] = rows[:n], profiles[:n]
            self._filled, rows, profiles = until, rows[n:], profiles[n:]
            if self._filled == ROW_GROUP:
                self.flush(evidence, moment)

    def flush(self, evidence: NDArray[np.int64], moment: datetime) -> None:
        """Write what was added since."""
        n, self._filled = self._filled, 0
        if n:
            chosen = self._chosen[:n]
            columns = [
                self._ids.take(pa.array(chosen)), embeddings_to_arrow(self._matrix[:n], np.ones(n, dtype=bool)),
                pa.array(evidence[chosen]), pa.repeat(self._fingerprint, n),
                pa.repeat(pa.scalar(moment, self._schema.field(4).type), n),
            ]  # fmt: skip
            self._writer.write_table(pa.table(columns, schema=self._schema))
            self.rows += n


def _ids(con: duckdb.DuckDBPyConnection, side: str) -> pa.Array:
    table = con.sql(f'SELECT {side}_id FROM {side}_rows ORDER BY "{side}"').to_arrow_table()
    ids = table.column(0).combine_chunks()
    return ids if isinstance(ids, pa.Array) else pa.concat_arrays(ids.chunks)


def _embeddings(con: duckdb.DuckDBPyConnection, n_items: int) -> Vectors:
    """(items, d) the vectors of the items in the order of their rows."""
    query = "SELECT item, item_embedding FROM item_descriptions JOIN item_rows USING (item_id)"
    result: Vectors | None = None
    for batch in _stream(con.sql(query)):
        lists = batch.column(1)
        vectors = np.asarray(lists.flatten()).reshape(len(lists), -1)
        if result is None:
            result = np.zeros((n_items, vectors.shape[1]), dtype=np.float32)
        result[batch.column(0).to_numpy()] = vectors
    return np.zeros((0, 0), dtype=np.float32) if result is None else result


def _stream(relation: duckdb.DuckDBPyRelation) -> pa.RecordBatchReader:
    # DuckDB 1.4 only has fetch_record_batch, which warns from 1.5 on.
    read = relation.to_arrow_reader if hasattr(relation, "to_arrow_reader") else relation.fetch_record_batch
    return read(ROW_GROUP)
