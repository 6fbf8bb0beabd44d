"""Tuning an encoder by what users take together."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

import coldstart_udfs
from coldstart_udfs import Encoder
from coldstart_udfs.encoder.model_files import ModelFiles
from coldstart_udfs.encoder.tuning import training
from coldstart_udfs.encoder.tuning.elsa import elsa_loss
from coldstart_udfs.encoder.tuning.manifests import TunedManifest, accept, check_recommends, read_tuned
from coldstart_udfs.encoder.tuning.networks import TopLayers, encoded, open_tunable
from coldstart_udfs.encoder.tuning.parents import base_of
from coldstart_udfs.encoder.tuning.settings import TuningSettings
from coldstart_udfs.encoder.tuning.training import TunedVectors, tune_encoder
from coldstart_udfs.errors import ColdStartError
from tests.support.bought_together import KINDS, taken, texts
from tests.support.tiny_models import change_json, saved_by_sentence_transformers, tiny_model
from tests.support.word_model import word_model

ITEMS, USERS = 60, 80
SETTINGS = TuningSettings(learning_rate=3e-3, steps=12, batch=48, arithmetic="float32")


@pytest.fixture(scope="module")
def parent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random BERT of three layers, with prompts."""
    folder = tmp_path_factory.mktemp("parent")
    plain = tiny_model(folder / "plain", num_hidden_layers=3)
    return saved_by_sentence_transformers(folder / "model", plain, prompts={"document": "item: ", "query": "ask: "})


def apart(vectors: np.ndarray) -> float:
    """How much more alike two items of one kind are than two of different kinds."""
    kinds = np.arange(len(vectors)) % KINDS
    same = kinds[:, None] == kinds
    similar = vectors @ vectors.T
    np.fill_diagonal(same, val=False)
    others = kinds[:, None] != kinds
    return float(similar[same].mean() - similar[others].mean())


def tuned(parent: Path, out: Path, settings: TuningSettings = SETTINGS, **more: Any) -> TunedVectors:
    return tune_encoder(
        ModelFiles(str(parent)), texts(ITEMS), taken(USERS, ITEMS), out, judge=more.pop("judge", apart),
        settings=settings, **more,
    )  # fmt: skip


def test_the_loss_is_that_of_the_formula() -> None:
    """Written out in NumPy for three items and two users: P = XZZᵀ − X, ‖P/‖P‖ − X/‖X‖‖² by user."""
    import torch

    Z = np.array([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]])
    X = np.array([[1.0, 1.0, 0.0], [0.0, 1.0, 1.0]])
    P = X @ Z @ Z.T - X
    rows = [np.sum((p / np.linalg.norm(p) - x / np.linalg.norm(x)) ** 2) for p, x in zip(P, X, strict=True)]
    found = elsa_loss(torch.tensor(Z, dtype=torch.float32), torch.tensor(X, dtype=torch.float32))
    assert float(found) == pytest.approx(np.mean(rows), rel=1e-5)


def test_items_of_the_same_users_come_closer(parent: Path, tmp_path: Path) -> None:
    told: dict[int, dict[str, float]] = {}
    found = tuned(parent, tmp_path / "out", on_step=lambda step, values: told.update({step: dict(values)}))
    assert apart(found.after) > apart(found.before) + 0.05
    assert found.qualities[found.steps] == max(found.qualities.values())
    assert (found.planned, found.arithmetic, set(told)) == (12, "float32", set(range(13)))
    assert told[12]["learning_rate"] < told[6]["learning_rate"] < told[1]["learning_rate"] == pytest.approx(3e-3)
    assert told[12]["loss"] < told[1]["loss"]
    # The folder is an encoder like any other, with the prompts of its parent, and gives the vectors that were judged.
    encoder = Encoder(tmp_path / "out", backend="torch", cache=False)
    assert np.abs(encoder.encode(texts(ITEMS)) - found.after).max() < 2e-3
    assert encoder.files.prompts == {"document": "item: ", "query": "ask: "}
    before = Encoder(parent, backend="torch", cache=False)
    assert np.abs(before.encode(texts(ITEMS)) - found.before).max() < 2e-3
    assert encoder.fingerprint != before.fingerprint
    assert (encoder.dimensions, encoder.max_tokens) == (before.dimensions, before.max_tokens)


def test_one_seed_gives_one_encoder(parent: Path, tmp_path: Path) -> None:
    first, again = (tuned(parent, tmp_path / name) for name in ("one", "two"))
    other = tuned(parent, tmp_path / "three", replace(SETTINGS, seed=1))
    prints = [Encoder(tmp_path / name, backend="torch", cache=False).fingerprint for name in ("one", "two", "three")]
    assert prints[0] == prints[1] != prints[2]
    assert np.array_equal(first.after, again.after)
    assert not np.array_equal(first.after, other.after)


