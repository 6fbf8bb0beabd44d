"""Compute embeddings and profiles in DuckDB with the SQL files of the Feast repository."""

from __future__ import annotations

import json
import math
import uuid
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb

from coldstart_udfs import connect
from coldstart_udfs.console import Report, no_report
from coldstart_udfs.encoder.encoder import shared_encoder
from coldstart_udfs.encoder.progress import EncoderStats
from coldstart_udfs.encoder.tuning.manifests import check_recommends
from coldstart_udfs.errors import ColdStartError
from coldstart_udfs.files import staged
from coldstart_udfs.locks import whole, writing
from coldstart_udfs.made_from import MadeFrom, data_hash
from coldstart_udfs.profile import has_text
from coldstart_udfs.quoting import quote_text
from coldstart_udfs.settings import ENRICHMENT_FILE, Enrichment
from coldstart_udfs.sql.registration import connection_progress
from recommender.data.contract import CART_REMOVAL, TABLES, WISHLIST_REMOVAL, numeric_attributes
from recommender.data.events import EventWeights
from recommender.data.searches import MAX_SEARCHES
from recommender.data.tables import load
from recommender.pipeline.profile_sums import CHANGES, ROW_GROUP, Changes, read_changes, write_profiles

# The path of each source in the repository's data folder. `coldstart put` and users' searches add files to folders.
DESCRIPTIONS = {
    "item_descriptions": "item_descriptions/part-0.parquet",
    "user_descriptions": "user_descriptions/part-0.parquet",
}
SOURCES = {
    **DESCRIPTIONS,
    "item_profiles": "item_profiles.parquet",
    "user_profiles": "user_profiles.parquet",
}
SEARCHES = "user_descriptions/searches-0.parquet"
PUSHED = "pushed-*.parquet"
_AGEING_MONTHS = 12
_TEXTS = """
    SELECT description FROM items WHERE description IS NOT NULL
    UNION SELECT description FROM users WHERE description IS NOT NULL
"""


def build_profiles(
    data: Path, repo: Path, *, ray_workers: int | None = None, report: Report = no_report
) -> dict[str, int]:
    """Write the Parquet sources of a Feast repository from the tables of the data contract.

    Runs the repository's `sql/descriptions.sql`, `sql/searches.sql` if there are searches, and `sql/profiles.sql`, and
    sums what its view `profile_changes` returns for each snapshot. Rows pushed since the last run (`coldstart put`) are
    kept and embedded again, unless the tables have a new description of the id. Event weights come from the
    repository's `enrichment.json`.

    Args:
        data: the folder of items, users and interactions.
        repo: the Feast repository; the files are written to its `data` folder.
        ray_workers: number of Ray actors that encode the tables' descriptions into this machine's vector cache; None:
            this machine encodes.
        report: called with (stage, done, total).

    Returns:
        The number of rows by source, and the number of newer pushed rows beside them.

    Raises:
        ColdStartError: the data break the contract, a SQL file is missing or fails, or the encoder was tuned and is
            refused for recommending.
        InUseError: another process changes the repository.
    """
    with writing(whole(repo / "data"), command="coldstart profiles"):
        return _build_profiles(data, repo, ray_workers, report)


