"""Convert the data sets of the recommender's benchmark to the data contract.

Online Retail is part of the repository. The others are read from folders of raw Parquet files (`--data-dir` of
bench_recommender.py); tests/data contains small samples of Complete Journey and Stack Exchange with their licences.
"""

from __future__ import annotations

import html
import re
from pathlib import Path

import duckdb

from coldstart_udfs.errors import ColdStartError
from coldstart_udfs.files import staged
from recommender.data.tables import ingest

_COMPLETE_JOURNEY = """
CREATE TABLE bought AS
SELECT household_id::VARCHAR AS user_id, product_id::VARCHAR AS item_id,
    min(transaction_timestamp) AS event_timestamp
FROM '{source}/transactions_sample.parquet' SEMI JOIN '{source}/products.parquet' USING (product_id)
GROUP BY ALL;
CREATE TABLE items AS
SELECT product_id::VARCHAR AS item_id,
    concat_ws(' / ', product_category, product_type, package_size) AS description, department, brand,
    manufacturer_id::VARCHAR AS manufacturer
FROM '{source}/products.parquet' WHERE product_id::VARCHAR IN (SELECT item_id FROM bought);
CREATE TABLE users AS
SELECT user_id, NULL::VARCHAR AS description, age, income, home_ownership, marital_status, household_size,
    household_comp, kids_count
FROM (SELECT DISTINCT user_id FROM bought)
LEFT JOIN '{source}/demographics.parquet' ON household_id::VARCHAR = user_id;
CREATE TABLE interactions AS SELECT *, 'purchase' AS event_type FROM bought;
"""

_STACK_EXCHANGE = """
CREATE TABLE questions AS FROM '{source}/posts.parquet' WHERE PostTypeId = '1';
CREATE TABLE answered AS
SELECT OwnerUserId AS user_id, ParentId AS item_id, min(CreationDate)::TIMESTAMP AS event_timestamp
FROM '{source}/posts.parquet'
WHERE PostTypeId = '2' AND OwnerUserId IS NOT NULL AND ParentId IN (SELECT Id FROM questions)
GROUP BY ALL;
CREATE TABLE items AS
SELECT Id AS item_id, question_text(Title, Tags, Body) AS description, CreationDate::TIMESTAMP AS event_timestamp,
    regexp_extract_all(Tags, '[^<>|]+') AS tags
FROM questions WHERE Id IN (SELECT item_id FROM answered);
CREATE TABLE interactions AS SELECT *, 'interaction' AS event_type FROM answered;
"""
_ABOUT_ME = """
CREATE TABLE users AS
SELECT user_id, nullif(plain_text(AboutMe), '') AS description
FROM (SELECT DISTINCT user_id FROM answered) LEFT JOIN '{source}/users.parquet' ON Id = user_id;
"""
_SILENT = "CREATE TABLE users AS SELECT DISTINCT user_id, NULL::VARCHAR AS description FROM interactions;"

# A user's own statements are not their description: they agree with them, and the same text is an item. Votes have no
# time.
_POLIS = """
CREATE TABLE interactions AS
SELECT DISTINCT user_id, item_id, 'interaction' AS event_type
FROM '{source}/votes.parquet' SEMI JOIN '{source}/statements.parquet' USING (item_id)
WHERE vote = 1;
CREATE TABLE items AS
SELECT item_id, description, created AS event_timestamp
FROM '{source}/statements.parquet' SEMI JOIN interactions USING (item_id);
"""

_SCRIPTS = {
    "complete-journey": _COMPLETE_JOURNEY, "stackexchange-quantum": _STACK_EXCHANGE + _ABOUT_ME,
    "stackexchange-beer": _STACK_EXCHANGE + _SILENT, "polis-vtaiwan": _POLIS + _SILENT,
    "polis-austria": _POLIS + _SILENT,
}  # fmt: skip
_FILES = {
    "complete-journey": ("transactions_sample.parquet", "products.parquet", "demographics.parquet"),
    "stackexchange-quantum": ("posts.parquet", "users.parquet"), "stackexchange-beer": ("posts.parquet",),
    "polis-vtaiwan": ("statements.parquet", "votes.parquet"),
    "polis-austria": ("statements.parquet", "votes.parquet"),
}  # fmt: skip
NAMES = ("online-retail", *_SCRIPTS)
# For a replay in time: all questions, answered or not, and no answers of those who ask.
_REPLAYED = {
    f"{name}-feed": _SCRIPTS[name].replace(" WHERE Id IN (SELECT item_id FROM answered)", "").replace(
        "SELECT *, 'interaction' AS event_type FROM answered",
        "SELECT answered.*, 'interaction' AS event_type FROM answered JOIN questions ON Id = item_id "
        "WHERE OwnerUserId IS DISTINCT FROM user_id",
    )
    for name in ("stackexchange-quantum", "stackexchange-beer")
}  # fmt: skip
_SCRIPTS |= _REPLAYED
_FILES |= {name: _FILES[name.removesuffix("-feed")] for name in _REPLAYED}


def contract_tables(name: str, source: Path, out: Path) -> dict[str, int]:
    """Write items, users and interactions of one data set, validated by the data contract.

    Args:
        name: one of `NAMES`.
        source: the folder of its raw files; for Online Retail, the folder of the example.
        out: the output folder; items of Online Retail have a column `stem`.

    Returns:
        The number of rows by table.
    """
    if name in _SCRIPTS:
        prepare(name, source, out / "raw")
        return ingest(out / "raw", out).rows
    counts = ingest(source, out).rows
    items = f"{out / 'items.parquet'}".replace("'", "''")
    with duckdb.connect() as con, staged(out) as scratch:
        # Colour and size variants of a product share the first five characters; a split keeps them together.
        query = f"SELECT *, left(item_id, 5) AS stem FROM '{items}' ORDER BY item_id"
        con.execute(f"COPY ({query}) TO '{scratch / 'items'}.parquet' (FORMAT parquet)")
    return counts


def prepare(name: str, source: Path, out: Path) -> None:
    """Write items, users and interactions of one data set as Parquet, for `recommender.data.tables.ingest`.

    Args:
        name: one of `NAMES` except online-retail.
        source: the folder of its raw files.
        out: the output folder.

    Raises:
        ColdStartError: the data set is unknown, or a raw file is missing.
    """
    if name not in _SCRIPTS:
        raise ColdStartError(f"unknown data set {name!r}; choose one of {', '.join(_SCRIPTS)}")
    missing = [file for file in _FILES[name] if not (source / file).is_file()]
    if missing:
        raise ColdStartError(f"{source} has no {', '.join(missing)}; pass the folder of the raw files of {name}")
    with duckdb.connect() as con:
        con.execute("SET TimeZone = 'UTC'")
        con.create_function("plain_text", _plain_text, ["VARCHAR"], "VARCHAR")
        con.create_function("question_text", _question_text, ["VARCHAR"] * 3, "VARCHAR")
        con.execute(_SCRIPTS[name].format(source=str(source).replace("'", "''")))
        with staged(out) as scratch:
            for table in ("items", "users", "interactions"):
                con.execute(f"COPY (FROM {table} ORDER BY ALL) TO '{scratch / table}.parquet' (FORMAT parquet)")


def _plain_text(markup: str) -> str:
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", markup)).split())


def _question_text(title: str, tags: str, body: str) -> str:
    """Title, then tags, then body: an encoder that reads 256 tokens sees the most informative words first."""
    words = " ".join(re.findall(r"[^<>|]+", tags or "")).replace("-", " ")
    return f"{title} ({words}) {_plain_text(body or '')}"
