from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from coldstart_udfs import Encoder
from coldstart_udfs.encoder.bulk import embed_file, embed_table
from coldstart_udfs.errors import ColdStartError, FingerprintError
from tests.support.commands import RAW, must, run
from tests.support.encoders import StubEncoder

EMBED = ("coldstart", "embed", "items.parquet", "--text", "description", "--out", "embedded.parquet")


@pytest.fixture(scope="module")
def lines() -> pa.Table:
    """40,000 lines of Online Retail: some 2,500 different texts, some lines without one."""
    with duckdb.connect() as con:
        return con.sql(f"""
            SELECT row_number() OVER () AS line, description, quantity FROM '{RAW}/transactions.parquet' LIMIT 40000
        """).to_arrow_table()


@pytest.fixture
def folder(tmp_path: Path, lines: pa.Table) -> Path:
    pq.write_table(lines, tmp_path / "items.parquet", row_group_size=7_000)
    return tmp_path


def bulk_stub() -> Any:
    encoder: Any = StubEncoder()
    encoder.files = SimpleNamespace(model="stub")
    return encoder


def column(path: Path, name: str) -> list[object]:
    values: list[object] = pq.read_table(path, columns=[name])[name].to_pylist()
    return values


def test_every_row_comes_out_in_order_with_its_vector(folder: Path, lines: pa.Table) -> None:
    told = must(*EMBED, cwd=folder)
    assert "40,000 rows" in told
    out = pq.read_table(folder / "embedded.parquet")
    assert out.drop_columns(["embedding", "embedding_fingerprint"]).equals(lines)
    encoder = Encoder()
    sample = range(0, 40_000, 997)
    texts = [lines["description"][row].as_py() for row in sample]
    for row, text in zip(sample, texts, strict=True):
        stored = out["embedding"][row].as_py()
        if text is None:
            assert stored is None
        else:
            np.testing.assert_allclose(stored, encoder.encode([text])[0], atol=1e-6)
    assert out["embedding"].null_count == lines["description"].null_count > 0
    assert not (folder / "embedded.parquet.unfinished").exists()


def test_duckdb_reads_the_file_and_its_fingerprint(folder: Path) -> None:
    must(*EMBED, "--backend", "static", cwd=folder)
    with duckdb.connect() as con:
        kind, fingerprint = con.sql(f"""
            SELECT DISTINCT typeof(embedding), embedding_fingerprint FROM '{folder}/embedded.parquet'
        """).fetchall()[0]
        metadata = con.sql(f"""
            SELECT decode(value) FROM parquet_kv_metadata('{folder}/embedded.parquet')
            WHERE decode(key) = 'embedding_fingerprint'
        """).fetchall()
    assert kind == "FLOAT[]"
    assert metadata == [(fingerprint,)]
    assert fingerprint == Encoder(backend="static").fingerprint


def test_whoever_reads_the_file_opens_the_encoder_that_wrote_it(folder: Path) -> None:
    must(*EMBED, "--backend", "static", cwd=folder)
    path = folder / "embedded.parquet"
    assert Encoder.of_parquet(path).backend == "static"
    table = pq.read_table(path)
    pq.write_table(table.replace_schema_metadata({**table.schema.metadata, b"embedding_fingerprint": b"old"}), path)
    with pytest.raises(FingerprintError, match=r"embedded\.parquet.*'old'.*coldstart embed"):
        Encoder.of_parquet(path)
    with pytest.raises(ColdStartError, match="does not say which encoder"):
        Encoder.of_parquet(folder / "items.parquet")


def test_a_killed_run_is_taken_up_by_the_same_command(folder: Path) -> None:
    program = Path(sys.executable).with_name("coldstart")
    running = subprocess.Popen(
        [program, *EMBED[1:], "--no-cache"], cwd=folder, stdout=subprocess.DEVNULL, env=os.environ
    )
    work = folder / "embedded.parquet.unfinished"
    deadline = time.monotonic() + 120
    while not list(work.glob("000000-*.arrow")) and time.monotonic() < deadline:
        time.sleep(0.02)
    another = run(*EMBED, "--backend", "static", cwd=folder)
    running.send_signal(signal.SIGKILL)
    running.wait()
    assert another.returncode == 2
    assert f"embedded.parquet is being written by `coldstart embed` (process {running.pid} on " in another.stderr
    assert list(work.glob("000000-*.arrow"))
    assert not (folder / "embedded.parquet").exists()
    untouched = pq.read_table(folder / "items.parquet").num_rows - 16_384
    told = must(*EMBED, "--no-cache", cwd=folder)
    assert f"/{untouched}" in told  # the bar counts what is left
    assert column(folder / "embedded.parquet", "line") == column(folder / "items.parquet", "line")


def test_parts_of_another_input_are_not_taken_up(folder: Path, lines: pa.Table) -> None:
    work = folder / "embedded.parquet.unfinished"
    work.mkdir()
    (work / "job.json").write_text(json.dumps({"source": "another"}))
    (work / "000000.arrow").write_bytes(b"not ours")
    must(*EMBED, "--backend", "static", cwd=folder)
    assert column(folder / "embedded.parquet", "line") == lines["line"].to_pylist()