def _build_profiles(data: Path, repo: Path, ray_workers: int | None, report: Report) -> dict[str, int]:
    scripts = {name: _read(repo / "sql" / f"{name}.sql") for name in ("descriptions", "searches", "profiles")}
    if CHANGES not in scripts["profiles"]:  # said before the texts are encoded
        raise ColdStartError(
            f"{repo / 'sql' / 'profiles.sql'} creates no view {CHANGES} with user_id, item_id, times and weight, which "
            "are summed to profiles; it may be of an earlier version. Take the file that `coldstart init` writes, and "
            "repeat your own changes in it"
        )
    settings = Enrichment.of_repo(repo)
    check_recommends(settings.model)
    encoder = shared_encoder(settings.model, backend=settings.backend)
    # Every reader of these vectors uses the backend that "auto" chose here.
    settings = replace(settings, backend=encoder.backend)
    fingerprint = encoder.fingerprint
    read = data_hash(data) if data.is_dir() else ""
    pushed = {source: sorted((repo / "data" / source).glob(PUSHED)) for source in DESCRIPTIONS}
    counts: dict[str, int] = {}
    with ExitStack() as tables:
        # These files are moved into place first, so that a repeated run after an interruption has the same result.
        with ExitStack() as kept:
            with connect(enrichment=settings) as con:
                load(con, data, settings.event_weights)
                if data_hash(data) != read:
                    raise ColdStartError(
                        f"{data} was written while it was read; nothing was changed. Run the command again"
                    )
                made_from = MadeFrom.of_data(
                    repo, data, {table.name: _count(con, table.name) for table in TABLES}, sha256=read
                )
                if ray_workers:
                    from coldstart_udfs.encoder.bulk_ray import encode_into_cache

                    texts = [text for (text,) in con.execute(_TEXTS).fetchall() if has_text(text)]
                    encode_into_cache(texts, encoder, ray_workers, report=report)
                moments = snapshots(con, settings.half_life_days)
                _set_variables(con, fingerprint, settings, moments)
                for source, path in _describe(con, repo, scripts, pushed, report).items():
                    scratch = tables.enter_context(staged((repo / "data" / path).parent))
                    counts[source] = _copy(con, source, source, scratch / Path(path).name, fingerprint)
                for source, files in pushed.items():
                    if files:
                        scratch = kept.enter_context(staged(repo / "data" / source))
                        name = f"pushed-{uuid.uuid4().hex}.parquet"
                        counts[f"{source} since puts"] = _copy(
                            con, f"kept_{source}", source, scratch / name, fingerprint
                        )
                changes = _changes(con, repo / "sql" / "profiles.sql", scripts["profiles"], moments, report)
            scratch = tables.enter_context(staged(repo / "data"))
            counts |= write_profiles(changes, moments, settings.half_life_days, fingerprint, scratch, report=report)
            replace(made_from, complete=False).write(repo)
        for files in pushed.values():
            for file in files:
                file.unlink()
    if "user_searches" not in counts:
        (repo / "data" / SEARCHES).unlink(missing_ok=True)
    settings.write(repo / ENRICHMENT_FILE)
    made_from.write(repo)
    return counts


def _describe(
    con: duckdb.DuckDBPyConnection, repo: Path, scripts: dict[str, str], pushed: dict[str, list[Path]], report: Report
) -> dict[str, str]:
    """Create the tables of descriptions with their embeddings; returns the path of each in the data folder."""
    texts = _count(con, f"({_TEXTS})")
    tables = dict(DESCRIPTIONS)

    def encoded(stats: EncoderStats) -> None:
        done = stats.hits + stats.encoded
        # `texts` does not count the words of searches that are joined to descriptions.
        report("embeddings", done, max(texts, done))

    # While a text is encoded, a thread of DuckDB that waits would take time from the encoder.
    con.execute("SET threads = 1; SET preserve_insertion_order = false")
    with connection_progress(con, encoded):
        _run(con, repo / "sql" / "descriptions.sql", scripts["descriptions"])
        for source, files in pushed.items():
            if files:
                _keep_pushed(con, source, files, repo / "data" / SOURCES[source])
        if _count(con, "interactions WHERE query IS NOT NULL"):
            kept = " UNION ALL BY NAME FROM kept_user_descriptions" if pushed["user_descriptions"] else ""
            con.execute(f"CREATE VIEW own_words AS FROM user_descriptions{kept}")
            _run(con, repo / "sql" / "searches.sql", scripts["searches"])
            tables["user_searches"] = SEARCHES
    con.execute("RESET threads")
    return tables


def _changes(
    con: duckdb.DuckDBPyConnection, path: Path, script: str, moments: list[datetime], report: Report
) -> Changes:
    _run(con, path, script)
    try:
        return read_changes(con, moments, report=report)
    except duckdb.Error as error:
        raise ColdStartError(f"{path} failed: {error}") from None


def _set_variables(
    con: duckdb.DuckDBPyConnection, fingerprint: str, settings: Enrichment, moments: list[datetime]
) -> None:
    """Set the variables that the SQL files read with getvariable()."""
    weights = EventWeights.of_settings(settings)
    # What takes an event back is no event of its own.
    by_type = {**weights.by_type, CART_REMOVAL: 0.0, WISHLIST_REMOVAL: 0.0}
    con.execute("SET VARIABLE fingerprint = $1", [fingerprint])
    con.execute("SET VARIABLE event_weights = map($1::VARCHAR[], $2::DOUBLE[])",
                [list(by_type), list(by_type.values())])  # fmt: skip
    con.execute("SET VARIABLE half_life_days = $1::DOUBLE", [weights.half_life_days])
    con.execute("SET VARIABLE max_searches = $1::BIGINT", [MAX_SEARCHES])
    con.execute("SET VARIABLE snapshots = $1::TIMESTAMPTZ[]", [moments])
    for name in ("previous", "as_of"):  # set for each snapshot later; a view needs their type
        con.execute(f"SET VARIABLE {name} = $1::TIMESTAMPTZ", [moments[0]])


