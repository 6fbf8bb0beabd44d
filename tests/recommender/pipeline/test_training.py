"""`coldstart train` on interactions without time: divided by chance, and nothing of the held-out part is known."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import numpy as np
import pytest
from typer.testing import CliRunner

from coldstart_udfs.errors import ColdStartError, ColdStartWarning
from coldstart_udfs.settings import ENRICHMENT_FILE, Enrichment
from recommender.cli.app import app, init
from recommender.data.entities import with_history
from recommender.data.interactions import Interactions
from recommender.model.bundle import read_manifest
from recommender.model.recommender import HybridRecommender
from recommender.pipeline import training
from recommender.pipeline.profiles import build_profiles
from recommender.pipeline.training import train
from recommender.tracking.records import runs
from recommender.tuning.divisions import Division
from tests.support.small_shop import apply
from tests.support.word_model import BACKEND, word_model

ITEMS, USERS, T = 30, 40, datetime(2024, 1, 1, tzinfo=UTC)
Shop = Callable[[list[str | None]], Path]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    words = ("thing", *(f"kind{kind}" for kind in range(5)))
    return word_model(tmp_path_factory.mktemp("model") / "words", words)


@pytest.fixture
def shop(tmp_path: Path, model: str) -> Shop:
    """A registered shop of five kinds of things; the events have these moments in turn, None for no column."""

    def make(moments: list[str | None]) -> Path:
        folder = tmp_path / "shop"
        init(folder)
        repo, data = folder / "feature_repo", folder / "data"
        Enrichment(model=model, backend=BACKEND).write(repo / ENRICHMENT_FILE)
        data.mkdir()
        draw = random.Random(0)
        rows = ["user_id,item_id,event_timestamp,event_type,query"]
        for number in range(500):
            user = draw.randrange(USERS)
            item, moment = 5 * draw.randrange(ITEMS // 5) + user % 5, moments[number % len(moments)]
            rows.append(f"u{user},i{item},{moment},purchase,")
            if number % 5 == 0:
                rows.append(f"u{user},,{moment},search,kind{user % 5}")
        if moments == [None]:
            rows = [row.replace(",event_timestamp", "").replace(",None", "") for row in rows]
        (data / "interactions.csv").write_text("\n".join(rows) + "\n")
        items = [f"i{n},thing kind{n % 5}" for n in range(ITEMS)]
        (data / "items.csv").write_text("\n".join(["item_id,description", *items]) + "\n")
        users = [f"u{n},{'thing' if n % 2 else ''}" for n in range(USERS)]
        (data / "users.csv").write_text("\n".join(["user_id,description", *users]) + "\n")
        build_profiles(data, repo)
        apply(repo)
        return folder

    return make


@pytest.fixture
def divisions(monkeypatch: pytest.MonkeyPatch) -> list[Division]:
    """What `tune` was given, after a training."""
    asked: list[Division] = []
    tune = training.tune

    def spy(parameters, divisions, **others):
        asked.extend(divisions)
        return tune(parameters, divisions, **others)

    monkeypatch.setattr(training, "tune", spy)
    return asked


def test_interactions_of_one_moment_are_divided_by_chance_and_the_rest_is_not_known(
    shop: Shop, divisions: list[Division]
) -> None:
    folder = shop(["2024-01-01"])
    bundle = folder / "bundle"
    trained = train(folder / "data", folder / "feature_repo", bundle)
    asked = list(divisions)
    assert len({frozenset(pairs_of(one.wanted)) for one in asked}) == len(asked) >= 3
    for one in asked:
        assert not one.in_time
        assert not pairs_of(one.learned) & pairs_of(one.wanted)
        assert 0.1 < len(one.wanted) / (len(one.wanted) + len(one.learned)) < 0.6
        expected = with_history(one.learned, one.users, one.items)
        for features, rebuilt in zip((one.users, one.items), expected, strict=True):
            np.testing.assert_array_equal(features.profiles, rebuilt.profiles)
            np.testing.assert_array_equal(features.evidence, rebuilt.evidence)
        # A search has led to a purchase that may be held out.
        assert set(one.users.descriptions) == {"thing", ""}
    assert any("kind" in text for text in trained.users.descriptions)

    manifest = read_manifest(bundle)
    assert manifest["cutoff"] is None
    assert 0 < len(asked[0].wanted) <= manifest["held_out"] < 500
    again = train(folder / "data", folder / "feature_repo", folder / "again")
    ids = trained.users.ids, trained.items.ids
    np.testing.assert_array_equal(again.score(*ids), trained.score(*ids))


def test_nothing_after_the_cut_off_is_known_in_any_division(shop: Shop, divisions: list[Division]) -> None:
    folder = shop(["2024-01-01", "2024-02-02", "2024-02-02", "2024-03-03"])
    train(folder / "data", folder / "feature_repo", folder / "bundle")
    cutoff = np.datetime64("2024-03-01")
    *by_chance, in_time = divisions
    assert len(by_chance) >= 3
    assert [one.in_time for one in divisions] == [False] * len(by_chance) + [True]
    assert all((one.learned.timestamps < cutoff).all() for one in divisions)
    assert all((one.wanted.timestamps < cutoff).all() for one in by_chance)
    assert (in_time.wanted.timestamps >= cutoff).all()


def test_a_search_that_keeps_the_settings_keeps_what_is_learned(shop: Shop) -> None:
    folder = shop(["2024-01-01", "2024-02-02", "2024-02-02", "2024-03-03"])
    plain = train(folder / "data", folder / "feature_repo", folder / "bundle").parameters
    searched = train(folder / "data", folder / "feature_repo", folder / "other", search=1).parameters
    assert replace(searched, source={}) == replace(plain, source={})
    assert searched.source["epochs"].startswith("searched: the best of 1 ")
    assert searched.source["weights"] == plain.source["weights"]


def test_a_shop_without_time_runs_through_on_the_command_line(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = shop([None])
    monkeypatch.chdir(folder)
    result = CliRunner().invoke(app, ["train"])
    assert result.exit_code == 0, result.output
    assert_recorded(folder)
    assert "the interactions have no time, so parameters are chosen on" in " ".join(result.output.split())
    apply(folder / "feature_repo").materialize(datetime(2010, 1, 1, tzinfo=UTC), datetime.now(UTC))
    result = CliRunner().invoke(app, ["recommend", "--user-id", "u3", "-k", "3"])
    assert (result.exit_code, "user u3 (warm)" in result.output) == (0, True), result.output
    kinds = [kind for kind in range(5) if f"kind{kind}" in result.output]
    assert 3 in kinds
    # Whose log cannot be opened, on a disk that may only be read for example, gets the list without what was put.
    Path("data/events.db").write_bytes(b"no database" * 100)
    without = CliRunner().invoke(app, ["recommend", "--user-id", "u3", "-k", "3"])
    assert without.exit_code == 0, without.output
    assert "items that were put since the training are left out: the event log cannot be" in without.stderr
    assert without.stdout.splitlines()[0] == "for user u3 (warm)"


def assert_recorded(folder: Path) -> None:
    """The run's record says what its bundle says, and what LightFM did in each epoch."""
    manifest = read_manifest(folder / "data" / "bundle")
    (run,) = runs(folder / "data" / "runs")
    assert (run.command, run.status) == ("train", "finished")
    for name in ("data_sha256", "embedding_fingerprint", "cutoff"):
        assert run.parameters[name] == manifest[name]
    assert run.parameters["bundle_id"] == manifest["id"]
    assert run.parameters["alpha"] == manifest["parameters"]["alpha"]
    assert run.figures["validation/ndcg@20"] == manifest["metrics"]["validation"]["ndcg@20"]
    assert run.figures["data/users"] == USERS
    epochs = list(range(1, manifest["parameters"]["epochs"] + 1))
    # Users buy one kind of things each, which LightFM learns.
    for name in ("cutoff_fit/auc", "cutoff_fit/held_out_auc", "final_fit/auc"):
        assert [step for step, _ in run.metrics[name]] == epochs
        assert 0.6 < run.metrics[name][-1][1] <= 1


