"""`coldstart encoder tune`: what is set aside, what stops and judges, and what the command writes and refuses."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from coldstart_udfs import Encoder
from coldstart_udfs.encoder.tuning.manifests import read_learned
from coldstart_udfs.encoder.tuning.settings import TuningSettings
from coldstart_udfs.errors import ColdStartError
from coldstart_udfs.settings import Enrichment
from recommender.cli.app import app
from recommender.data.dataset import Dataset, files_in, read_dataset
from recommender.data.events import EventWeights
from recommender.evaluation.encoder_tuning.guard import LATER, NEW_ITEMS, Compared, Verdict, described, judge
from recommender.evaluation.encoder_tuning.parts import parts_of
from recommender.evaluation.encoder_tuning.stopping import RidgeRanking
from recommender.evaluation.encoder_tuning.tuning import tune_for_shop
from recommender.evaluation.resume import Finished
from recommender.measure.splits import pair_matrix
from recommender.pipeline.profiles import build_profiles
from recommender.pipeline.training import train
from recommender.tuning.divisions import by_chance
from tests.support.bought_together import KINDS, texts, write_tables
from tests.support.word_model import BACKEND, word_model

SETTINGS = TuningSettings(learning_rate=3e-2, steps=10, arithmetic="float32")


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The folder of the tables, and an encoder of words that says nothing of what belongs together."""
    folder = tmp_path_factory.mktemp("shop")
    words = sorted({word for text in texts(180) for word in text.split()})
    return write_tables(folder / "data"), Path(word_model(folder / "words", words, width=32))


@pytest.fixture(scope="module")
def data(shop: tuple[Path, Path]) -> Dataset:
    return read_dataset(*files_in(shop[0]), model=str(shop[1]), backend=BACKEND)


def kinds_of(data: Dataset) -> np.ndarray:
    return np.array([int(name[1:]) % KINDS for name in data.items.ids])


def knowing(data: Dataset) -> np.ndarray:
    """Vectors by which items of one kind are the same."""
    return np.eye(32, dtype=np.float32)[kinds_of(data)]


def test_two_fifths_of_the_items_are_set_aside_by_group(data: Dataset) -> None:
    groups = [f"g{row // 3}" for row in range(len(data.items))]
    parts = parts_of(data.interactions, groups, EventWeights(), seed=0, cutoff=None)
    together = parts.learned.astype(int) + parts.stopping + parts.guard
    assert set(together.tolist()) <= {0, 1}
    assert 0.1 < parts.guard.mean() < 0.3
    assert 0.1 < parts.stopping.mean() < 0.3
    for mask in (parts.stopping, parts.guard):
        assert all(len(set(mask[start : start + 3])) == 1 for start in range(0, len(mask), 3))
    # Nothing later counts, and nothing of the items that are set aside.
    assert parts.later is not None
    earlier = pair_matrix(data.interactions.select(~parts.later))
    assert (earlier != parts.taken).nnz == 0
    learned_from = np.asarray(parts.known.sum(axis=0)).ravel() > 0
    assert (learned_from == parts.learned).all()
    other = parts_of(data.interactions, groups, EventWeights(), seed=1, cutoff=None)
    assert (other.guard != parts.guard).any()


def test_a_cutoff_outside_the_data_is_an_error(data: Dataset) -> None:
    from datetime import datetime

    with pytest.raises(ColdStartError, match="does not divide the interactions"):
        parts_of(data.interactions, data.items.ids, EventWeights(), seed=0, cutoff=datetime(2030, 1, 1))


def test_what_is_returned_or_weighs_nothing_is_not_learned_from(data: Dataset) -> None:
    timeless = replace(data.interactions, timestamps=np.full_like(data.interactions.timestamps, "2024-01-01"))
    nothing = EventWeights({"interaction": 0.0, "return": 1.0})
    with pytest.raises(ColdStartError, match="0 items with interactions are too few"):
        parts_of(timeless, data.items.ids, nothing, seed=0, cutoff=None)
    returned = timeless.returned.copy()
    returned[:] = np.datetime64("2024-02-01")
    with pytest.raises(ColdStartError, match="too few"):
        parts_of(replace(timeless, returned=returned), data.items.ids, EventWeights(), seed=0, cutoff=None)


