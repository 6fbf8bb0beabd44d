"""`ImageEncoder`: vectors, their cache, bad pictures among good ones, and CLIP-like models."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from coldstart_udfs import ImageEncoder
from coldstart_udfs.encoder.images import lite0
from coldstart_udfs.errors import ColdStartError
from tests.support.pictures import drawn, encoded, tiny_clip

# Of the Grocery Store data set (MIT).
PICTURES = Path(__file__).parents[3] / "data" / "pictures"


@pytest.fixture(scope="module")
def encoder() -> ImageEncoder:
    return ImageEncoder(cache=False)


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_clip(tmp_path_factory.mktemp("models") / "clip")


def test_a_picture_gives_one_unit_vector_whatever_its_company(encoder: ImageEncoder) -> None:
    pictures = [encoded(drawn(seed)) for seed in range(5)]
    together = encoder.encode(pictures)
    assert together.shape == (5, encoder.dimensions)
    assert together.dtype == np.float32
    assert np.linalg.norm(together, axis=1) == pytest.approx(np.ones(5), abs=1e-5)
    for picture, vector in zip(pictures, together, strict=True):
        assert encoder.encode([picture])[0] == pytest.approx(vector, abs=1e-5)
    assert (together @ together.T)[np.triu_indices(5, 1)].max() < 0.99


def test_one_picture_in_two_formats_and_sizes_gives_nearly_one_vector(encoder: ImageEncoder) -> None:
    image = drawn(1, (384, 256))
    png, jpeg, large = encoder.encode([
        encoded(image), encoded(image, "JPEG", quality=95), encoded(image.resize((2_400, 1_600)), "JPEG"),
    ])  # fmt: skip
    assert png @ jpeg > 0.95
    assert png @ large > 0.9


@pytest.mark.parametrize("name", ["banana", "Granny Smith"])
def test_the_network_knows_what_it_was_trained_on(encoder: ImageEncoder, name: str) -> None:
    """Another order of channels, padding or scale of pixels than that of the training gives other classes."""
    picture = PICTURES / f"{name.lower().replace(' ', '-')}.jpg"
    assert encoder.classifier is not None
    shown = encoder.classifier.probabilities(encoder.encode([picture]))[0]
    assert shown.sum() == pytest.approx(1, abs=1e-4)
    assert encoder.classifier.names[shown.argmax()] == name
    assert shown.max() > 0.25


def test_bad_pictures_cost_no_good_ones(encoder: ImageEncoder, tmp_path: Path) -> None:
    good = encoded(drawn(3))
    (tmp_path / "good.png").write_bytes(good)
    pictures = [good, b"", tmp_path / "good.png", tmp_path / "none.png", b"text"]
    vectors, errors = encoder.try_encode(pictures)
    assert [error is None for error in errors] == [True, False, True, False, False]
    assert vectors[0] == pytest.approx(vectors[2])
    assert not vectors[[1, 3, 4]].any()
    with pytest.raises(ColdStartError, match=r"picture 2: the picture is empty.*\(2 more fail\)"):
        encoder.encode(pictures)


def test_nothing_gives_nothing_and_a_single_picture_is_an_error(encoder: ImageEncoder) -> None:
    assert encoder.encode([]).shape == (0, 1_280)
    with pytest.raises(ColdStartError, match=r"encode\(\[picture\]\)"):
        encoder.encode("a.png")


def test_equal_contents_are_encoded_once_and_kept_for_other_processes(tmp_path: Path) -> None:
    content = encoded(drawn(4))
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(content)
    cache = tmp_path / "vectors.sqlite"
    first = ImageEncoder(cache=cache)
    vectors = first.encode([tmp_path / "a.png", tmp_path / "b.png", content, encoded(drawn(5))])
    assert (first.stats.hits, first.stats.misses, first.stats.encoded) == (0, 2, 2)
    assert first.encode([content])[0] == pytest.approx(vectors[0])
    assert first.stats.hits == 1
    second = ImageEncoder(cache=cache)
    assert second.encode([tmp_path / "b.png"])[0] == pytest.approx(vectors[0])
    assert (second.stats.hits, second.stats.encoded) == (1, 0)


@pytest.mark.slow
def test_a_clip_model_puts_pictures_and_texts_into_one_space(clip_folder: Path, tmp_path: Path) -> None:
    encoder = ImageEncoder(clip_folder, cache=tmp_path / "vectors.sqlite")
    vectors = encoder.encode([encoded(drawn(seed)) for seed in range(3)])
    texts = encoder.encode_texts(["a red lamp", "a garden chair"])
    assert vectors.shape == (3, 16)
    assert texts.shape == (2, 16)
    assert np.linalg.norm(np.vstack([vectors, texts]), axis=1) == pytest.approx(np.ones(5), abs=1e-5)
    assert encoder.classifier is None
    assert encoder.fingerprint.startswith("clip-float32-16-")
    assert encoder.fingerprint == ImageEncoder(str(clip_folder)).fingerprint
    from sentence_transformers import SentenceTransformer

    plain = SentenceTransformer(str(clip_folder), device="cpu", local_files_only=True)
    expected = plain.encode([drawn(0)], normalize_embeddings=True)[0]
    assert vectors[0] == pytest.approx(expected, abs=1e-5)


def test_models_that_see_nothing_and_encoders_that_read_nothing_say_so(encoder: ImageEncoder) -> None:
    with pytest.raises(ColdStartError, match="encodes pictures alone"):
        encoder.encode_texts(["a red lamp"])
    with pytest.raises(ColdStartError, match="does not exist"):
        ImageEncoder("/nowhere/clip").encode([encoded(drawn())])
    with pytest.raises(ColdStartError, match="threads is 0"):
        ImageEncoder(threads=0)


def test_without_the_extra_the_error_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lite0, "PACKAGE", "no_such_package")
    with pytest.raises(ColdStartError, match=r"feast-coldstart\[image\]"):
        ImageEncoder()


def test_weights_that_are_not_the_known_ones_are_not_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lite0, "WEIGHTS_SHA256", "0" * 64)
    with pytest.raises(ColdStartError, match=r"has sha256 57934424.*reinstall efficientnet"):
        ImageEncoder()