def _copy(con: duckdb.DuckDBPyConnection, table: str, source: str, path: Path, fingerprint: str) -> int:
    """Write a table as the file of a source; returns its number of rows."""
    side = source.partition("_")[0]
    about = f"embedding_fingerprint: '{fingerprint}'"
    if source.endswith("_descriptions") and (numeric := numeric_attributes(con, f"{side}s")):
        # `coldstart put` bands these columns as the tables do.
        about += f", numeric_attributes: {quote_text(json.dumps(numeric))}"
    con.execute(
        f"COPY (FROM {table} ORDER BY event_timestamp, {side}_id) TO {quote_text(str(path))} "
        f"(FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {ROW_GROUP}, KV_METADATA {{{about}}})"
    )
    return _count(con, table)


def _keep_pushed(con: duckdb.DuckDBPyConnection, source: str, pushed: list[Path], written: Path) -> None:
    """Create the table kept_{source}: pushed rows beside the tables' rows, with this encoder's vectors.

    A pushed row is kept unless the tables have a new description of its id since `written`, the file of the last run.
    Otherwise the new description becomes valid just after the pushed one, because an older row would not replace it.
    """
    side = source.partition("_")[0]
    key, text = f"{side}_id", f"{side}_description"
    before = f"read_parquet({quote_text(str(written))})" if written.exists() else f"(FROM {source} WHERE false)"
    files = "[" + ", ".join(quote_text(str(path)) for path in pushed) + "]"
    con.execute(f"""
        CREATE TABLE kept_{source} AS
        WITH pushed AS (
            SELECT * REPLACE (embed({text}) AS {side}_embedding, getvariable('fingerprint') AS embedding_fingerprint)
            FROM read_parquet({files}, union_by_name = true)
        ),
        last AS (SELECT {key}, max(event_timestamp) AS pushed_at FROM pushed GROUP BY ALL),
        displaced AS (
            SELECT now.{key} FROM {source} AS now LEFT JOIN {before} AS before USING ({key})
            WHERE before.{key} IS NULL OR now.{text} IS DISTINCT FROM before.{text}
        )
        SELECT * FROM pushed WHERE {key} NOT IN (FROM displaced)
        UNION ALL BY NAME
        SELECT now.* REPLACE (greatest(event_timestamp, pushed_at + INTERVAL 1 MICROSECOND) AS event_timestamp)
        FROM {source} AS now JOIN last USING ({key}) WHERE {key} IN (FROM displaced)
    """)


def _count(con: duckdb.DuckDBPyConnection, table: str) -> int:
    return int(con.sql(f"SELECT count(*) FROM {table}").fetchall()[0][0])


def snapshots(con: duckdb.DuckDBPyConnection, half_life_days: float = math.inf) -> list[datetime]:
    """Return the moments of the profiles: the first of each month after a month with events, then just after the last.

    In other months nothing changes, except that events age. With a half-life, a year without events has its snapshots
    too; profiles of a longer gap stay as they are at its twelfth month until the next event.
    """
    months = 1 if math.isinf(half_life_days) else _AGEING_MONTHS
    rows = con.execute(f"""
        -- The calendar is slow: it is asked for each day, and not for each event.
        WITH days AS (SELECT DISTINCT floor(epoch(event_timestamp) / 86400) AS day FROM interactions),
        starts AS (
            SELECT DISTINCT date_trunc('month', to_timestamp(day * 86400)) + INTERVAL 1 MONTH AS start FROM days
        ),
        months AS (SELECT unnest(range(start, start + INTERVAL {months} MONTH, INTERVAL 1 MONTH)) AS moment FROM starts)
        SELECT DISTINCT moment FROM months
        WHERE moment < (SELECT max(event_timestamp) FROM interactions)
        ORDER BY moment
    """).fetchall()
    last = con.execute("SELECT max(event_timestamp) FROM interactions").fetchall()[0][0]
    moments = [row[0].astimezone(UTC) for row in rows]
    return [*moments, last.astimezone(UTC).replace(microsecond=0) + timedelta(seconds=1)]


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ColdStartError(f"{path} does not exist; `coldstart init` creates a repository with this file") from None


def _run(con: duckdb.DuckDBPyConnection, path: Path, script: str) -> None:
    try:
        con.execute(script)
    except duckdb.Error as error:
        raise ColdStartError(f"{path} failed: {error}") from None
