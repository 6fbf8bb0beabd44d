"""Tuning an encoder to tell labels apart."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from coldstart_udfs import Classifier, Encoder
from coldstart_udfs.encoder.tuning.contrastive import contrastive_loss
from coldstart_udfs.encoder.tuning.manifests import check_recommends, read_tuned
from coldstart_udfs.encoder.tuning.settings import TuningSettings
from coldstart_udfs.errors import ColdStartError
from coldstart_udfs.text.label_tuning import TunedForLabels, tune_for_labels
from recommender.cli.app import app
from tests.support.bought_together import KINDS, texts
from tests.support.tiny_models import saved_by_sentence_transformers, tiny_model

TEXTS = texts(60)
LABELS = [f"kind_{row % KINDS}" for row in range(60)]
SETTINGS = TuningSettings(layers=2, learning_rate=3e-3, steps=30, batch=48, arithmetic="float32")


@pytest.fixture(scope="module")
def parent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("parent")
    return saved_by_sentence_transformers(folder / "model", tiny_model(folder / "plain", num_hidden_layers=2))


@pytest.fixture(scope="module")
def tuned(parent: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TunedForLabels]:
    out = tmp_path_factory.mktemp("tuned") / "out"
    return out, tune_for_labels(str(parent), TEXTS, LABELS, out, settings=SETTINGS)


def apart(vectors: np.ndarray) -> float:
    """How much more alike two texts of one label are than two of different labels."""
    same = np.array(LABELS)[:, None] == np.array(LABELS)
    similar = vectors @ vectors.T
    return float(similar[same & ~np.eye(len(same), dtype=bool)].mean() - similar[~same].mean())


def test_the_loss_is_that_of_the_formula() -> None:
    """Written out for three texts, of which the first two have one label."""
    import torch

    vectors = np.array([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]])
    logits = vectors @ vectors.T / 0.07
    pairs = [
        -logits[one, other] + math.log(sum(math.exp(logits[one, any_]) for any_ in range(3) if any_ != one))
        for one, other in ((0, 1), (1, 0))
    ]
    found = contrastive_loss(torch.tensor(vectors, dtype=torch.float32), torch.tensor([[1.0, 1.0, 0.0]]))
    assert float(found) == pytest.approx(np.mean(pairs), rel=1e-5)


def test_texts_of_one_label_come_closer(parent: Path, tuned: tuple[Path, TunedForLabels]) -> None:
    out, found = tuned
    before, after = (Encoder(folder, backend="torch", cache=False) for folder in (parent, out))
    assert apart(after.encode(TEXTS)) > apart(before.encode(TEXTS)) + 0.05
    assert (found.held_out, found.manifest.steps) == (12, 30)
    # Of twelve texts and random weights: how many are right depends on the processor.
    assert all(share * 12 in range(13) for share in (found.before, found.after))
    assert Classifier.fit(after, TEXTS, LABELS).predict(TEXTS[:KINDS], threshold=0.5)[0] is not None


def test_the_folder_says_what_it_was_made_of_and_does_not_recommend(tuned: tuple[Path, TunedForLabels]) -> None:
    out, found = tuned
    assert read_tuned(out) == found.manifest
    assert found.manifest.split == {"labels": KINDS, "learned from": 48, "held out": 12}
    assert found.manifest.fingerprint == Encoder(out, backend="torch", cache=False).fingerprint
    with pytest.raises(ColdStartError, match="tuned to tell labels apart"):
        check_recommends(str(out))


def test_the_command_writes_the_encoder_and_says_what_is_gained(parent: Path, tmp_path: Path) -> None:
    file = tmp_path / "examples.csv"
    file.write_text("body,label\n" + "".join(f"{text},{label}\n" for text, label in zip(TEXTS, LABELS, strict=True)))
    command = ["encoder", "tune-labels", str(file), "--out", str(tmp_path / "out"), "--model", str(parent)]
    command += ["--steps", "2"]
    with pytest.raises(ColdStartError, match=r"has no column 'text'; it has body, label\. Name one with --text"):
        CliRunner().invoke(app, command, catch_exceptions=False)
    done = CliRunner().invoke(app, [*command, "--text", "body"], catch_exceptions=False)
    assert done.exit_code == 0
    assert "48 examples learned from, 12 held out, 2 steps" in done.output
    assert "held-out examples with the right label: " in done.output
    assert read_tuned(tmp_path / "out") is not None
    with pytest.raises(ColdStartError, match="out exists"):
        CliRunner().invoke(app, [*command, "--text", "body"], catch_exceptions=False)


def test_a_rate_that_is_too_high_is_told_with_options_that_the_command_has(parent: Path, tmp_path: Path) -> None:
    settings = replace(SETTINGS, learning_rate=1e9, steps=3)
    with pytest.raises(ColdStartError, match=r"give a smaller learning rate \(--lr\) than 1e\+09$"):
        tune_for_labels(str(parent), TEXTS, LABELS, tmp_path / "out", settings=settings)


def test_one_example_of_each_label_is_enough(parent: Path, tmp_path: Path) -> None:
    found = tune_for_labels(str(parent), TEXTS[:2], ["a", "b"], tmp_path / "out", settings=SETTINGS)
    assert found.held_out == 0
    assert math.isnan(found.after)
    assert not found.manifest.figures


def test_fewer_than_two_labels_are_an_error(parent: Path, tmp_path: Path) -> None:
    with pytest.raises(ColdStartError, match="at least one example of each of two labels"):
        tune_for_labels(str(parent), TEXTS[:2], ["a", "a"], tmp_path / "out", settings=SETTINGS)
    assert not list(tmp_path.iterdir())
