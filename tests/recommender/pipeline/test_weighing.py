"""`coldstart weigh` on made-up shops whose right weights are known by construction."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest
from typer.testing import CliRunner

from coldstart_udfs.errors import ColdStartError
from coldstart_udfs.settings import ENRICHMENT_FILE, EVENT_WEIGHTS, Enrichment
from recommender.cli.app import app
from recommender.pipeline.weighing import Weighing, weigh
from recommender.tuning.event_weights import Choice
from recommender.tuning.weights import FITTED, KEPT
from tests.support.word_model import BACKEND, word_model

KINDS, DEPTH, USERS = 10, 20, 160
START = datetime(2024, 1, 1)
Event = tuple[str, int, int, float]  # type, user, item, days after the start
DEFAULTS = dict.fromkeys(("alpha", "beta", "evidence_scale", "event_weights", "half_life_days"), "default")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    words = ("thing", "of", *(f"kind{kind}" for kind in range(KINDS)))
    return word_model(tmp_path_factory.mktemp("model") / "words", words)


@pytest.fixture
def repo(tmp_path: Path, model: str) -> Path:
    folder = tmp_path / "feature_repo"
    folder.mkdir()
    (folder / "feature_store.yaml").touch()
    configure(folder, model=model, backend=BACKEND)
    return folder


def configure(repo: Path, **given: Any) -> Enrichment:
    """Write the repository's settings: `given`, and the encoder as it is."""
    path = repo / ENRICHMENT_FILE
    encoder = {"model": Enrichment.read(path).model, "backend": Enrichment.read(path).backend} if path.exists() else {}
    settings = Enrichment(**(encoder | given))
    settings.write(path)
    return settings


@pytest.fixture
def data(tmp_path: Path) -> Callable[[Sequence[Event]], Path]:
    """Writes the contract's tables: ten kinds of things, twenty items of each, and users who wrote nothing."""

    def write(events: Sequence[Event]) -> Path:
        folder = tmp_path / "data"
        folder.mkdir(exist_ok=True)
        items = [(f"i{row:03}", f"thing of kind{row // DEPTH}") for row in range(KINDS * DEPTH)]
        rows = [(f"u{user:03}", f"i{item:03}", START + timedelta(days=at), kind) for kind, user, item, at in events]
        with duckdb.connect() as con:
            con.execute("CREATE TABLE items (item_id TEXT, description TEXT)")
            con.executemany("INSERT INTO items VALUES (?, ?)", items)
            con.execute(
                "CREATE TABLE interactions AS SELECT unnest($1) AS user_id, unnest($2) AS item_id, "
                "unnest($3) AS event_timestamp, unnest($4) AS event_type",
                [list(column) for column in zip(*rows, strict=True)],
            )
            for table in ("items", "interactions"):
                con.execute(f"COPY {table} TO '{folder}/{table}.parquet'")
        return folder

    return write


Kind = Callable[[int], int]  # of a user


def own(user: int) -> int:
    return user % KINDS


def another(user: int) -> int:
    """A kind that has nothing to do with the user's own."""
    return int(np.random.default_rng(user).integers(KINDS))


def shop(*, first: Kind = own, viewed: Kind = own, views: int = 12, then: Kind = own) -> list[Event]:
    """Each user buys three things of one kind and views some of one; a year later he buys three more."""
    rng, events = np.random.default_rng(0), list[Event]()
    for user in range(USERS):
        things = {kind: DEPTH * kind + rng.permutation(DEPTH) for kind in range(KINDS)}
        events += [("purchase", user, int(item), 100 * rng.random()) for item in things[first(user)][:3]]
        events += [("purchase", user, int(item), 395 + 6 * rng.random()) for item in things[then(user)][3:6]]
        events += [("view", user, int(item), 300 * rng.random()) for item in things[viewed(user)][6 : 6 + views]]
    return events


def choice(found: Weighing, name: str) -> Choice:
    return next(one for one in found.choices if one.name == name)