def test_vectors_that_tell_kinds_apart_rank_new_items_better(data: Dataset) -> None:
    parts = parts_of(data.interactions, data.items.ids, EventWeights(), seed=0, cutoff=None)
    ranking = RidgeRanking(data.items, parts.known, parts.taken, parts.stopping)
    blind = np.random.default_rng(0).normal(size=(len(data.items), 32)).astype(np.float32)
    assert ranking(knowing(data)) > ranking(blind) + 0.1
    assert ranking.cosine(knowing(data)) > ranking.cosine(blind) + 0.1


def test_the_ridge_is_that_of_the_recommender(data: Dataset) -> None:
    """P_uᵀ A x with A of `item_metric`, written out over the same rows."""
    from recommender.measure.metrics import ndcg
    from recommender.model.closed_form import item_metric
    from recommender.model.feature_matrix import Vocabulary

    parts = parts_of(data.interactions, data.items.ids, EventWeights(), seed=0, cutoff=None)
    vectors = data.items.embeddings
    warm, new = np.flatnonzero(parts.learned), np.flatnonzero(parts.stopping)
    bare = replace(data.items, attributes=[[] for _ in data.items.ids])
    words = Vocabulary.fit([bare.descriptions[row] for row in warm.tolist()], [])
    features = words.feature_matrix(bare)
    metric = item_metric(features.take(warm), 8.0)
    wanted = np.asarray(parts.taken[:, new].toarray() > 0)
    asked = wanted.any(axis=1) & np.asarray(parts.known.sum(axis=1) > 0).ravel()
    scores = features.take(new).dot(features.take(warm).summed(parts.known[:, warm]) @ metric).T
    expected = ndcg(scores[asked], wanted[asked], np.ones_like(wanted[asked])).mean()
    found = RidgeRanking(data.items, parts.known, parts.taken, parts.stopping)(vectors)
    assert found == pytest.approx(float(expected), abs=1e-3)


def test_only_items_that_the_encoder_has_not_learned_from_play_new_items(data: Dataset) -> None:
    unseen = np.arange(len(data.items)) % 3 == 0
    held = by_chance(data.interactions, data.items.ids, 0, 0, unseen)
    whole = np.array([held[data.interactions.items == item].all() for item in range(len(data.items))])
    # A fifth of the items is new, as without it; of the others some interactions are held out, hardly ever all.
    assert 0.1 < whole[unseen].sum() / len(unseen) < 0.3
    assert whole[~unseen].mean() < 0.02
    assert not np.array_equal(held, by_chance(data.interactions, data.items.ids, 0, 0))


def compared(name: str, before: float, after: float, low: float, high: float) -> Compared:
    return Compared(name, before, after, low, high, users=100)


@pytest.mark.parametrize(
    ("new", "later", "recommends", "said"),
    [
        ((0.30, 0.32, 0.01, 0.03), None, True, "ranks better with it"),
        ((0.30, 0.32, 0.01, 0.03), (0.20, 0.20, -0.01, 0.01), True, "ranks better with it"),
        ((0.30, 0.32, -0.001, 0.041), None, False, "does not lie above 0"),
        ((0.30, 0.32, 0.01, 0.03), (0.20, 0.19, -0.02, 0.0), False, "later interactions are ranked worse"),
        ((0.30, 0.28, -0.04, 0.0), (0.20, 0.19, -0.02, 0.0), False, "does not lie above 0 and later interactions"),
    ],
)
def test_the_verdict_needs_a_certain_gain_and_no_loss_in_time(
    new: tuple[float, ...], later: tuple[float, ...] | None, recommends: bool, said: str
) -> None:
    found = [compared(NEW_ITEMS, *new), *([compared(LATER, *later)] if later else [])]
    verdict = Verdict(tuple(found))
    assert verdict.recommends is recommends
    assert said in str(verdict)
    assert "0.3000 before" in str(verdict)


def test_the_data_of_a_tuning_are_not_encoded_before(shop: tuple[Path, Path], data: Dataset) -> None:
    bare = read_dataset(*files_in(shop[0]), model=str(shop[1]), embed=False)
    assert bare.items.descriptions == data.items.descriptions
    assert bare.items.attributes == data.items.attributes
    assert not bare.items.embeddings.any()