def test_a_killed_run_continues_to_the_same_encoder(parent: Path, tmp_path: Path) -> None:
    whole = tuned(parent, tmp_path / "whole")
    steps: list[int] = []

    def killed(step: int, values: Any) -> None:
        steps.append(step)
        if step == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tuned(parent, tmp_path / "out", unfinished=tmp_path / "steps", on_step=killed)
    assert not (tmp_path / "out").exists()
    continued = tuned(
        parent, tmp_path / "out", unfinished=tmp_path / "steps", on_step=lambda step, values: steps.append(step)
    )
    # The checkpoint of step 6 or 7 is the last one: nothing before it is computed again.
    assert steps[: steps.index(7) + 1] == list(range(8))
    assert min(steps[steps.index(7) + 1 :]) >= 7
    assert np.array_equal(whole.after, continued.after)
    assert whole.qualities == continued.qualities


def test_a_checkpoint_of_other_data_is_not_continued(parent: Path, tmp_path: Path) -> None:
    tuned(parent, tmp_path / "one", unfinished=tmp_path / "steps")
    steps: list[int] = []
    tune_encoder(
        ModelFiles(str(parent)), texts(ITEMS), taken(USERS, ITEMS, seed=5), tmp_path / "two", judge=apart,
        settings=SETTINGS, unfinished=tmp_path / "steps", on_step=lambda step, values: steps.append(step),
    )  # fmt: skip
    assert steps == list(range(13))


def test_a_batch_that_passes_in_parts_has_the_same_gradient(
    parent: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = tuned(parent, tmp_path / "whole")
    monkeypatch.setattr(training, "CHUNK_TOKENS", 40)
    parts = tuned(parent, tmp_path / "parts")
    assert np.abs(whole.after - parts.after).max() < 1e-2
    assert apart(parts.after) == pytest.approx(apart(whole.after), abs=1e-2)


@pytest.mark.parametrize("kept", [10**9, 0])
def test_the_top_layers_alone_give_the_vectors_of_the_whole_network(
    parent: Path, monkeypatch: pytest.MonkeyPatch, kept: int
) -> None:
    """Whether the states below are kept in memory, or computed each time."""
    from coldstart_udfs.encoder.tuning import networks

    monkeypatch.setattr(networks, "_KEPT_TOKENS", kept)
    some = [*texts(20), "", "a " * 90]
    model = open_tunable(ModelFiles(str(parent)), some, static=False, layers=1, adapters=0)
    expected = Encoder(parent, backend="torch", cache=False).encode(some)
    expected[20] = 0
    assert np.abs(encoded(model) - expected).max() < 2e-3
    assert isinstance(model, TopLayers)
    assert {name.split(".layer.")[1][0] for name in model.parameters()} == {"2"}


@pytest.mark.parametrize("kind", ["distilbert", "mpnet", "modernbert", "qwen3"])
def test_other_architectures_can_be_tuned(tmp_path: Path, kind: str) -> None:
    found = tuned(tiny_model(tmp_path / "model", kind), tmp_path / "out", replace(SETTINGS, steps=3, layers=1))
    encoder = Encoder(tmp_path / "out", backend="torch", cache=False)
    assert np.abs(encoder.encode(texts(ITEMS)) - found.after).max() < 1e-2


def test_adapters_are_merged_into_the_layers(parent: Path, tmp_path: Path) -> None:
    found = tuned(parent, tmp_path / "out", replace(SETTINGS, adapters=4, learning_rate=1e-2))
    assert apart(found.after) > apart(found.before)
    encoder = Encoder(tmp_path / "out", backend="torch", cache=False)
    assert np.abs(encoder.encode(texts(ITEMS)) - found.after).max() < 2e-3


def test_a_table_of_token_vectors_is_tuned(tmp_path: Path) -> None:
    words = sorted({word for text in texts(ITEMS) for word in text.split()})
    parent = Path(word_model(tmp_path / "words", words))
    found = tuned(parent, tmp_path / "out", replace(SETTINGS, learning_rate=3e-2, steps=20))
    assert apart(found.after) > apart(found.before) + 0.05
    encoder = Encoder(tmp_path / "out", backend="torch", cache=False)
    assert encoder.files.is_static
    assert np.abs(encoder.encode(texts(ITEMS)) - found.after).max() < 1e-5


def test_bfloat16_learns_too(parent: Path, tmp_path: Path) -> None:
    found = tuned(parent, tmp_path / "out", replace(SETTINGS, arithmetic="bfloat16"))
    assert apart(found.after) > apart(found.before) + 0.05
    assert found.arithmetic == "bfloat16"


def test_auto_says_which_arithmetic_it_took(parent: Path, tmp_path: Path) -> None:
    assert tuned(parent, tmp_path / "out", replace(SETTINGS, arithmetic="auto", steps=1)).arithmetic in (
        "float32", "bfloat16",
    )  # fmt: skip


def test_the_best_state_is_written_not_the_last(parent: Path, tmp_path: Path) -> None:
    asked = iter([0.5, 0.7, 0.6, 0.4, *[0.1] * 20])
    found = tuned(parent, tmp_path / "out", judge=lambda vectors: next(asked))
    assert (found.steps, found.qualities[found.steps]) == (1, 0.7)
    nothing = tuned(parent, tmp_path / "none", judge=lambda vectors: 0.5)
    assert nothing.steps == 0
    assert np.array_equal(nothing.before, nothing.after)


def test_what_cannot_be_learned_from_is_an_error(parent: Path, tmp_path: Path) -> None:
    alone = sp.eye(ITEMS, format="csr", dtype=np.float32)
    with pytest.raises(ColdStartError, match="no user has 2 of the 60 items"):
        tune_encoder(ModelFiles(str(parent)), texts(ITEMS), alone, tmp_path / "out", judge=apart)
    with pytest.raises(ColdStartError, match="has 3 layers"):
        tuned(parent, tmp_path / "out", replace(SETTINGS, layers=4))
    with pytest.raises(ColdStartError, match="smaller learning rate"):
        tuned(parent, tmp_path / "out", replace(SETTINGS, learning_rate=1e30))
    with pytest.raises(ColdStartError, match="vectors are not finite at step"):
        tuned(parent, tmp_path / "out", replace(SETTINGS, learning_rate=1e30, steps=10))
    # Its upper layers take positions from the first one, which is felt with many layers and large weights.
    deep = tiny_model(tmp_path / "t5", "t5", num_layers=8, initializer_factor=4.0)
    with pytest.raises(ColdStartError, match="cannot be divided"):
        tuned(deep, tmp_path / "out", replace(SETTINGS, layers=7))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "value"),
    [("layers", 0), ("learning_rate", 0.0), ("steps", 0), ("warm_up", 1.0), ("arithmetic", "float16"), ("batch", 1)],
)
def test_settings_out_of_range_are_errors(name: str, value: Any) -> None:
    with pytest.raises(ColdStartError, match=name):
        replace(TuningSettings(), **{name: value})


