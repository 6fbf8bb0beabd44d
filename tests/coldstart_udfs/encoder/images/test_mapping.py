"""`PictureMap`: from pictures to texts, fitted on pairs that are made up with a known relation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from coldstart_udfs import PictureMap
from coldstart_udfs.encoder.images.lite0 import Classifier
from coldstart_udfs.errors import ColdStartError, FingerprintError
from tests.support.encoders import WordEncoder

KINDS = ("lamp", "mug", "chair", "jug", "clock", "rug", "box", "tin")
COLOURS = ("red", "blue", "green", "black", "white", "pink")
TEXTS = [f"{colour} {kind}" for kind in KINDS for colour in COLOURS]


class StubImages:
    """Stands for an `ImageEncoder`: its pictures are a linear image of what the texts say, with noise."""

    fingerprint = "stub-images"

    def __init__(self, classifier: Classifier | None = None) -> None:
        self.classifier = classifier
        self._rows = np.random.default_rng(1).normal(size=(WordEncoder.dimensions, 40))

    def of(self, texts: list[str], noise: float = 0.2) -> np.ndarray:
        vectors = WordEncoder().encode(texts) @ self._rows
        vectors += noise * np.random.default_rng(2).normal(size=vectors.shape)
        return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def fit(images: StubImages, pictures: np.ndarray, texts: list[str] = TEXTS, **more: Any) -> PictureMap:
    return PictureMap.fit(pictures, texts, image_encoder=images, encoder=WordEncoder(), **more)  # type: ignore[arg-type]


def found(fitted: PictureMap, pictures: np.ndarray, texts: list[str]) -> float:
    """The share of pictures whose own text is the nearest."""
    nearest = (fitted.predict(pictures) @ WordEncoder().encode(texts).T).argmax(axis=1)
    return float((nearest == np.arange(len(texts))).mean())


def test_a_map_finds_the_texts_of_items_that_it_was_not_fitted_on() -> None:
    images = StubImages()
    pictures = images.of(TEXTS)
    new = [place for place in range(len(TEXTS)) if place % 7 == 0]
    old = [place for place in range(len(TEXTS)) if place % 7]
    fitted = fit(images, pictures[old], [TEXTS[place] for place in old])
    assert found(fitted, pictures[new], [TEXTS[place] for place in new]) > 0.8
    assert fitted.share == 1
    assert fitted.quality.items == len(old)
    assert fitted.quality.top_10 > 0.9 > fitted.quality.shuffled_top_10
    predicted = fitted.predict(np.vstack([pictures[:2], np.zeros((1, 40), np.float32)]))
    assert np.linalg.norm(predicted, axis=1) == pytest.approx([1, 1, 0], abs=1e-5)


def test_a_map_that_does_not_beat_shuffled_pairs_is_refused() -> None:
    images = StubImages()
    pictures = images.of(TEXTS)[np.random.default_rng(3).permutation(len(TEXTS))]
    with pytest.raises(ColdStartError, match="do not tell what the texts say"):
        fit(images, pictures)


def test_variants_of_one_group_tell_nothing_of_each_other() -> None:
    """Pictures that show only which group it is: with groups held out together there is nothing to learn."""
    images = StubImages()
    kinds = [text.split()[1] for text in TEXTS]
    of_kind = {kind: np.random.default_rng(place).normal(size=40) for place, kind in enumerate(KINDS)}
    pictures = np.array([of_kind[kind] for kind in kinds]) + 0.05 * np.random.default_rng(9).normal(size=(48, 40))
    pictures = (pictures / np.linalg.norm(pictures, axis=1, keepdims=True)).astype(np.float32)
    assert fit(images, pictures).quality.top_10 > 0.9
    with pytest.raises(ColdStartError, match="do not tell"):
        fit(images, pictures, groups=kinds)


def test_names_of_classes_tell_what_no_item_of_the_shop_could() -> None:
    """The network knows two classes by their names, and the shop has items of other kinds beside."""
    rng = np.random.default_rng(0)
    names = tuple(KINDS)
    weights = rng.normal(size=(len(names), 40)).astype(np.float32)
    classifier = Classifier(names, 3 * weights, np.zeros(len(names), np.float32))
    images = StubImages(classifier)
    kinds = [text.split()[1] for text in TEXTS]
    pictures = weights[[names.index(kind) for kind in kinds]] + 0.5 * rng.normal(size=(len(kinds), 40))
    pictures = (pictures / np.linalg.norm(pictures, axis=1, keepdims=True)).astype(np.float32)
    fitted = fit(images, pictures, groups=kinds)
    assert fitted.share < 1
    assert fitted.quality.top_10 > 0.8


def test_a_map_is_kept_and_checked_against_the_encoders(tmp_path: Path) -> None:
    classifier = Classifier(("lamp", "mug"), np.ones((2, 40), np.float32, order="F"), np.zeros(2, np.float32))
    images = StubImages(classifier)
    pictures = images.of(TEXTS)
    fitted = fit(images, pictures)
    fitted.save(tmp_path / "map")
    again = PictureMap.load(tmp_path / "map", image_fingerprint="stub-images", text_fingerprint="words")
    assert again.predict(pictures) == pytest.approx(fitted.predict(pictures))
    assert (again.quality, again.ridge, again.share) == (fitted.quality, fitted.ridge, fitted.share)
    with pytest.raises(FingerprintError, match="'stub-images', but the encoder of the pictures uses encoder 'other'"):
        PictureMap.load(tmp_path / "map", image_fingerprint="other")
    with pytest.raises(FingerprintError, match="the encoder of the texts"):
        PictureMap.load(tmp_path / "map", text_fingerprint="other")
    with pytest.raises(ColdStartError, match="vectors of 3 numbers"):
        again.predict(np.ones((1, 3), np.float32))


def test_a_map_that_is_missing_or_damaged_says_so(tmp_path: Path) -> None:
    with pytest.raises(ColdStartError, match=r"holds no picture-map\.json"):
        PictureMap.load(tmp_path)
    images = StubImages()
    fit(images, images.of(TEXTS)).save(tmp_path)
    arrays = load_file(tmp_path / "picture-map.safetensors")
    save_file({name: one for name, one in arrays.items() if name != "weights"}, tmp_path / "picture-map.safetensors")
    with pytest.raises(ColdStartError, match=r"is damaged.*fit it again"):
        PictureMap.load(tmp_path)


def test_too_few_items_and_lists_of_different_lengths_are_refused() -> None:
    images = StubImages()
    pictures = images.of(TEXTS)
    with pytest.raises(ColdStartError, match="at least 20 items in 4 groups"):
        fit(images, pictures[:10], TEXTS[:10])
    with pytest.raises(ColdStartError, match="48 pictures, 3 texts"):
        fit(images, pictures, TEXTS[:3])
    with pytest.raises(ColdStartError, match="in 2 groups"):
        fit(images, pictures, groups=[place % 2 for place in range(len(TEXTS))])