@pytest.mark.slow
def test_the_guard_tells_a_better_encoder_from_a_worse_one(data: Dataset, shop: tuple[Path, Path]) -> None:
    """The whole recommender, fitted with vectors that know the kinds, and with random ones; no word tells a kind."""
    names = [f"thing{row}" for row in range(len(data.items))]
    data = replace(data, items=replace(data.items, descriptions=names))
    encoder = Encoder(shop[1], backend=BACKEND, cache=False)
    parts = parts_of(data.interactions, data.items.ids, EventWeights(), seed=0, cutoff=None)
    blind = np.random.default_rng(0).normal(size=(len(data.items), 32)).astype(np.float32)
    blind /= np.linalg.norm(blind, axis=1, keepdims=True)
    sides = described(data, encoder, blind), described(data, encoder, knowing(data))
    better = judge(*sides, parts.guard, None, ~parts.learned, seed=0, finished=Finished(None, ""))
    assert better.recommends
    worse = judge(*sides[::-1], parts.guard, parts.later, ~parts.learned, seed=0, finished=Finished(None, ""))
    assert not worse.recommends
    assert [one.name for one in worse.compared] == [NEW_ITEMS, LATER]


def test_an_encoder_that_learns_nothing_is_not_written(data: Dataset, shop: tuple[Path, Path], tmp_path: Path) -> None:
    """A learning rate so small that no ranking changes."""
    with pytest.raises(ColdStartError, match="nothing is written; recommend with"):
        tune_for_shop(data, str(shop[1]), tmp_path / "out", settings=replace(SETTINGS, learning_rate=1e-12, steps=1))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_exists_is_not_replaced(data: Dataset, shop: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(ColdStartError, match="exists; give another --out"):
        tune_for_shop(data, str(shop[1]), tmp_path, settings=SETTINGS)


@pytest.mark.slow
def test_the_command_writes_an_encoder_that_a_shop_can_take(
    shop: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tune, be stopped in the guard, continue, be refused in training, accept, train."""
    from tests.support.small_shop import apply

    runner = CliRunner()
    monkeypatch.chdir(tmp_path)
    command = ["encoder", "tune", "--data", str(shop[0]), "--model", str(shop[1]), "--out", "models/shop",
               "--lr", "0.03", "--steps", "10", "--arithmetic", "float32"]  # fmt: skip
    done = runner.invoke(app, command)
    assert done.exit_code == 0, done.output
    manifest = json.loads(Path("models/shop/tuned.json").read_text(encoding="utf-8"))
    encoder = Encoder("models/shop", backend="torch", cache=False)
    assert manifest["fingerprint"] == encoder.fingerprint
    assert manifest["parent"] == str(shop[1])
    assert manifest["parent_fingerprint"] == Encoder(shop[1], backend="torch", cache=False).fingerprint
    assert manifest["split"]["items for the guard"] > 20
    assert manifest["settings"]["steps"] == 10
    assert manifest["figures"]["stopping: cosine after"] > manifest["figures"]["stopping: cosine before"]
    assert manifest["verdict"].split(":")[0] in done.output
    assert [path.name for path in Path("models").iterdir()] == ["shop"]
    assert len(read_learned("models/shop")) == manifest["split"]["items learned from"]
    (record,) = Path("data/runs").glob("*/run.json")
    told = json.loads(record.read_text(encoding="utf-8"))
    assert len(told["metrics"]["tuning/loss"]) == 10
    assert told["figures"]["new items: before"] == manifest["figures"]["new items: before"]

    (tmp_path / "models/shop/tuned.json").write_text(json.dumps(manifest | {"recommends": False}), encoding="utf-8")
    runner.invoke(app, ["init", "."])
    repo = tmp_path / "feature_repo"
    Enrichment(model=str(tmp_path / "models/shop"), backend="torch").write(repo / "enrichment.json")
    with pytest.raises(ColdStartError, match="is refused for recommending: NDCG@20 of new items"):
        build_profiles(shop[0], repo)
    with pytest.raises(ColdStartError, match="is refused for recommending"):
        train(shop[0], repo, tmp_path / "bundle")
    accepted = runner.invoke(app, ["encoder", "accept", "models/shop"])
    assert "is accepted against the guard's figures" in accepted.output
    build_profiles(shop[0], repo)
    apply(repo)
    model = train(shop[0], repo, tmp_path / "bundle")
    assert model.items.fingerprint == encoder.fingerprint
