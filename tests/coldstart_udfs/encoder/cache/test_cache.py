from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import warnings
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from coldstart_udfs import Encoder
from coldstart_udfs.encoder.cache.file import aside_of
from coldstart_udfs.encoder.cache.memory import MemoryLayer
from coldstart_udfs.encoder.cache.store import VectorCache, default_path, key_of
from coldstart_udfs.encoder.cache.upkeep import forget, stats, verify
from coldstart_udfs.errors import ColdStartError
from tests.support.commands import must, run
from tests.support.vectors import WIDTH, vector


def filled(path: Path, count: int = 500) -> VectorCache:
    cache = VectorCache(path, "stub", WIDTH)
    cache.put({key_of(str(number)): vector(number) for number in range(count)})
    return cache


def served(path: Path, count: int = 500) -> dict[int, np.ndarray]:
    rows, vectors = VectorCache(path, "stub", WIDTH).get([key_of(str(number)) for number in range(count)])
    return {number: vectors[rows[key_of(str(number))]] for number in range(count) if key_of(str(number)) in rows}


def test_a_text_that_was_encoded_once_comes_from_the_cache(tmp_path: Path) -> None:
    first, second = (Encoder(cache=tmp_path / "cache" / "v.sqlite") for _ in range(2))
    vectors = first.encode(["red lamp", "red lamp", "blue lamp"])
    np.testing.assert_array_equal(second.encode(["blue lamp", "red lamp"]), vectors[[2, 0]])
    assert (first.stats.encoded, second.stats.encoded, second.stats.hits) == (2, 0, 2)


def test_encoders_of_different_fingerprints_share_a_file_and_no_vector(tmp_path: Path) -> None:
    path = tmp_path / "v.sqlite"
    one, other = Encoder(backend="onnx-int8", cache=path), Encoder(backend="torch", cache=path)
    assert not np.array_equal(one.encode(["red lamp"]), other.encode(["red lamp"]))
    assert stats(path).vectors == {one.fingerprint: 1, other.fingerprint: 1}


def test_two_threads_that_want_one_text_encode_it_once(tmp_path: Path) -> None:
    encoder = Encoder(cache=tmp_path / "v.sqlite")
    threads = [threading.Thread(target=encoder.encode, args=(["red lamp"],)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert encoder.stats.encoded == 1


def test_the_memory_layer_keeps_its_size_and_the_newest() -> None:
    layer = MemoryLayer(WIDTH, limit=3 * WIDTH * 4)
    for number in range(5):
        layer.put({key_of(str(number)): vector(number)})
    out = np.zeros((5, WIDTH), dtype=np.float32)
    assert layer.fill([key_of(str(number)) for number in range(5)], range(5), out) == [0, 1]
    np.testing.assert_array_equal(out[2:], [vector(2), vector(3), vector(4)])


def test_what_was_put_is_served_by_another_process_too(tmp_path: Path) -> None:
    filled(tmp_path / "v.sqlite")
    found = served(tmp_path / "v.sqlite", 600)
    assert sorted(found) == list(range(500))
    np.testing.assert_array_equal(found[7], vector(7))


WRITER = """
import sys
from pathlib import Path
from coldstart_udfs.encoder.cache.store import VectorCache, key_of
from tests.support.vectors import WIDTH, vector
cache = VectorCache(Path(sys.argv[1]), "stub", WIDTH)
start = int(sys.argv[2])
while True:
    numbers = range(start, start + 50)
    cache.put({key_of(str(number)): vector(number) for number in numbers})
    print(start + 50, flush=True)
    start += 50
"""


def test_killed_at_any_moment_nothing_reported_is_lost_and_nothing_served_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "v.sqlite"
    moments = random.Random(0)
    reported = 0
    for _ in range(20):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path), str(reported)], stdout=subprocess.PIPE, text=True,
            cwd=Path(__file__).resolve().parents[4],
        )  # fmt: skip
        assert writer.stdout is not None
        reported = int(writer.stdout.readline())
        time.sleep(moments.uniform(0, 0.02))
        writer.send_signal(signal.SIGKILL)
        reported = int(([str(reported), *writer.stdout.read().split("\n")[:-1]])[-1])
        writer.stdout.close()
        writer.wait()
    found = served(path, reported + 1000)
    assert set(range(reported)) <= set(found)
    for number, served_vector in found.items():
        np.testing.assert_array_equal(served_vector, vector(number))
    assert verify(path) == (len(found), 0)


