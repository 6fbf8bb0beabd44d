"""Measure the SQL functions, each compared with an alternative in the same run: `make bench-sql`.

Writes its section of docs/explanation/performance.md. Ratios are ratios of medians over interleaved rounds.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from pathlib import Path

import duckdb
import pyarrow as pa
from common import Row, interleaved, short_texts, timed, write_section
from peers import peers

import coldstart_udfs
from coldstart_udfs import Encoder

ROWS, DISTINCT = 100_000, 2_000


def main() -> None:
    """Measure everything and write the section; with FOLDER arguments, also on the DuckDB version in each folder."""
    if sys.argv[1:] == ["encoding"]:
        print(json.dumps(encoding()))
        return
    rows = encoding()
    for other in sys.argv[1:]:
        rows += on(other)
    for measure in (text_functions, nearest, prompt, peers):
        print(f"{measure.__name__} …", file=sys.stderr, flush=True)
        rows += measure()
    for row in rows:
        print(*row, sep=" | ")
    write_section(
        "sql", "make bench-sql",
        "Ratios are ratios of medians of five interleaved rounds in one run. The backend is onnx-int8 (`auto`). "
        "Texts are product texts of Online Retail. Unless a row says otherwise, cache files start empty and DuckDB "
        "uses one thread per processor. Times exclude loading the model, except in the rows of `SELECT id, "
        "embed(description)`.",
        rows,
    )  # fmt: skip


def encoding() -> list[Row]:
    """Measurements that depend on how DuckDB calls a function."""
    rows = [*repeats(), *warm(), *filtered()]
    if duckdb.__version__.startswith("1."):
        # The thread that runs the query waits for worker threads by spinning.
        rows += [*repeats(threads=1), *filtered(threads=1)]
    return rows


def on(folder: str) -> list[Row]:
    """Run `encoding` with the DuckDB in a folder."""
    print(f"on {folder} …", file=sys.stderr, flush=True)
    done = subprocess.run(
        [sys.executable, __file__, "encoding"], env={**os.environ, "PYTHONPATH": folder}, stdout=subprocess.PIPE,
        text=True, check=True,
    )  # fmt: skip
    return [tuple(row) for row in json.loads(done.stdout)]


def version(threads: int | None = None) -> str:
    """Name this version of DuckDB for a table."""
    return f"DuckDB {duckdb.__version__}{', one thread' if threads else ''}"


def repeats(threads: int | None = None) -> list[Row]:
    """100,000 rows with 2,000 distinct texts, compared with encoding the 2,000 in Python."""
    texts = short_texts(DISTINCT)
    with tempfile.TemporaryDirectory() as folder:
        caches = fresh(folder)

        def python() -> float:
            encoder = Encoder(cache=next(caches))
            encoder.encode(["loaded"])
            return timed(lambda: encoder.encode(texts))

        def sql() -> float:
            with shop(next(caches), [texts[row % DISTINCT] for row in range(ROWS)], threads=threads) as con:
                return timed(lambda: con.execute("SELECT count(embed(t)[1]) FROM t").fetchall())

        seconds = inner_medians({"python": python, "sql": sql})
    return [(
        f"`embed()`, {ROWS:,} rows with {DISTINCT:,} distinct texts ({version(threads)})",
        f"`Encoder.encode` of the {DISTINCT:,}",
        ratio(seconds["sql"], seconds["python"]),
    )]  # fmt: skip


def warm() -> list[Row]:
    """The same rows into a table, all vectors in the cache file and none in memory, compared with copying vectors."""
    texts = short_texts(DISTINCT)
    with tempfile.TemporaryDirectory() as folder:
        cache = Path(folder) / "warm.sqlite"
        Encoder(cache=cache).encode(texts)
        with shop(cache, [texts[row % DISTINCT] for row in range(ROWS)], database=Path(folder) / "shop.duckdb") as con:
            con.execute("CREATE TABLE stored AS SELECT i, embed(t) AS v FROM t")

            def make(query: str) -> float:
                forget()
                # Write out the log of the previous table first, so that no run pays for another run's log.
                con.execute("SELECT embed('loaded'); CHECKPOINT")
                return timed(lambda: con.execute(f"CREATE OR REPLACE TABLE made AS {query}"))

            def sql() -> float:
                return make("SELECT i, embed(t) AS v FROM t")

            def copy() -> float:
                return make("SELECT i, v FROM stored")

            seconds = inner_medians({"sql": sql, "copy": copy})
    return [(
        f"the same into a table, cache file warm, memory empty ({version()})",
        "`CREATE TABLE … AS` from stored vectors",
        ratio(seconds["sql"], seconds["copy"]),
    )]  # fmt: skip


def filtered(threads: int | None = None) -> list[Row]:
    """2,000 texts that a filter leaves of 100,000 rows, 41 per call, compared with the same texts in full chunks."""
    texts = short_texts(DISTINCT)
    with tempfile.TemporaryDirectory() as folder:
        caches = fresh(folder)
        sparse = [texts[row // 50] if row % 50 == 7 else f"other {row}" for row in range(ROWS)]

        def run(rows: list[str], where: str) -> float:
            with shop(next(caches), rows, threads=threads) as con:
                return timed(lambda: con.execute(f"SELECT count(embed(t)[1]) FROM t {where}").fetchall())

        seconds = inner_medians({
            "filtered": lambda: run(sparse, "WHERE i % 50 = 7"), "full": lambda: run(texts, ""),
        })  # fmt: skip
    return [(
        f"`embed()` behind a filter that leaves 2 % of {ROWS:,} rows ({version(threads)})",
        "the same texts in full chunks",
        ratio(seconds["filtered"], seconds["full"]),
    )]  # fmt: skip


def text_functions() -> list[Row]:
    """20,000 rows in which no chunk of 2,048 contains a text twice, so that every row is computed."""
    base = short_texts(3_500)
    texts = [base[row % len(base)] for row in range(20_000)]
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder, shop(Path(folder) / "cache.sqlite", texts) as con:
        con.execute("SET threads = 1; SELECT count(embed(t)) FROM t")
        calls = {"redact": "redact(t)", "clean_text": "clean_text(t)", "tokens": "tokens(t)", "entities": "entities(t)",
                 "tags": "tags(t)"}  # fmt: skip
        runs = {name: partial(con.execute, f"CREATE OR REPLACE TABLE made AS SELECT {call} AS v FROM t")
                for name, call in calls.items()}  # fmt: skip
        seconds = interleaved(runs)
    for name in calls:
        what = f"`{name}`, one thread" + (", vectors cached" if name == "tags" else "")
        rows.append((what, "", f"**{len(texts) / seconds[name]:,.0f} texts/s**"))
    return rows


def nearest() -> list[Row]:
    """The ten nearest of 100,000 rows, compared with DuckDB's cosine, which does not check NULL, zero and width."""
    texts = short_texts(DISTINCT)
    with tempfile.TemporaryDirectory() as folder, shop(Path(folder) / "cache.sqlite", texts) as con:
        con.execute(f"CREATE TABLE items AS SELECT r.i, embed(t) AS embedding FROM t, range({ROWS // DISTINCT}) r(i)")
        con.execute("SET VARIABLE asked = embed('a red lamp')")
        plain = ("SELECT *, list_cosine_similarity(embedding, getvariable('asked')::FLOAT[]) AS s FROM items "
                 "ORDER BY s DESC LIMIT 10")  # fmt: skip
        runs = {"ours": "FROM nearest('items', 'a red lamp')", "plain": plain}
        seconds = interleaved({name: partial(fetch, con, query) for name, query in runs.items()})
    return [(f"`nearest()` among {ROWS:,} rows", "`ORDER BY list_cosine_similarity(…) LIMIT 10`",
             ratio(seconds["ours"], seconds["plain"]))]  # fmt: skip