def test_a_part_counts_only_for_its_rows_even_if_the_file_looks_unchanged(tmp_path: Path) -> None:
    """The same size and the same time of change, and other rows."""
    source, out = tmp_path / "items.parquet", tmp_path / "out.parquet"
    sizes = set()
    for first, last in (("a lamp", "poison"), ("b lamp", "b lamp")):
        texts = [first] * 16_384 + [last] * 10
        plain = {"use_dictionary": False, "compression": "none", "write_statistics": False}
        pq.write_table(pa.table({"description": texts}), source, **plain)
        os.utime(source, ns=(10**18, 10**18))
        sizes.add(source.stat().st_size)
        with pytest.raises(ValueError, match="cannot be encoded") if last == "poison" else nullcontext():
            embed_file(source, out, text="description", encoder=bulk_stub())
    assert len(sizes) == 1
    assert set(column(out, "description")) == {"b lamp"}
    np.testing.assert_allclose(pq.read_table(out)["embedding"][0].as_py(), StubEncoder.vector("b lamp"), atol=1e-6)


def test_a_folder_that_is_not_ours_is_left_alone(tmp_path: Path) -> None:
    source, work = tmp_path / "items.parquet", tmp_path / "out.parquet.unfinished"
    pq.write_table(pa.table({"description": ["lamp"]}), source)
    work.mkdir()
    (work / "novel.txt").write_text("chapter one")
    with pytest.raises(ColdStartError, match=r"out\.parquet\.unfinished does not contain unfinished parts"):
        embed_file(source, tmp_path / "out.parquet", text="description", encoder=bulk_stub())
    assert (work / "novel.txt").exists()


def test_texts_that_were_cut_are_counted(tmp_path: Path) -> None:
    pq.write_table(pa.table({"description": ["lamp " * 300, "red lamp", " "]}), tmp_path / "items.parquet")
    told = must(*EMBED, cwd=tmp_path)
    assert "1 without text (NULL)" in told
    assert "1 cut at 256 tokens" in told


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (pa.table({"title": ["red lamp"]}), "has no column 'description'; it has ['title']"),
        (pa.table({"description": [1]}), "column 'description' is int64, not text"),
        (pa.table({"description": ["a"], "embedding": [[1.0]]}), "has ['embedding'] already"),
    ],
)
def test_input_that_cannot_be_used_is_named_and_nothing_is_written(tmp_path: Path, table: pa.Table, said: str) -> None:
    pq.write_table(table, tmp_path / "items.parquet")
    done = run(*EMBED, cwd=tmp_path)
    assert done.returncode == 2
    assert said in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["items.parquet"]


def test_a_file_that_is_no_parquet_is_named(tmp_path: Path) -> None:
    (tmp_path / "items.parquet").write_text("id,description\n1,red lamp\n")
    done = run(*EMBED, cwd=tmp_path)
    assert done.returncode == 2
    assert "items.parquet cannot be read as parquet" in done.stderr


def test_a_csv_file_in_any_encoding_is_embedded_with_its_other_columns_as_text(tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_bytes("id;name\n007;Küche\n008;\n".encode("latin-1"))
    with pytest.raises(ColdStartError, match=r"is not UTF-8 \(line 2\)"):
        embed_file(tmp_path / "items.csv", tmp_path / "out.parquet", text="name", encoder=bulk_stub())
    assert [path.name for path in tmp_path.iterdir()] == ["items.csv"]
    embed_file(tmp_path / "items.csv", tmp_path / "out.parquet", text="name", encoder=bulk_stub(), encoding="latin-1")
    assert column(tmp_path / "out.parquet", "id") == ["007", "008"]
    assert column(tmp_path / "out.parquet", "name") == ["Küche", None]
    assert [vector is not None for vector in column(tmp_path / "out.parquet", "embedding")] == [True, False]


def test_the_input_is_never_the_output(folder: Path) -> None:
    before = (folder / "items.parquet").read_bytes()
    done = run(*EMBED[:-1], "items.parquet", cwd=folder)
    assert done.returncode == 2
    assert "choose another --out" in done.stderr
    assert (folder / "items.parquet").read_bytes() == before


def test_an_empty_table_keeps_its_columns() -> None:
    table = embed_table(pa.table({"description": pa.array([], pa.string())}), "description", Encoder(backend="torch"))
    assert table.column_names == ["description", "embedding", "embedding_fingerprint"]


def test_ray_that_is_not_installed_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from coldstart_udfs.encoder import bulk_ray

    monkeypatch.setattr(bulk_ray, "find_spec", lambda name: None)
    with pytest.raises(ColdStartError, match=r"pip install 'feast-coldstart\[ray\]'"):
        bulk_ray.embed_directory(
            str(folder), str(folder / "out"), text="description", model=None, backend="auto", cache=True, workers=1
        )


@pytest.mark.slow
def test_ray_gives_the_same_vectors(tmp_path: Path, lines: pa.Table) -> None:
    pytest.importorskip("ray", reason="the extra `ray`, which `make test-all` installs")
    source = tmp_path / "items"
    source.mkdir()
    for number in range(4):
        pq.write_table(lines.slice(number * 2_000, 2_000), source / f"{number}.parquet")
    command = ("coldstart", "embed", source, "--text", "description", "--out", "out", "--engine", "ray")
    told = must(*command, cwd=tmp_path)
    assert "8,000 rows read, 8,000 written" in told
    again = run(*command, cwd=tmp_path)
    assert again.returncode == 2
    assert "out is not empty" in again.stderr
    out = pq.read_table(tmp_path / "out").sort_by("line")
    expected = embed_table(lines.slice(0, 8_000), "description", Encoder())
    assert out["line"].to_pylist() == expected["line"].to_pylist()
    assert out["embedding_fingerprint"].to_pylist() == expected["embedding_fingerprint"].to_pylist()
    assert pq.read_schema(next((tmp_path / "out").glob("*.parquet"))).metadata[b"embedding_fingerprint"]
    for ours, theirs in zip(expected["embedding"], out["embedding"], strict=True):
        np.testing.assert_allclose(ours.as_py() or [], theirs.as_py() or [], atol=1e-6)
