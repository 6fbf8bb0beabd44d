"""What is not a vector cache is neither moved, changed nor deleted; reading changes nothing; others cannot read."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from coldstart_udfs import Encoder
from coldstart_udfs.encoder.cache import file as cache_file
from coldstart_udfs.encoder.cache import store
from coldstart_udfs.encoder.cache.file import aside_of, checksum_of, default_path, seed_of
from coldstart_udfs.encoder.cache.salt import salt, salt_id
from coldstart_udfs.encoder.cache.store import VectorCache, key_of
from coldstart_udfs.encoder.cache.upkeep import clear, forget, stats, verify
from coldstart_udfs.errors import ColdStartError
from recommender.cli import main
from tests.support.vectors import WIDTH, vector


def command(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> int:
    monkeypatch.setattr(sys, "argv", ["coldstart", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def filled(path: Path, count: int = 200) -> VectorCache:
    cache = VectorCache(path, "stub", WIDTH)
    cache.put({key_of(str(number)): vector(number) for number in range(count)})
    return cache


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def parquet(path: Path) -> None:
    pq.write_table(pa.table({"a": [1, 2, 3]}), path)


def database(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE orders (id INTEGER)")


def cut_database(path: Path) -> None:
    database(path)
    path.write_bytes(path.read_bytes()[:5000])


FOREIGN: dict[str, Callable[[Path], object]] = {
    "parquet": parquet,
    "text": lambda path: path.write_text("ids\n1\n"),
    "rubbish": lambda path: path.write_bytes(b"rubbish" * 1000),
    "one byte": lambda path: path.write_bytes(b"S"),
    "our own source": lambda path: shutil.copy(str(cache_file.__file__), path),
    "our mark in a text": lambda path: path.write_text("x" * 68 + "Cold"),
    "another database": database,
    "another database, cut": cut_database,
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_a_file_of_something_else_is_named_and_left_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, kind: str
) -> None:
    path = tmp_path / "orders"
    FOREIGN[kind](path)
    before = contents(tmp_path)
    with pytest.raises(ColdStartError, match="orders is no vector cache"):
        Encoder(cache=path)
    for use in (
        stats, verify, clear, lambda path: clear(path, "stub"), lambda path: forget(path, [key_of("a")]),
        lambda path: VectorCache(path, "stub", WIDTH).get([key_of("a")]), filled,
    ):  # fmt: skip
        with pytest.raises(ColdStartError, match="orders is no vector cache"):
            use(path)
    for verb in ("stats", "verify", "clear"):
        assert command(monkeypatch, "cache", verb, "--path", path) == 2
        assert "is no vector cache" in capsys.readouterr().err.replace("\n", " ")
    assert contents(tmp_path) == before


def test_a_folder_is_named_with_a_file_in_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with pytest.raises(ColdStartError, match="is a folder; name a file as vector cache, such as"):
        Encoder(cache=tmp_path)
    for verb in ("stats", "verify", "clear"):
        assert command(monkeypatch, "cache", verb, "--path", tmp_path) == 2
        assert "is a folder" in capsys.readouterr().err
    with pytest.raises(ColdStartError, match="no regular file"):
        Encoder(cache=os.devnull)


def left_by_a_killed_process(path: Path) -> None:
    """The file with its write-ahead log not yet in it."""
    with closing(sqlite3.connect(path)) as db:
        db.execute("UPDATE encoders SET fingerprint = fingerprint")
        db.commit()
        for ending in ("", "-wal"):
            shutil.copy(f"{path}{ending}", f"{path}.copy{ending}")
    for ending in ("", "-wal"):
        os.replace(f"{path}.copy{ending}", f"{path}{ending}")


@pytest.mark.parametrize("state", ["closed", "killed", "cut"])
def test_stats_and_verify_change_nothing(tmp_path: Path, state: str) -> None:
    path = tmp_path / "v.sqlite"
    filled(path)
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("UPDATE vectors SET checksum = checksum + 1 WHERE id = 1")
    if state == "killed":
        left_by_a_killed_process(path)
    if state == "cut":
        path.write_bytes(path.read_bytes()[:20_000])
    before = contents(tmp_path)
    for _ in range(2):
        if state == "cut":
            for look in (stats, verify):
                with pytest.raises(ColdStartError, match=r"v.sqlite is damaged .*coldstart cache clear"):
                    look(path)
        else:
            assert stats(path).vectors == {"stub": 200}
            assert verify(path) == (199, 1)
    after = contents(tmp_path)
    after.pop("v.sqlite-shm", None)  # SQLite's shared memory: it holds nothing of the file
    assert after == before


def test_clear_deletes_a_damaged_cache(tmp_path: Path) -> None:
    path = tmp_path / "v.sqlite"
    filled(path)
    path.write_bytes(path.read_bytes()[:20_000])
    assert clear(path) is None
    assert not path.exists()


def test_a_damaged_cache_is_not_moved_over_a_file_of_something_else(tmp_path: Path) -> None:
    path = tmp_path / "v.sqlite"
    filled(path)
    path.write_bytes(path.read_bytes()[:20_000])
    parquet(aside_of(path))
    before = contents(tmp_path)
    with pytest.raises(ColdStartError, match=r"v.sqlite.damaged is taken"):
        filled(path)
    assert contents(tmp_path) == before


def test_forgetting_leaves_a_file_of_something_else_that_is_called_damaged(tmp_path: Path) -> None:
    path = tmp_path / "v.sqlite"
    parquet(aside_of(path))
    forget(path, [key_of("1")])
    assert aside_of(path).exists()


# -- privacy -------------------------------------------------------------------------------------------


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def forget_salt() -> None:
    salt.cache_clear()
    salt_id.cache_clear()


def test_only_the_user_can_read_what_is_created(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    forget_salt()
    (tmp_path / "home" / "coldstart").mkdir(parents=True, mode=0o755)
    before = os.umask(0o022)
    try:
        filled(default_path())
        filled(tmp_path / "new" / "v.sqlite")
        (tmp_path / "given").mkdir(mode=0o755)
        filled(tmp_path / "given" / "v.sqlite")
    finally:
        os.umask(before)
        forget_salt()
    for path in (default_path(), default_path().with_name("cache.key"), tmp_path / "new" / "v.sqlite",
                 tmp_path / "given" / "v.sqlite"):  # fmt: skip
        assert mode(path) == 0o600
    for folder in (default_path().parent, tmp_path / "new", tmp_path / "given" / "v.sqlite.locks"):
        assert mode(folder) == 0o700
    assert mode(tmp_path / "given") == 0o755  # not ours to close


def test_the_log_beside_an_open_cache_is_private_too(tmp_path: Path) -> None:
    path = tmp_path / "v.sqlite"
    filled(path)
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("UPDATE encoders SET fingerprint = fingerprint")
        assert {mode(file) for file in tmp_path.iterdir() if file.is_file()} == {0o600}


def test_a_text_has_another_key_on_another_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "v.sqlite"
    filled(path, 3)
    here = key_of("1")
    monkeypatch.setattr(store, "salt", lambda: b"another machine's")
    assert key_of("1") != here
    assert VectorCache(path, "stub", WIDTH).get([key_of("1")])[0] == {}
    assert salt() not in path.read_bytes()


def test_two_processes_that_need_the_first_salt_get_the_same(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    first = salt.__wrapped__()
    assert salt.__wrapped__() == first
    key = default_path().with_name("cache.key")
    key.write_bytes(first[:5])
    assert len(salt.__wrapped__()) == 32
    assert sorted(path.name for path in key.parent.iterdir()) == ["cache.key"]


def of_an_earlier_version(path: Path) -> None:
    filled(path, 20)
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("PRAGMA user_version = 0")
        db.execute("CREATE TABLE before (id INTEGER PRIMARY KEY, fingerprint TEXT NOT NULL UNIQUE)")
        db.execute("INSERT INTO before SELECT id, fingerprint FROM encoders")
        db.execute("DROP TABLE encoders")
        db.execute("ALTER TABLE before RENAME TO encoders")


def test_a_cache_of_an_earlier_version_is_begun_anew_with_a_word(tmp_path: Path) -> None:
    path = tmp_path / "v.sqlite"
    of_an_earlier_version(path)
    assert stats(path).vectors == {"stub": 20}
    with pytest.warns(RuntimeWarning, match=r"v.sqlite was written by an earlier version"):
        assert VectorCache(path, "stub", WIDTH).get([key_of("1")])[0] == {}
    filled(path, 5)
    assert verify(path) == (5, 0)


def test_forgetting_in_a_cache_of_an_earlier_version_deletes_it(tmp_path: Path) -> None:
    path = tmp_path / "v.sqlite"
    of_an_earlier_version(path)
    assert (forget(path, [key_of("a")], dry_run=True), path.exists()) == (20, True)
    assert (forget(path, [key_of("a")]), path.exists()) == (20, False)


def test_forgetting_erases_what_another_machine_or_a_lost_salt_left(tmp_path: Path) -> None:
    path = tmp_path / "v.sqlite"
    filled(path, 3)
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("UPDATE encoders SET salt = x'00'")
    assert VectorCache(path, "stub", WIDTH).get([key_of("1")])[0] == {}
    filled(path, 2)
    assert (stats(path).vectors, verify(path)) == ({"stub": 5}, (5, 0))
    assert (forget(path, [key_of("1")], dry_run=True), forget(path, [key_of("1")])) == (4, 4)
    assert stats(path).vectors == {"stub": 1}
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("UPDATE encoders SET salt = randomblob(8)")
    assert clear(path, "stub") == 1


def test_a_cache_of_a_later_version_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "v.sqlite"
    filled(path)
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("PRAGMA user_version = 99")
    with pytest.raises(ColdStartError, match="of a later version"):
        filled(path)


# -- trust ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("planted", [np.nan, np.inf, 3.0, 0.0])
def test_a_vector_with_a_right_checksum_and_wrong_numbers_is_a_miss(tmp_path: Path, planted: float) -> None:
    path = tmp_path / "v.sqlite"
    filled(path)
    blob = np.full(WIDTH, planted, "<f4").tobytes()
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(
            "UPDATE vectors SET vector = ?, checksum = ? WHERE key = ?",
            [blob, checksum_of(seed_of("stub"), key_of("7"), blob), key_of("7")],
        )
    assert verify(path) == (199, 1)
    cache = VectorCache(path, "stub", WIDTH)
    with pytest.warns(RuntimeWarning, match="1 vectors in .* were damaged; they are encoded again"):
        found, vectors = cache.get([key_of(str(number)) for number in range(200)])
    assert set(found) == {key_of(str(number)) for number in range(200) if number != 7}
    for number in (6, 8, 199):
        np.testing.assert_array_equal(vectors[found[key_of(str(number))]], vector(number))
    assert verify(path) == (199, 0)


def test_vectors_of_a_model_that_fails_are_not_kept(tmp_path: Path) -> None:
    cache = VectorCache(tmp_path / "v.sqlite", "stub", WIDTH)
    cache.put({key_of("nan"): np.full(WIDTH, np.nan, np.float32), key_of("1"): vector(1)})
    assert list(cache.get([key_of("nan"), key_of("1")])[0]) == [key_of("1")]