@pytest.mark.filterwarnings("ignore:.*(damaged|cannot be used).*:RuntimeWarning")
def test_flipped_bits_never_give_a_wrong_vector(tmp_path: Path) -> None:
    path = tmp_path / "v.sqlite"
    filled(path)
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()
    sound = path.read_bytes()
    places = random.Random(1)
    for _ in range(60):
        flipped = bytearray(sound)
        for _ in range(20):
            flipped[places.randrange(len(flipped))] ^= 1 << places.randrange(8)
        for file in tmp_path.iterdir():
            if file.is_file():
                file.unlink()
        path.write_bytes(flipped)
        try:
            for number, found in served(path).items():
                np.testing.assert_array_equal(found, vector(number))
        except ColdStartError:  # the bits that say whose file it is
            continue
        filled(path)
        assert all(np.array_equal(found, vector(number)) for number, found in served(path).items())


@pytest.mark.parametrize("share", [0.01, 0.4, 0.9])
def test_a_truncated_store_is_named_set_aside_and_begun_anew(tmp_path: Path, share: float) -> None:
    path = tmp_path / "v.sqlite"
    filled(path)
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for number, found in served(path).items():
            np.testing.assert_array_equal(found, vector(number))
        filled(path)
        assert len(served(filled(path).path)) == 500
    assert any("v.sqlite is damaged" in str(warning.message) for warning in told)
    assert (tmp_path / "v.sqlite.damaged").exists()
    assert verify(path) == (500, 0)