def test_views_that_say_nothing_fall_to_next_to_nothing(data, repo) -> None:
    configure(repo, event_weights={"view": 0.2})
    found = weigh(data(shop(viewed=another)), repo)
    views, settings = choice(found, "view"), Enrichment.of_repo(repo)
    assert views.before == 0.2
    assert views.after == settings.event_weights["view"] <= 0.05
    assert views.gain > views.error > 0
    gains = [one.gain for one in found.choices if one.after != one.before]
    assert found.after - found.before == pytest.approx(sum(gains))
    assert settings.source["event_weights"] == FITTED
    assert found.wanted == ["purchase"]


@pytest.mark.parametrize("before", [0.1, 0.0])
def test_views_that_tell_more_than_purchases_weigh_more_and_never_as_much_as_these(data, repo, before) -> None:
    configure(repo, event_weights={"view": before, "purchase": 3.0})
    folder = data(shop(first=another))
    found = weigh(folder, repo)
    assert 10 * before < choice(found, "view").after < 3
    assert found.after > found.before + 0.1
    # The same is wanted the next time, and found again.
    again = weigh(folder, repo)
    assert again.wanted == ["purchase"]
    assert choice(again, "view").after == choice(found, "view").after


def test_histories_fade_where_tastes_have_turned(data, repo) -> None:
    configure(repo, source=DEFAULTS)
    found = weigh(data(shop(first=another, views=0)), repo)
    settings = Enrichment.of_repo(repo)
    assert [one.name for one in found.choices] == ["half_life_days"]  # of one type there is nothing to weigh
    assert settings.half_life_days == choice(found, "half_life_days").after < math.inf
    assert settings.source == {**DEFAULTS, "half_life_days": FITTED}
    assert settings.event_weights == EVENT_WEIGHTS


def test_the_file_keeps_what_was_not_fitted(data, repo) -> None:
    given = configure(
        repo, alpha=2.5, beta=0.5, evidence_scale=7.0, event_weights={"view": 0.2, "answer": 3.0},
        source={"alpha": "by hand", "event_weights": "by hand"},
    )  # fmt: skip
    weigh(data(shop(viewed=another)), repo)
    settings = Enrichment.of_repo(repo)
    assert settings.event_weights["view"] <= 0.05
    assert settings.event_weights["answer"] == 3.0
    assert settings.source == {"alpha": "by hand", "event_weights": FITTED, "half_life_days": KEPT}
    kept = ("alpha", "beta", "evidence_scale", "model", "backend")
    assert [getattr(settings, name) for name in kept] == [getattr(given, name) for name in kept]


def test_defaults_that_nothing_could_better_say_so(data, repo) -> None:
    configure(repo, source=DEFAULTS)
    told: dict[str, tuple[int, int]] = {}
    found = weigh(data(shop()), repo, report=lambda stage, done, total: told.update({stage: (done, total)}))
    assert told["trials of weights and half-lives"] == (5 + 3, 5 + 3)
    assert [(one.name, one.before, one.after) for one in found.choices] == [
        ("view", 0.1, 0.1), ("half_life_days", math.inf, math.inf),
    ]  # fmt: skip
    assert all(one.gain <= 2.5 * one.error and one.tried != one.after for one in found.choices)
    settings = Enrichment.of_repo(repo)
    assert settings == Enrichment(
        source=DEFAULTS | {"event_weights": KEPT, "half_life_days": KEPT}, model=settings.model, backend=BACKEND
    )


def test_what_was_given_by_hand_and_nothing_could_better_is_by_hand_still(data, repo) -> None:
    configure(repo, event_weights={"view": 0.8}, source={"event_weights": "by hand"})
    found = weigh(data(shop(first=another)), repo)
    settings = Enrichment.of_repo(repo)
    assert choice(found, "view").gain < 0
    assert (settings.event_weights, settings.source["event_weights"]) == ({"view": 0.8}, "by hand")


