from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from coldstart_udfs import Encoder
from coldstart_udfs.encoder.encoder import clear_shared_encoders, shared_encoder, shared_encoders
from coldstart_udfs.encoder.progress import encoding_progress


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder(backend="torch", cache=False)


def test_two_threads_with_one_encoder_each_hear_of_their_own_texts(encoder: Encoder) -> None:
    together = Barrier(2)

    def work(count: int) -> tuple[int, list[int]]:
        told: list[int] = []
        with encoding_progress(lambda stats: told.append(stats.encoded)) as progress:
            together.wait()
            encoder.encode([f"text {number} of {count}" for number in range(count)])
            together.wait()
        return progress.stats.encoded, told

    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(work, [3, 5]))
    assert [encoded for encoded, _ in found] == [3, 5]
    assert [max(told) for _, told in found] == [3, 5]


def test_an_outer_block_counts_what_inner_ones_encode(encoder: Encoder) -> None:
    with encoding_progress() as outer:
        encoder.encode(["a lamp"])
        with encoding_progress() as inner:
            encoder.encode(["a spade", "a bell"])
        encoder.encode(["a mug"])
    encoder.encode(["after both"])
    assert (outer.stats.encoded, inner.stats.encoded) == (4, 2)


def test_cancelled_work_raises_and_the_encoder_goes_on(encoder: Encoder) -> None:
    with encoding_progress() as progress:
        progress.cancel()
        with pytest.raises(KeyboardInterrupt):
            encoder.encode(["a lamp"])
    assert encoder.encode(["a lamp"]).shape == (1, 384)


def test_hits_are_texts_of_the_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    cached = Encoder(backend="torch", cache=tmp_path_factory.mktemp("cache") / "cache.sqlite")
    cached.encode(["a lamp"])
    with encoding_progress() as progress:
        cached.encode(["a lamp", "a spade"])
    assert (progress.stats.hits, progress.stats.misses, progress.stats.encoded) == (1, 1, 1)


def test_shared_encoders_are_kept_until_they_are_cleared() -> None:
    clear_shared_encoders()
    one = shared_encoder(backend="torch")
    assert shared_encoder(None, True, "torch") is one
    assert shared_encoders() == [one]
    clear_shared_encoders()
    assert shared_encoders() == []
    assert shared_encoder(backend="torch") is not one


def test_the_shared_encoder_that_was_used_longest_ago_goes_first() -> None:
    clear_shared_encoders()
    first, second = shared_encoder("./model 0"), shared_encoder("./model 1")
    for number in range(2, 9):
        assert shared_encoder("./model 0") is first
        shared_encoder(f"./model {number}")
    assert first in shared_encoders()
    assert second not in shared_encoders()
    clear_shared_encoders()
