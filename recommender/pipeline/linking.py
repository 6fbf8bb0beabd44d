"""Link a source shop to a target shop: `coldstart link`; and erase a person from what the target has of the source.

A shop is a folder with `feature_repo` and `data`. Only users whose column `share` in the source's table of users is
true are read. The target gets their profiles (`linked_profiles.parquet` beside its sources) and the map (`data/link` in
its repository); the source gets a note of the target (`data/links.json`), by which an erasure finds its way.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from coldstart_udfs.arrow_lists import embeddings_to_arrow
from coldstart_udfs.console import Report, no_report
from coldstart_udfs.errors import ColdStartError, FingerprintError
from coldstart_udfs.feast.linked import LINKED_FILE, LINKED_PROFILES
from coldstart_udfs.feast.operations.stores import online_rows, open_store
from coldstart_udfs.files import staged, write_text
from coldstart_udfs.link import Link, LinkAbout, link_folder, read_manifest
from coldstart_udfs.locks import whole, writing
from coldstart_udfs.profile import Vectors
from coldstart_udfs.quoting import quote_name, quote_text
from recommender.data.contract import SHARE, USER_ID
from recommender.model.fitted import Fitted
from recommender.model.recommender import HybridRecommender
from recommender.pipeline.linking_fit import RIDGE, SHARED_SPACE, SHARED_USERS, Pairs, fit_link, halves
from recommender.pipeline.profiles import SOURCES

LINKS = "links.json"
# A map is learned from at least so many users: of both shops, or, without them, of the target.
FEWEST = 50
# What remains of a user who is erased in the target.
BROUGHT_BACK = "the next `coldstart link` from another shop brings the profile there back while they agree"


@dataclass(frozen=True)
class Linked:
    """What `link` did.

    Attributes:
        about: what the link says about itself.
        agreed: number of users of the source who agreed, and have a profile.
        users: number of users of the source with a profile.
        withdrawn: number of users whom the target had before and has no more.
    """

    about: LinkAbout
    agreed: int
    users: int
    withdrawn: int


@dataclass(frozen=True)
class Erased:
    """What `erase_from_targets` removed.

    Attributes:
        removed: place, what, and how many.
        remains: sentences on what it could not reach.
    """

    removed: list[tuple[str, str, int]]
    remains: list[str]


@dataclass(frozen=True)
class _Source:
    """All snapshots of the profiles of the users who agreed; `latest` are the rows of the last one of each user.

    `items` are the embeddings of the shop's items.
    """

    ids: list[str]
    moments: pa.Array
    profiles: Vectors
    evidence: pa.Array
    fingerprint: str
    latest: NDArray[np.int64]
    users: int
    items: Vectors


def link(source: Path, target: Path, *, assume_consent: bool = False, report: Report = no_report) -> Linked:
    """Let the users of one shop who agreed be known in another.

    The map is learned from the users of both shops, or, with fewer than 50 of them and one encoder in both, from the
    target's users alone.

    Args:
        source: the shop that has the profiles; `coldstart profiles` has run there.
        target: the shop that gets them; `coldstart train` has run there.
        assume_consent: all users of the source agreed, which is not in its table.
        report: called with (stage, done, total).

    Raises:
        ColdStartError: nobody agreed, the encoders differ and too few users are in both, or there are too few users.
        InUseError: another process changes one of the shops. In each of these cases nothing was written; users of this
            source who do not agree any more are removed from the target even if the shops cannot be linked again.
    """
    if source.resolve() == target.resolve():
        raise ColdStartError(f"{source} is both shops; give the folders of two shops")
    repo = target / "feature_repo"
    places = [whole(repo / "data"), whole(source / "data"), whole(source / "feature_repo" / "data")]
    with writing(*places, command="coldstart link"):
        withdrawn = _remove_withdrawn(source, repo, assume_consent)
        read = _read(source, assume_consent)
        model = HybridRecommender.load(target / "data" / "bundle")
        report("map", 0, 1)
        found = _fitted(source, read, model.fitted)
        report("map", 1, 1)
        gone = sorted(_ids(repo / "data" / LINKED_FILE) - set(read.ids))
        # First, because a run that is stopped after the profiles were written would not find these users again.
        for name in gone:
            _erase_online(repo, name, dry_run=False)
        _note(source, target)
        _write_profiles(repo, read, found)
        found.write(link_folder(repo))
    return Linked(found.about, len(read.latest), read.users, withdrawn + len(gone))


def unlink(target: Path) -> bool:
    """Remove what a shop has of another one; whether there was anything.

    `feast apply` afterwards removes the views.

    Raises:
        InUseError: another process changes the shop.
    """
    repo = target / "feature_repo"
    with writing(whole(repo / "data"), command="coldstart link"):
        names = _ids(repo / "data" / LINKED_FILE)
        folder = link_folder(repo)
        found = [path for path in (*folder.glob("*"), repo / "data" / LINKED_FILE) if path.is_file()]
        for name in sorted(names):
            _erase_online(repo, name, dry_run=False)
        for path in found:
            path.unlink()
        if folder.is_dir():
            folder.rmdir()
    return bool(found)


def erase_from_targets(data: Path, user_id: str, *, dry_run: bool = False) -> Erased:
    """Erase a user of a source shop from the shops that its profiles were linked to.

    Args:
        data: the folder of the source's tables.
        user_id: the user.
        dry_run: only count.

    Raises:
        InUseError: another process changes a target; the same call continues from there.
    """
    removed: list[tuple[str, str, int]] = []
    remains: list[str] = []
    for target in targets_of(data):
        repo = target / "feature_repo"
        if not repo.is_dir():
            remains.append(
                f"the linked shop {target} is not there any more: if it moved, run `coldstart forget` there"
            )
            continue
        with writing(*([] if dry_run else [whole(repo / "data")]), command="coldstart forget", wait=60):
            file = repo / "data" / LINKED_FILE
            rows = _erase_rows(file, [user_id], dry_run)
            values, note = _erase_online(repo, user_id, dry_run=dry_run)
        removed += [(str(file), "rows", rows)] if rows else []
        removed += [(f"online store of {target}", "values", values)] if values else []
        remains += [note] if note else []
        if rows:
            remains.append(
                f"the map of the link in {target} was learned from all users together; `coldstart link` learns it "
                "again without the user"
            )
    return Erased(removed, remains)


def targets_of(data: Path) -> list[Path]:
    """The shops that a shop's profiles were linked to.

    Args:
        data: the folder of its tables.
    """
    try:
        names = json.loads((data / LINKS).read_text(encoding="utf-8"))["targets"]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ColdStartError(f"{data / LINKS} cannot be read ({error!r}); run `coldstart link` again") from None
    return [Path(name) for name in names]


def _read(source: Path, assume_consent: bool) -> _Source:
    file, users = source / "feature_repo" / "data" / SOURCES["user_profiles"], source / "data" / "users.parquet"
    if not file.is_file():
        raise ColdStartError(f"{file} does not exist; run `coldstart profiles` in {source}, then link")
    with duckdb.connect() as con:
        con.execute("SET TimeZone = 'UTC'")
        con.execute(f"CREATE TABLE agreed AS {_agreed(con, users, assume_consent, file)}")
        counted = con.execute("SELECT count(DISTINCT user_id) FROM read_parquet($1)", [str(file)]).fetchall()[0][0]
        rows = con.sql(
            "SELECT user_id, event_timestamp, user_profile, user_evidence, embedding_fingerprint, "
            "event_timestamp = max(event_timestamp) OVER (PARTITION BY user_id) AS latest "
            f"FROM read_parquet({quote_text(str(file))}) SEMI JOIN agreed USING (user_id) "
            "ORDER BY event_timestamp, user_id"
        ).to_arrow_table()
        described = con.execute(
            "SELECT arg_max(item_embedding, event_timestamp) FROM read_parquet($1, union_by_name = true) "
            "WHERE item_embedding IS NOT NULL AND embedding_fingerprint IN (SELECT embedding_fingerprint FROM "
            "read_parquet($2)) GROUP BY item_id ORDER BY item_id",
            [str(source / "feature_repo" / "data" / "item_descriptions" / "*.parquet"), str(file)],
        ).fetchall()
    if not rows.num_rows:
        how = "nobody has a profile" if assume_consent else f"nobody has a profile and {SHARE} = true"
        raise ColdStartError(f"{source}: of {counted:,} users with history {how}; there is nothing to link")
    fingerprints = rows["embedding_fingerprint"].unique().to_pylist()
    if len(fingerprints) != 1:
        raise ColdStartError(f"{file} has vectors of several encoders; run `coldstart profiles` in {source}")
    profiles = np.array(rows["user_profile"].to_pylist(), dtype=np.float32)
    return _Source(
        rows["user_id"].to_pylist(), rows["event_timestamp"], profiles, rows["user_evidence"], fingerprints[0],
        np.flatnonzero(np.array(rows["latest"].to_pylist(), bool)), int(counted),
        np.array([row[0] for row in described], dtype=np.float32),
    )  # fmt: skip


def _agreed(con: duckdb.DuckDBPyConnection, users: Path, assume_consent: bool, profiles: Path) -> str:
    """A query of the ids of the users who agreed."""
    if assume_consent:
        return f"SELECT DISTINCT user_id FROM read_parquet({quote_text(str(profiles))})"
    if not users.is_file():
        raise ColdStartError(
            f"{users} does not exist, so nobody is known to have agreed; `coldstart ingest` writes it, or give "
            "--assume-consent if all have agreed"
        )
    place = f"read_parquet({quote_text(str(users))})"
    named = {row[0].lower(): row[0] for row in con.execute(f"DESCRIBE FROM {place}").fetchall()}
    if SHARE not in named:
        raise ColdStartError(
            f"{users} has no column {SHARE!r}, so nobody is known to have agreed; add it (true for users who let the "
            "other shop know their profile), or give --assume-consent if all have agreed"
        )
    return (
        f"SELECT user_id::VARCHAR AS user_id FROM {place} "
        f"WHERE coalesce(TRY_CAST({quote_name(named[SHARE])}::VARCHAR AS BOOLEAN), false)"
    )


def _fitted(source: Path, read: _Source, fitted: Fitted) -> Link:
    latest = read.latest
    ids, profiles = [read.ids[row] for row in latest.tolist()], read.profiles[latest]
    rows = fitted.users.rows(ids)
    taken = fitted.history_of(ids)
    both = np.flatnonzero((rows >= 0) & (np.diff(taken.indptr) > 0) & profiles.any(axis=1))
    embeddings, fingerprint = fitted.items.embeddings.whole, fitted.items.fingerprint
    counts = fitted.counts.astype(np.float64)

    def made(method: str, pairs: Pairs) -> Link:
        about = LinkAbout(
            str(source.resolve()), method, read.fingerprint, fingerprint, len(both), RIDGE, strength=0.0
        )
        return fit_link(about, read.items, pairs, embeddings, counts)

    if len(both) >= FEWEST:
        return made(SHARED_USERS, Pairs.shared([ids[row] for row in both.tolist()], profiles[both], taken[both]))
    if read.fingerprint != fingerprint:
        raise FingerprintError(
            found=read.fingerprint, found_in=f"the source shop {source}", expected=fingerprint,
            expected_by="the target shop", remedy=f"A map between two encoders is learned from users of both shops who "
            f"agreed; there are {len(both)}, and {FEWEST} are needed. Give both shops one encoder, and run `coldstart "
            "profiles` and `coldstart train`.",
        )  # fmt: skip
    whole_history = fitted.history.whole
    known = np.flatnonzero(np.diff(whole_history.indptr))
    parted = halves(fitted.users.ids(known), whole_history[known], embeddings)
    if len(parted.ids) < FEWEST:
        raise ColdStartError(
            f"{len(both)} users are in both shops and agreed, and {len(parted.ids)} of the target took several items; "
            f"{FEWEST} of either are needed to learn a map. Link the shops when there are more"
        )
    return made(SHARED_SPACE, parted)


def _write_profiles(repo: Path, read: _Source, found: Link) -> None:
    table = pa.table({
        USER_ID: pa.array(read.ids, pa.string()),
        "user_source_profile": _lists(read.profiles),
        "user_source_evidence": read.evidence,
        "user_source_fingerprint": pa.array([read.fingerprint] * len(read.ids), pa.string()),
        "user_linked_profile": _lists(found.mapped(read.profiles)),
        "event_timestamp": read.moments,
    })  # fmt: skip
    with staged(repo / "data") as scratch:
        pq.write_table(table, scratch / LINKED_FILE, compression="zstd")


def _lists(vectors: Vectors) -> pa.Array:
    return embeddings_to_arrow(vectors, np.ones(len(vectors), np.bool_))


def _note(source: Path, target: Path) -> None:
    """Write the target into the source's list of targets."""
    names = dict.fromkeys([*map(str, targets_of(source / "data")), str(target.resolve())])
    write_text(source / "data" / LINKS, json.dumps({"targets": list(names)}, indent=2) + "\n")