@pytest.mark.parametrize(
    ("moments", "cutoff"),
    [
        (["2024-01-01", "2024-01-02"], "2024-01-02T00:00:00+00:00"),
        (["2024-01-01", "2024-02-02", "2024-02-02", "2024-03-03"], "2024-03-01T00:00:00+00:00"),
        (["2024-01-01T00:00:00.000001", "2024-01-01T00:00:00.000002"], "2024-01-01T00:00:00.000002+00:00"),
        # One moment among many is no time.
        (["1970-01-01"] + ["2024-01-01"] * 249, None), (["2024-01-01"] * 249 + ["2024-05-01"], None),
    ],
)  # fmt: skip
def test_few_moments_are_divided_in_time_where_both_parts_are_large_enough(
    moments: list[str | None], cutoff: str | None, shop: Shop
) -> None:
    folder = shop(moments)
    train(folder / "data", folder / "feature_repo", folder / "bundle")
    assert read_manifest(folder / "bundle")["cutoff"] == cutoff
    assert HybridRecommender.load(folder / "bundle").recommend(["u1"], 1)["item_id"].item()


def test_a_cutoff_of_data_without_time_is_an_error_that_says_what_to_do(shop: Shop) -> None:
    folder = shop(["2024-01-01"])
    with pytest.raises(ColdStartError, match="all are of 2024-01-01T00:00:00, so leave the cut-off out"):
        train(folder / "data", folder / "feature_repo", folder / "bundle", cutoff=T + timedelta(days=1))


def test_a_handful_of_interactions_without_time_can_be_trained_on(shop: Shop, model: str) -> None:
    folder = shop(["2024-01-01"])
    with duckdb.connect() as con:
        con.execute(f"COPY (FROM read_csv('{folder}/data/interactions.csv', all_varchar = true) "
                    f"WHERE event_type = 'purchase' LIMIT 1) TO '{folder}/data/interactions.csv'")  # fmt: skip
    build_profiles(folder / "data", folder / "feature_repo")
    train(folder / "data", folder / "feature_repo", folder / "bundle")
    assert read_manifest(folder / "bundle")["interactions"] == 1


def pairs_of(interactions: Interactions) -> set[tuple[int, int]]:
    return set(zip(interactions.users.tolist(), interactions.items.tolist(), strict=True))


@pytest.mark.slow
def test_rules_that_keep_nothing_are_warned_of(shop: Shop) -> None:
    folder = shop([None])
    data = folder / "data"
    items = [f"i{n},thing kind{n % 5},{'' if n else 'X'}" for n in range(ITEMS)]
    (data / "items.csv").write_text("\n".join(["item_id,description,rated", *items]) + "\n")
    rules = ["age=child,excludes,rated=X", "age=child,excludes,rated=x"]
    (data / "facts.csv").write_text("\n".join(["subject,predicate,object", *rules]) + "\n")
    build_profiles(data, folder / "feature_repo")
    with pytest.warns(ColdStartWarning, match="no user has 'age=child'; no item has 'rated=x'. A label is"):
        trained = train(data, folder / "feature_repo", folder / "bundle")
    assert trained.parameters.exclusions == (("age=child", "rated=X"), ("age=child", "rated=x"))