@pytest.fixture(scope="module")
def folder(parent: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tuned encoder that the guard has refused."""
    out = tmp_path_factory.mktemp("tuned") / "shop"
    tuned(parent, out)
    prints = [Encoder(one, backend="torch", cache=False).fingerprint for one in (out, parent)]
    TunedManifest(
        fingerprint=prints[0], parent=str(parent), parent_backend="torch", parent_fingerprint=prints[1],
        data_sha256="d", split={}, settings=SETTINGS.as_json(), steps=12, figures={"new items: low": -0.01},
        recommends=False, verdict="NDCG@20 of new items 0.3000 before and 0.2900 after", built="today", versions={},
    ).write(out)  # fmt: skip
    return out


def test_the_manifest_is_no_part_of_the_fingerprint(folder: Path) -> None:
    manifest = read_tuned(folder)
    assert manifest is not None
    assert Encoder(folder, backend="torch", cache=False).fingerprint == manifest.fingerprint


def test_an_encoder_that_the_guard_refused_does_not_recommend(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ColdStartError, match=r"refused for recommending: NDCG@20 of new items 0.3000 before") as error:
        check_recommends(str(folder))
    assert f"coldstart encoder accept {folder}" in str(error.value)
    check_recommends(None)
    check_recommends("multilingual")
    copy = tmp_path / "copy"
    copy.mkdir()
    (copy / "tuned.json").write_bytes((folder / "tuned.json").read_bytes())
    accept(copy)
    check_recommends(str(copy))
    assert json.loads((copy / "tuned.json").read_text())["recommends"] is False
    with pytest.raises(ColdStartError, match=r"has no tuned\.json"):
        accept(tmp_path)
    change_json(copy / "tuned.json", unheard_of=1)
    with pytest.raises(ColdStartError, match="is damaged"):
        read_tuned(copy)


def test_a_tuned_encoder_in_the_place_of_its_parent_is_an_error_where_meanings_count(
    folder: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    change_json(copy / "tuned.json", parent=str(copy))
    with pytest.raises(ColdStartError, match="holds the tuned encoder in the place of its parent"):
        base_of(Encoder(copy, backend="torch", cache=False))


def test_sql_takes_a_tuned_encoder_and_tags_with_its_parent(folder: Path, parent: Path) -> None:
    """Refused for recommending, it embeds; tags are about what words mean."""
    some = texts(8)
    expected = Encoder(folder, backend="torch", cache=False).encode(some)
    con = coldstart_udfs.connect()
    coldstart_udfs.register(con, model=Encoder(folder, backend="torch", cache=False))
    found = np.array([row[0] for row in con.execute("SELECT embed(t) FROM unnest(?) AS u(t)", [some]).fetchall()])
    assert np.abs(found - expected).max() < 1e-6
    own = ["lighting", "tableware", "garden"]
    question = "SELECT tags(t, labels := ?) FROM unnest(?) AS u(t)"
    of_tuned = con.execute(question, [own, some]).fetchall()
    other = coldstart_udfs.connect()
    coldstart_udfs.register(other, model=Encoder(parent, backend="torch", cache=False))
    assert of_tuned == other.execute(question, [own, some]).fetchall()
    assert base_of(Encoder(folder, backend="torch", cache=False)).fingerprint == Encoder(
        parent, backend="torch", cache=False
    ).fingerprint