def test_rubbish_in_place_of_the_machines_cache_costs_a_warning(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    path = default_path()
    path.parent.mkdir()
    path.write_bytes(b"rubbish" * 1000)
    with pytest.warns(RuntimeWarning, match=r"sqlite is damaged .* moved to .*sqlite.damaged"):
        filled(path)
    assert aside_of(path).read_bytes() == b"rubbish" * 1000
    assert len(served(filled(path).path)) == 500


def test_a_vector_whose_numbers_changed_is_encoded_anew(tmp_path: Path) -> None:
    path = tmp_path / "v.sqlite"
    right = Encoder(cache=path).encode(["red lamp"])
    with sqlite3.connect(path) as db:
        db.execute("UPDATE vectors SET vector = zeroblob(length(vector))")
    db.close()
    with pytest.warns(RuntimeWarning, match=r"1 vectors in .*v.sqlite were damaged"):
        np.testing.assert_array_equal(Encoder(cache=path).encode(["red lamp"]), right)
    np.testing.assert_array_equal(Encoder(cache=path).encode(["red lamp"]), right)


def test_a_database_of_something_else_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "shop.sqlite"
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE orders (id INTEGER)")
    db.close()
    before = path.read_bytes()
    with pytest.raises(ColdStartError, match="something else; choose another file"):
        Encoder(cache=path).encode(["red lamp"])
    assert path.read_bytes() == before


def test_a_full_disk_costs_one_warning_and_no_vector(tmp_path: Path) -> None:
    # A limit on the size of files meets the store as a full disk does: a write that fails in the middle.
    code = f"""
import resource, warnings
import numpy as np
from coldstart_udfs.encoder.cache.store import VectorCache, key_of
from tests.support.vectors import WIDTH, vector
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
with warnings.catch_warnings(record=True) as told:
    warnings.simplefilter("always")
    cache = VectorCache({str(tmp_path / "v.sqlite")!r}, "stub", WIDTH)
    for start in range(0, 20_000, 500):
        cache.put({{key_of(str(number)): vector(number) for number in range(start, start + 500)}})
    rows, vectors = cache.get([key_of(str(number)) for number in range(20_000)])
    assert 0 < len(rows) < 20_000, len(rows)
    numbers = {{key_of(str(n)): n for n in range(20_000)}}
    assert all(np.array_equal(vectors[row], vector(numbers[key])) for key, row in rows.items())
print(len(told), told[0].message)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False,
        cwd=Path(__file__).resolve().parents[4],
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("1 the vector cache ")
    assert "encoding goes on without it" in done.stdout


def test_the_store_keeps_to_its_limit_and_the_oldest_go_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLDSTART_CACHE_MB", "1")
    path = tmp_path / "v.sqlite"
    cache, one = VectorCache(path, "stub", 384), np.full(384, 384**-0.5, np.float32)
    for start in range(0, 3_000, 100):
        cache.put({key_of(str(number)): one for number in range(start, start + 100)})
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()
    assert path.stat().st_size < 1.3 * 2**20
    found, _ = cache.get([key_of(str(number)) for number in range(3_000)])
    assert key_of("0") not in found
    assert key_of("2999") in found


def test_a_limit_that_is_no_number_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLDSTART_CACHE_MB", "plenty")
    with pytest.raises(ColdStartError, match="COLDSTART_CACHE_MB is 'plenty'"):
        VectorCache(tmp_path / "v.sqlite", "stub", WIDTH)


def say(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdin is not None
    process.stdin.write(line + "\n")
    process.stdin.flush()


def hear(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


OPENER = """
import sys, warnings
import numpy as np
from coldstart_udfs.encoder.cache.store import VectorCache, key_of
warnings.simplefilter("error")
print("ready", flush=True)
for path in map(str.strip, sys.stdin):
    cache = VectorCache(path, "stub", 4)
    cache.put({key_of(sys.argv[1]): np.full(4, 0.5, dtype=np.float32)})
    print(len(cache.get([key_of(sys.argv[1])])[0]), flush=True)
"""


def test_processes_that_begin_a_file_at_the_same_moment_all_find_their_vectors(tmp_path: Path) -> None:
    files = [tmp_path / f"{number}.sqlite" for number in range(60)]
    with ExitStack() as stack:
        openers = [
            stack.enter_context(subprocess.Popen(
                [sys.executable, "-c", OPENER, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            ))
            for name in "abcd"
        ]  # fmt: skip
        assert [hear(opener) for opener in openers] == ["ready\n"] * 4
        for file in files:
            for opener in openers:
                say(opener, str(file))
            assert [hear(opener) for opener in openers] == ["1\n"] * 4
    assert {verify(file) for file in files} == {(4, 0)}


TWIN = """
import sys
from coldstart_udfs import Encoder
encoder = Encoder(backend="onnx-int8", cache=sys.argv[1])
texts = [f"{colour} lamp number {number}" for number in range(1_000) for colour in
         ("red", "blue", "green", "white", "black", "pink", "brown", "grey", "gold", "lime")]
encoder.encode(["loaded"])
print("ready", flush=True)
sys.stdin.readline()
vectors = encoder.encode(texts)
print(encoder.stats.encoded, float(vectors.sum()))
"""


def test_two_processes_that_want_the_same_10_000_texts_share_the_work(tmp_path: Path) -> None:
    Encoder(backend="onnx-int8", cache=False).encode(["builds the model"])
    twins = [
        subprocess.Popen(
            [sys.executable, "-W", "error", "-c", TWIN, str(tmp_path / "v.sqlite")], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, text=True, env=os.environ,
        )
        for _ in range(2)
    ]
    for twin in twins:
        assert hear(twin) == "ready\n"
    results = []
    for twin in twins:
        say(twin, "go")
    for twin in twins:
        out, _ = twin.communicate(timeout=240)
        assert twin.returncode == 0
        results.append(out.split())
    encoded = sum(int(count) for count, _ in results)
    assert 10_000 <= encoded <= 10_500
    assert results[0][1] == results[1][1]
    assert verify(tmp_path / "v.sqlite")[1] == 0


def test_what_is_forgotten_leaves_no_byte_behind_and_the_others_are_served(tmp_path: Path) -> None:
    path = tmp_path / "v.sqlite"
    filled(path)
    VectorCache(path, "other", WIDTH).put({key_of("7"): vector(1007), key_of("8"): vector(1008)})
    keys = [key_of("7"), key_of("300"), key_of("nobody's"), key_of("7")]
    assert bytes_of(tmp_path, vector(7), vector(1007)) == 2
    assert (forget(path, keys, dry_run=True), forget(path, keys), forget(path, keys)) == (3, 3, 0)
    assert bytes_of(tmp_path, vector(7), vector(300), vector(1007)) == 0
    assert not any(key in file.read_bytes() for key in keys for file in tmp_path.iterdir() if file.is_file())
    assert bytes_of(tmp_path, vector(8), vector(1008)) == 2
    assert sorted(served(path)) == [number for number in range(500) if number not in (7, 300)]
    assert verify(path) == (499, 0)


def bytes_of(folder: Path, *vectors: np.ndarray) -> int:
    content = b"".join(file.read_bytes() for file in folder.iterdir() if file.is_file())
    return sum(one.astype("<f4").tobytes() in content for one in vectors)


def test_what_the_store_dropped_before_without_clearing_its_bytes_goes_too(tmp_path: Path) -> None:
    path = tmp_path / "v.sqlite"
    filled(path)
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA secure_delete = OFF")
        db.execute("DELETE FROM vectors WHERE key = ?", [key_of("7")])
    db.close()
    assert bytes_of(tmp_path, vector(7)) == 1
    forget(path, [key_of("7")])
    assert bytes_of(tmp_path, vector(7)) == 0


def test_forgetting_removes_a_file_that_was_set_aside_and_makes_none(tmp_path: Path) -> None:
    path = tmp_path / "v.sqlite"
    aside = tmp_path / "v.sqlite.damaged"
    for exists in (False, True):
        filled(path)
        for file in (path.with_name("v.sqlite-wal"), path.with_name("v.sqlite-shm")):
            file.unlink(missing_ok=True)
        path.replace(aside)
        if exists:
            filled(path)
        assert forget(path, [key_of("7")], dry_run=True) == exists
        assert aside.exists()
        assert forget(path, [key_of("7")]) == exists
        assert not aside.exists()
        assert path.exists() == exists


def test_forgetting_waits_for_readers_of_the_store(tmp_path: Path) -> None:
    path = tmp_path / "v.sqlite"
    filled(path)
    reader = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM vectors").fetchone()
    done = threading.Timer(1, lambda: reader.execute("COMMIT"))
    done.start()
    forget(path, [key_of("7")])
    done.join()
    reader.close()
    assert bytes_of(tmp_path, vector(7)) == 0


def test_forgetting_in_a_database_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "shop.sqlite"
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE orders (id INTEGER)")
    db.close()
    with pytest.raises(ColdStartError, match="something else"):
        forget(path, [key_of("7")])


def test_the_commands_count_check_and_clear(tmp_path: Path) -> None:
    path = tmp_path / "v.sqlite"
    filled(path)
    VectorCache(path, "other", WIDTH).put({key_of("a"): vector(0)})
    shown = must("coldstart", "cache", "stats", "--path", path, cwd=tmp_path)
    assert ["500", "stub"] in [line.split() for line in shown.splitlines()]
    with sqlite3.connect(path) as db:
        db.execute("UPDATE vectors SET checksum = checksum + 1 WHERE id IN (1, 2)")
    db.close()
    assert must("coldstart", "cache", "verify", "--path", path, cwd=tmp_path).split()[0] == "499"
    assert "500 vectors removed" in must(
        "coldstart", "cache", "clear", "--path", path, "--fingerprint", "stub", cwd=tmp_path
    )
    refused = run("coldstart", "cache", "clear", "--path", path, "--fingerprint", "stub", cwd=tmp_path)
    assert refused.returncode == 2
    assert "it holds ['other']" in refused.stderr
    assert "1 vectors removed" in must("coldstart", "cache", "clear", "--path", path, cwd=tmp_path)
    assert not path.exists()
