"""What users searched for, in `coldstart evaluate`: heard before what is held out, and not after it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from coldstart_udfs import Encoder
from recommender.data.dataset import Dataset, files_in, read_dataset
from recommender.data.entities import Entities
from recommender.data.interactions import Interactions
from recommender.evaluation import baselines
from recommender.evaluation.comparison import evaluate
from recommender.measure.splits import SPLITS, Split, make_splits
from recommender.tuning import validation
from recommender.tuning.divisions import Division
from tests.support.word_model import BACKEND, word_model

START, CUTOFF = datetime(2024, 1, 1), datetime(2024, 3, 1)
KINDS = ("lamp", "pot", "flag", "mug")
USERS, VISITS, DAYS_BETWEEN = 60, 6, 15


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    words = [*KINDS, *(f"number{n}" for n in range(15)), *(f"day{n}" for n in range(401))]
    return word_model(tmp_path_factory.mktemp("model") / "words", words)


@pytest.fixture(scope="module")
def shop(model: str, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Nobody says anything of himself; each searches for his kind of things the day before each purchase, and later."""
    folder = tmp_path_factory.mktemp("shop")
    items = [f"{kind}{n:02},{kind} number{n}" for kind in KINDS for n in range(15)]
    draw = np.random.default_rng(0)
    events = []
    for user in range(USERS):
        kind = KINDS[user % len(KINDS)]
        for visit, n in enumerate(draw.choice(15, VISITS, replace=False).tolist()):
            day = 1 + user % 7 + visit * DAYS_BETWEEN
            events.append(f"u{user:02},{kind}{n:02},{at(day)},purchase,")
            events.append(f"u{user:02},,{at(day - 1)},search,{kind} day{day - 1}")
        events.append(f"u{user:02},,{at(400)},search,{kind} day400")
    write(folder / "items.csv", "item_id,description", items)
    write(folder / "interactions.csv", "user_id,item_id,event_timestamp,event_type,query", events)
    return read_dataset(*files_in(folder), model=model, backend=BACKEND)


def at(day: int) -> str:
    return (START + timedelta(days=day)).isoformat()


def write(path: Path, head: str, rows: Sequence[str]) -> None:
    path.write_text("\n".join([head, *rows]) + "\n")


def split(shop: Dataset, kind: str) -> list[Split]:
    return make_splits(
        shop.interactions, shop.users, shop.items, kind, cutoff=CUTOFF if kind == "temporal" else None,
        searchers=shop.searchers,
    )  # fmt: skip


def searched(text: str) -> list[int]:
    """The days of the searches in a description."""
    return [int(line.split("day")[1]) for line in text.split("\n") if line]


def day(moment: np.datetime64) -> int:
    return int((moment - np.datetime64(START, "D")) / np.timedelta64(1, "D"))


def check_heard(users: Entities, learned: Interactions, everything: Interactions) -> int:
    """All that a user searched for before what is not learned from, and nothing else; returns how much was heard."""
    keys = set(zip(learned.users.tolist(), learned.items.tolist(), learned.timestamps.tolist(), strict=True))
    heard = 0
    for user, text in enumerate(users.descriptions):
        rows = np.flatnonzero(everything.users == user).tolist()
        hidden = [everything.timestamps[row] for row in rows
                  if (user, int(everything.items[row]), everything.timestamps[row].item()) not in keys]  # fmt: skip
        until = day(min([*hidden, learned.timestamps.max() + np.timedelta64(1, "D")]))
        days = [user % 7 + visit * DAYS_BETWEEN for visit in range(VISITS)]
        assert searched(text) == sorted((n for n in days if n < until), reverse=True), (user, until)
        heard += len(searched(text))
    return heard


@pytest.mark.parametrize("kind", SPLITS)
def test_descriptions_hold_the_searches_before_what_is_held_out_and_none_after(
    kind: str, shop: Dataset, model: str
) -> None:
    encoder = Encoder(model, backend=BACKEND, cache=False)
    for held in split(shop, kind):
        assert check_heard(held.users, held.train, shop.interactions) > USERS
        texts = list(held.users.descriptions)
        said = [row for row, text in enumerate(texts) if text]
        expected = encoder.encode([texts[row] for row in said])
        np.testing.assert_allclose(held.users.embeddings[said], expected, atol=1e-6)


def test_a_new_user_is_heard_before_his_first_purchase_alone(shop: Dataset) -> None:
    (held,) = split(shop, "user_cold")
    assert len(held.asked)
    for user in held.asked.tolist():
        assert held.users.descriptions[user] == f"{KINDS[user % len(KINDS)]} day{user % 7}"


def test_nobody_is_heard_after_the_cut_off(shop: Dataset) -> None:
    (held,) = split(shop, "temporal")
    heard = [searched(text) for text in held.users.descriptions]
    assert all(days[0] < (CUTOFF - START).days for days in heard)
    assert max(map(len, heard)) == 4  # of the six visits, those before it


def test_every_method_ranks_new_users_better_when_it_hears_them(shop: Dataset) -> None:
    heard, deaf = (
        {row["method"]: row["ndcg@20"] for row in found.result["rows"] if row["candidates"] == "overall"}
        for found in (evaluate(data, "user_cold", seeds=1, methods=["popularity", "TF-IDF cosine"])
                      for data in (shop, replace(shop, searchers=None)))
    )  # fmt: skip
    assert heard["popularity"] == deaf["popularity"]
    assert min(heard["coldstart"], heard["TF-IDF cosine"]) > 1.5 * max(deaf.values())


def test_parameters_are_chosen_on_words_before_what_is_set_aside(shop: Dataset, monkeypatch) -> None:
    chosen: list[int] = []

    def tune(parameters, divisions: Sequence[Division], **options):
        for one in divisions:
            assert len(one.wanted)
            chosen.append(check_heard(one.users, one.learned, shop.interactions))
        return original(parameters, divisions, **options)

    original = validation.tune
    monkeypatch.setattr(validation, "tune", tune)
    (held,) = split(shop, "user_cold")
    model = baselines.fit_ours(held, 0)
    assert len(chosen) > 2
    assert min(chosen) > USERS // 2
    assert model.users.descriptions == held.users.descriptions


def test_what_is_finished_without_searches_is_no_result_with_them(shop: Dataset, tmp_path: Path, monkeypatch) -> None:
    fitted: list[Split] = []
    original = baselines.METHODS["popularity"]
    monkeypatch.setitem(baselines.METHODS, "popularity", lambda held, seed: fitted.append(held) or original(held, seed))
    for data in (shop, shop, replace(shop, searchers=None)):
        evaluate(data, "user_cold", seeds=1, methods=["popularity"], tuning=0, unfinished=tmp_path / "unfinished")
    assert len(fitted) == 2