def _ids(file: Path) -> set[str]:
    return set(pq.read_table(file, columns=[USER_ID])[USER_ID].to_pylist()) if file.is_file() else set()


def _remove_withdrawn(source: Path, repo: Path, assume_consent: bool) -> int:
    """Remove users of a source whom the target has and who do not agree any more; their number."""
    file, profiles = repo / "data" / LINKED_FILE, source / "feature_repo" / "data" / SOURCES["user_profiles"]
    users = source / "data" / "users.parquet"
    try:
        linked = read_manifest(link_folder(repo)).get("source")
    except ColdStartError:  # no link, or a damaged one, which is replaced
        return 0
    if linked != str(source.resolve()) or assume_consent or not file.is_file():
        return 0
    with duckdb.connect() as con:
        agreed = {row[0] for row in con.execute(_agreed(con, users, assume_consent, profiles)).fetchall()}
    gone = sorted(_ids(file) - agreed)
    for name in gone:
        _erase_online(repo, name, dry_run=False)
    _erase_rows(file, gone, dry_run=False)
    return len(gone)


def _erase_rows(file: Path, user_ids: Sequence[str], dry_run: bool) -> int:
    if not file.is_file():
        return 0
    with duckdb.connect() as con:
        con.execute("SET TimeZone = 'UTC'")
        con.execute("CREATE TABLE erased AS SELECT unnest($1::VARCHAR[]) AS user_id", [list(user_ids)])
        place = f"read_parquet({quote_text(str(file))})"
        count = int(con.execute(f"SELECT count(*) FROM {place} SEMI JOIN erased USING (user_id)").fetchall()[0][0])
        if count and not dry_run:
            with staged(file.parent) as scratch:
                con.execute(
                    f"COPY (FROM {place} ANTI JOIN erased USING (user_id)) "
                    f"TO {quote_text(str(scratch / file.name))} (FORMAT parquet, COMPRESSION zstd)"
                )
    return count


def _erase_online(repo: Path, user_id: str, *, dry_run: bool) -> tuple[int, str | None]:
    """Erase the linked profile of a user from the online store; the number of values, and what remains."""
    try:
        store: Any = open_store(repo)
    except ColdStartError:  # never applied: there is no online store
        return 0, None
    online = online_rows(store)
    if online is None or not (rows := online.find(USER_ID, user_id)):
        return 0, None
    if "redis" in online.name:
        # A key of Redis has the features of all views.
        return 0, f"{online.name} of {repo} may hold the linked profile: run `coldstart forget` there"
    rows = [row for row in rows if row.place.endswith(f"_{LINKED_PROFILES}")]
    values = len(online.values(rows))
    if rows and not dry_run:
        online.erase(rows)
    return values, None