def test_what_returns_take_back_is_tried_where_something_was_returned_in_time(data, repo) -> None:
    events = shop()
    early = [("return", user, item, at + 1) for kind, user, item, at in events if kind == "purchase" and at < 30]
    late = [("return", user, item, at + 1) for kind, user, item, at in events if kind == "purchase" and at > 395]
    found = weigh(data([*events, *early, *late[:20]]), repo)
    assert [one.name for one in found.choices] == ["view", "return", "half_life_days"]
    assert choice(found, "return").after in (0, 0.5, 1)
    assert found.rankings < USERS  # nobody is asked for what came back

    assert [one.name for one in weigh(data([*events, *late[:20]]), repo).choices] == ["view", "half_life_days"]


def test_data_without_time_are_weighed_on_interactions_drawn_by_chance(data, repo) -> None:
    configure(repo, event_weights={"view": 0.5}, source=DEFAULTS)
    folder = data([(kind, user, item, 0) for kind, user, item, _ in shop(viewed=another)])
    result = CliRunner().invoke(app, ["weigh", "--data", str(folder), "--repo", str(repo)])
    assert "held-out (drawn by chance, since the data have no time) purchase: NDCG@20" in result.output
    settings = Enrichment.of_repo(repo)
    assert settings.event_weights["view"] < 0.5  # a view says nothing here
    assert settings.source["half_life_days"] == "default"  # and of ages there is nothing to learn
    before = (repo / ENRICHMENT_FILE).read_bytes()
    with pytest.raises(ColdStartError, match=r"have the type 'purchase'.* and no time: there is nothing to weigh"):
        weigh(data([("purchase", user, item, 0) for _, user, item, _ in shop()]), repo)
    assert (repo / ENRICHMENT_FILE).read_bytes() == before


def test_types_of_the_settings_are_weighed_and_others_are_an_error(data, repo) -> None:
    folder = data([("glance" if kind == "view" else kind, *rest) for kind, *rest in shop(viewed=another)])
    with pytest.raises(ColdStartError, match="1 type is not known: 'glance'"):
        weigh(folder, repo)
    configure(repo, event_weights={"glance": 0.2})
    assert choice(weigh(folder, repo), "glance").after <= 0.05


def test_who_only_viewed_before_is_asked_too(data, repo) -> None:
    events = [event for event in shop(viewed=another) if event[0] == "view" or event[1] < 10 or event[3] > 395]
    # Of the ten who bought something before come twenty rankings at most, of new items and of known ones.
    assert weigh(data(events), repo).rankings > 2 * 10


def test_too_little_to_judge_by_is_an_error_and_nothing_is_written(data, repo) -> None:
    few, before = [event for event in shop() if event[1] < 9], (repo / ENRICHMENT_FILE).read_bytes()
    with pytest.raises(ColdStartError, match=r"purchase in the two halves.*at least 10 are needed in each.*nothing"):
        weigh(data(few), repo)
    assert (repo / ENRICHMENT_FILE).read_bytes() == before


def test_no_repository_is_an_error(data, tmp_path) -> None:
    with pytest.raises(ColdStartError, match="is not a Feast repository"):
        weigh(data(shop()), tmp_path / "nowhere")


def test_the_command_prints_what_changed_and_the_next_step(data, repo) -> None:
    folder = data(shop(first=another))
    result = CliRunner().invoke(app, ["weigh", "--data", str(folder), "--repo", str(repo)])
    assert result.exit_code == 0, result.output
    rows = [[cell.strip() for cell in line.strip("│").split("│")]
            for line in result.output.splitlines() if line.startswith("│")]  # fmt: skip
    names, before, after, tried, gain, error = zip(*rows, strict=True)
    assert (names, before[0]) == (("view", "half_life_days"), "0.1")
    assert float(after[0]) == Enrichment.of_repo(repo).event_weights["view"] == float(tried[0])
    assert float(gain[0]) > float(error[0]) > 0
    assert "rankings judged, of the latest purchase: NDCG@20" in result.output
    assert "next: coldstart profiles" in result.output