def prompt() -> list[Row]:
    """Time from the start of `coldstart sql` to its prompt, on a terminal."""
    import pexpect

    def start() -> None:
        command = str(Path(sys.executable).with_name("coldstart"))
        with tempfile.TemporaryDirectory() as home:
            # prompt_toolkit asks a terminal for its cursor position; this one does not answer.
            settings = {"HOME": home, "TERM": "xterm", "NO_COLOR": "1", "PROMPT_TOOLKIT_NO_CPR": "1"}
            child = pexpect.spawn(command, ["sql"], env={**os.environ, **settings}, timeout=60)
            child.expect_exact("coldstart>")
            child.close(force=True)

    return [("`coldstart sql`, start to prompt", "", f"**{interleaved({'shell': start})['shell']:.2f} s**")]


def shop(
    cache: Path, texts: list[str], database: Path | str = ":memory:", threads: int | None = None
) -> duckdb.DuckDBPyConnection:
    """Return a connection with the table t (i, t) and a loaded encoder that uses the cache file."""
    con = coldstart_udfs.connect(database, cache=cache)
    if threads:
        con.execute(f"SET threads = {threads}")
    rows = pa.table({"i": range(len(texts)), "t": texts})  # noqa: F841 - DuckDB finds it by name
    con.execute("CREATE TABLE t AS FROM rows")
    con.execute("SELECT embed('loaded')").fetchall()
    return con


def fetch(con: duckdb.DuckDBPyConnection, query: str) -> None:
    """Run a query and fetch its result."""
    con.execute(query).fetchall()


def forget() -> None:
    """Give up the process's encoders and what they have in memory."""
    from coldstart_udfs.encoder.encoder import clear_shared_encoders

    clear_shared_encoders()


def fresh(folder: str) -> Iterator[Path]:
    """Yield paths of cache files that do not exist yet."""
    return (Path(folder) / f"{number}.sqlite" for number in count())


def inner_medians(runs: dict[str, Callable[[], float]]) -> dict[str, float]:
    """As `interleaved`, but with the seconds that each run returns, which exclude its preparation."""
    from statistics import median

    rounds = [{name: run() for name, run in runs.items()} for _ in range(5)]
    return {name: median(one[name] for one in rounds) for name in runs}


def ratio(ours: float, theirs: float) -> str:
    """Format a ratio and its two times."""
    return f"**{ours / theirs:.2f}×** ({ours:.2f} s, {theirs:.2f} s)"


if __name__ == "__main__":
    main()
