"""Models of one's own: each layout and architecture gives sentence-transformers' vectors, or says why it cannot."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coldstart_udfs import Encoder
from coldstart_udfs.encoder import derived, manifests
from coldstart_udfs.encoder.backends import OnnxBackend
from coldstart_udfs.errors import ColdStartError
from tests.support.tiny_models import (
    ARCHITECTURES,
    OFFSET,
    WIDTH,
    change_json,
    saved_by_sentence_transformers,
    tiny_model,
)

# The second is longer than every limit here.
TEXTS = ["red lamp", "blue enamel lamp for the garden " * 30, "", "garden spade with a long handle", "Lamp, RED"]


@pytest.fixture(autouse=True)
def small_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    """A derived model of a few kilobytes is compared with its original on fewer texts, so that building it is quick."""
    texts = derived.sample_descriptions()[:40]
    monkeypatch.setattr(derived, "sample_descriptions", lambda: texts)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The plain transformers folder of an architecture; not to be changed."""
    root = tmp_path_factory.mktemp("plain")
    return cache(lambda kind: tiny_model(root / kind, kind))


@pytest.fixture
def bert(plain: Callable[[str], Path], tmp_path: Path) -> Path:
    """A plain BERT of one test's own."""
    return Path(shutil.copytree(plain("bert"), tmp_path / "bert"))


def reference(folder: Path) -> Any:
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(folder), device="cpu", local_files_only=True)


def theirs(folder: Path, texts: list[str] = TEXTS, **settings: Any) -> np.ndarray:
    """The vectors that sentence-transformers gives each text alone."""
    model = reference(folder)
    return np.vstack([model.encode([text], normalize_embeddings=True, **settings) for text in texts])


def ours(folder: Path, backend: str, texts: list[str] = TEXTS, **settings: Any) -> np.ndarray:
    return Encoder(folder, backend=backend, cache=False, device="cpu", threads=1).encode(texts, **settings)


def same(found: np.ndarray, expected: np.ndarray) -> None:
    assert found.shape == expected.shape
    assert found.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    assert (found * expected).sum(axis=1).min() >= 0.9999


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_an_architecture_has_the_vectors_of_sentence_transformers(kind: str, plain: Callable[[str], Path]) -> None:
    folder = plain(kind)
    encoder = Encoder(folder, backend="onnx")
    assert encoder.max_tokens == reference(folder).max_seq_length == 48
    assert encoder.truncated(TEXTS).tolist() == [False, True, False, False, False]
    expected = theirs(folder)
    for backend in ("torch", "onnx"):
        same(ours(folder, backend), expected)


@pytest.mark.parametrize(
    ("kind", "pooling"),
    [("bert", "cls"), ("bert", "max"), ("bert", "mean_sqrt_len_tokens"), ("bert", ["mean", "max"]),
     ("qwen3", "weightedmean"), ("qwen3", "lasttoken")],
    ids=str,
)  # fmt: skip
def test_every_pooling_is_derived_too(kind: str, pooling: Any, plain: Callable[[str], Path], tmp_path: Path) -> None:
    folder = saved_by_sentence_transformers(tmp_path / "saved", plain(kind), pooling=pooling)
    expected = theirs(folder)
    same(ours(folder, "torch"), expected)
    same(ours(folder, "onnx"), expected)
    assert Encoder(folder).dimensions == WIDTH * (1 if isinstance(pooling, str) else len(pooling))


def test_the_flags_of_older_releases_count_as_pooling(plain: Callable[[str], Path], tmp_path: Path) -> None:
    folder = saved_by_sentence_transformers(tmp_path / "saved", plain("bert"))
    flags = {"word_embedding_dimension": WIDTH, "pooling_mode_cls_token": True, "pooling_mode_max_tokens": True}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(flags))
    assert Encoder(folder).dimensions == 2 * WIDTH
    same(ours(folder, "torch"), theirs(folder))


def test_further_modules_and_a_truncated_width_are_derived_too(plain: Callable[[str], Path], tmp_path: Path) -> None:
    from sentence_transformers.sentence_transformer.modules import Dense, Normalize

    folder = saved_by_sentence_transformers(
        tmp_path / "saved", plain("bert"), Dense(WIDTH, 20), Normalize(), truncate_dim=12
    )
    assert Encoder(folder).dimensions == 12
    for backend in ("torch", "torch-fp16", "onnx"):
        same(ours(folder, backend), theirs(folder))


def test_static_is_not_derived_from_a_model_with_further_modules(plain: Callable[[str], Path], tmp_path: Path) -> None:
    from sentence_transformers.sentence_transformer.modules import Dense

    dense = saved_by_sentence_transformers(tmp_path / "dense", plain("bert"), Dense(WIDTH, 20))
    with pytest.raises(ColdStartError, match=r"'static' cannot be derived from .*has the module Dense; take 'onnx'"):
        ours(dense, "static")
    short = saved_by_sentence_transformers(tmp_path / "short", plain("bert"), truncate_dim=12)
    with pytest.raises(ColdStartError, match=r"'static' cannot be derived from .*truncate_dim 12; take 'onnx'"):
        ours(short, "static")


def test_prompts_are_those_of_the_folder(plain: Callable[[str], Path], tmp_path: Path) -> None:
    listed = saved_by_sentence_transformers(
        tmp_path / "listed", plain("bert"), prompts={"query": "garden: ", "document": "the red lamp: "}
    )
    for backend in ("torch", "onnx"):
        same(ours(listed, backend), theirs(listed, prompt_name="document"))
        same(ours(listed, backend, prompt="query"), theirs(listed, prompt_name="query"))
    usual = saved_by_sentence_transformers(
        tmp_path / "usual", plain("bert"), prompts={"query": "garden: ", "all": "red: "}, default_prompt_name="all"
    )
    same(ours(usual, "torch"), theirs(usual))
    same(ours(usual, "torch", prompt="query"), theirs(usual, prompt_name="query"))


def test_a_pooling_that_leaves_out_prompts_is_refused(plain: Callable[[str], Path], tmp_path: Path) -> None:
    folder = saved_by_sentence_transformers(tmp_path / "saved", plain("bert"), prompts={"query": "garden: "})
    change_json(folder / "1_Pooling" / "config.json", include_prompt=False)
    with pytest.raises(ColdStartError, match=r"leaves out the tokens of its prompts \(include_prompt is false\)"):
        ours(folder, "torch")


@pytest.mark.parametrize(
    ("changes", "limit"),
    [
        ({}, 48),
        ({"tokenizer_config.json": {"model_max_length": int(1e30)}}, 64),
        ({"tokenizer_config.json": {"model_max_length": 2**62}}, 64),
        ({"tokenizer_config.json": {"model_max_length": None}}, 64),
        ({"tokenizer_config.json": {"model_max_length": None, "max_len": 40}}, 40),
        ({"tokenizer_config.json": {"max_length": 20}}, 48),
        ({"tokenizer.json": {"truncation": {"max_length": 20, "strategy": "LongestFirst", "stride": 0}}}, 48),
        ({"config.json": {"max_position_embeddings": None}, "tokenizer_config.json": {"model_max_length": 30}}, 30),
    ],
    ids=str,
)
def test_the_token_limit_of_a_plain_folder(changes: dict[str, dict[str, Any]], limit: int, bert: Path) -> None:
    for name, entries in changes.items():
        change_json(bert / name, **entries)
    assert Encoder(bert).max_tokens == limit
    if "config.json" not in changes:  # without it, the network has other sizes than its weights
        assert reference(bert).max_seq_length == limit
        same(ours(bert, "torch"), theirs(bert))


@pytest.mark.parametrize(
    ("entries", "limit"),
    [
        ({"max_seq_length": 30, "do_lower_case": False}, 30),
        ({"max_seq_length": None, "do_lower_case": True}, 48),
        ({"max_seq_length": 30, "tokenizer_args": {"model_max_length": 25}}, 25),
    ],
    ids=str,
)
def test_the_token_limit_that_sentence_transformers_saves(
    entries: dict[str, Any], limit: int, plain: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = saved_by_sentence_transformers(tmp_path / "saved", plain("bert"))
    (folder / "sentence_bert_config.json").write_text(json.dumps(entries))
    assert Encoder(folder).max_tokens == reference(folder).max_seq_length == limit
    same(ours(folder, "onnx"), theirs(folder))


@pytest.mark.parametrize("kind", sorted({"bert", "distilbert", *OFFSET}))
def test_a_limit_beyond_the_positions_of_the_network_is_lowered(kind: str, tmp_path: Path) -> None:
    folder = saved_by_sentence_transformers(tmp_path / "saved", tiny_model(tmp_path / "plain", kind))
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 512}))
    limit = 62 if kind in OFFSET else 64
    assert Encoder(folder).max_tokens == limit
    model = reference(folder)
    model.max_seq_length = limit
    long = [TEXTS[1]]
    expected = model.encode(long, normalize_embeddings=True)
    same(ours(folder, "torch", long), expected)
    same(ours(folder, "onnx", long), expected)


def test_relative_positions_have_no_limit(tmp_path: Path) -> None:
    folder = tiny_model(tmp_path / "t5", "t5", limit=None)
    encoder = Encoder(folder, backend="onnx", cache=False)
    assert encoder.max_tokens is None
    assert not encoder.truncated(TEXTS).any()
    same(encoder.encode(TEXTS), theirs(folder))


def test_a_tokenizer_that_transformers_makes_anew_is_used_as_it_makes_it(bert: Path) -> None:
    change_json(bert / "tokenizer_config.json", tokenizer_class="BertTokenizer", do_lower_case=False)
    assert reference(bert).tokenizer.tokenize("RED") != ["red"]
    same(ours(bert, "onnx"), theirs(bert))
    assert (ours(bert, "onnx", ["RED"]) @ ours(bert, "onnx", ["red"]).T).item() < 0.99


def test_texts_are_cut_and_padded_on_the_side_that_gives_one_vector(
    plain: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = saved_by_sentence_transformers(tmp_path / "saved", plain("qwen3"), pooling="lasttoken")
    change_json(folder / "tokenizer_config.json", padding_side="left", truncation_side="left")
    long = ["red lamp " + TEXTS[1], "blue lamp " + TEXTS[1]]
    for backend in ("torch", "torch-fp16", "onnx"):
        same(ours(folder, backend), theirs(folder))
        first, second = ours(folder, backend, long)
        np.testing.assert_allclose(first, second, atol=1e-5)


def test_a_text_without_tokens_has_a_zero_vector(plain: Callable[[str], Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(plain("llama"), tmp_path / "own"))
    change_json(folder / "tokenizer.json", post_processor=None)
    for backend in ("torch", "torch-fp16", "onnx"):
        empty, alone = ours(folder, backend, ["", "red lamp"])
        assert not empty.any()
        same(alone[None], theirs(folder, ["red lamp"]))
        assert not ours(folder, backend, [""]).any()


def test_weights_in_half_precision_are_computed_in_float32(plain: Callable[[str], Path], tmp_path: Path) -> None:
    saved = saved_by_sentence_transformers(tmp_path / "saved", plain("bert"))
    model = reference(saved).bfloat16()
    model.save_pretrained(str(tmp_path / "half"))
    expected = model.float().encode(TEXTS, normalize_embeddings=True)
    for backend in ("torch", "onnx"):
        same(ours(tmp_path / "half", backend), expected)


def test_a_transformer_in_a_folder_of_its_own(plain: Callable[[str], Path], tmp_path: Path) -> None:
    folder = saved_by_sentence_transformers(tmp_path / "saved", plain("bert"))
    inner = folder / "0_Transformer"
    inner.mkdir()
    for name in ("config.json", "sentence_bert_config.json", "tokenizer.json", "tokenizer_config.json",
                 "model.safetensors"):  # fmt: skip
        (folder / name).rename(inner / name)
    first, *others = json.loads((folder / "modules.json").read_text())
    (folder / "modules.json").write_text(json.dumps([{**first, "path": inner.name}, *others]))
    assert Encoder(folder).max_tokens == 48
    for backend in ("torch", "onnx"):
        same(ours(folder, backend), theirs(folder))
    assert ours(folder, "static").shape == (len(TEXTS), WIDTH)


def test_a_decoder_with_a_chat_template_is_run_by_torch_only(plain: Callable[[str], Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(plain("llama"), tmp_path / "chat"))
    template = "{% for one in messages %}{{ one['role'] }} wrote {{ one['content'] }} [SEP]{% endfor %}"
    (folder / "chat_template.jinja").write_text(template)
    same(ours(folder, "torch"), theirs(folder))
    counted = reference(folder).preprocess(TEXTS[3:])["attention_mask"].sum(dim=1).tolist()
    assert Encoder(folder).files.token_counts(TEXTS[3:]).tolist() == counted
    with pytest.raises(ColdStartError, match="go through its chat template, which 'onnx' does not fill in; take 'tor"):
        ours(folder, "onnx")
    assert Encoder(folder, device="cpu").backend == "torch"
    assert Encoder(folder, backend="torch").fingerprint != Encoder(plain("llama"), backend="torch").fingerprint


def test_a_static_embedding_model_is_run_by_torch_and_auto(tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding

    from tests.support.tiny_models import word_pieces

    words = word_pieces(pad_first=True)
    words.enable_truncation(10)
    static = StaticEmbedding(words, embedding_dim=16)
    SentenceTransformer(modules=[static], device="cpu", truncate_dim=8).save_pretrained(str(tmp_path))
    texts = [text for text in TEXTS if text]
    for backend in ("torch", "torch-fp16", "auto"):
        same(ours(tmp_path, backend, texts), theirs(tmp_path, texts))
    encoder = Encoder(tmp_path, device="cpu")
    assert (encoder.backend, encoder.dimensions, encoder.max_tokens) == ("torch", 8, 10)
    assert encoder.truncated(texts).tolist() == [False, True, False, False]
    assert not encoder.encode([""]).any()
    for backend in ("onnx", "onnx-int8", "static"):
        with pytest.raises(ColdStartError, match=f"is a static model already, so '{backend}' cannot be derived"):
            ours(tmp_path, backend)


def test_auto_runs_a_model_of_ones_own_past_its_limit(plain: Callable[[str], Path]) -> None:
    encoder = Encoder(plain("bert"), device="cpu", cache=False)
    assert (encoder.encode(TEXTS) * theirs(plain("bert"))).sum(axis=1).min() > 0.95
    assert encoder.backend.startswith("onnx")


def test_a_derived_model_that_strays_on_long_texts_is_refused_and_not_built_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tiny_model(tmp_path / "own", "bert", limit=46)
    whole = OnnxBackend.encode

    def wrong_on_long_texts(self: OnnxBackend, texts: list[str]) -> np.ndarray:
        return whole(self, [text[:20] if len(text) > 200 else text for text in texts])

    monkeypatch.setattr(OnnxBackend, "encode", wrong_on_long_texts)
    for built in (True, False):
        with pytest.raises(ColdStartError, match=r"for a text longer than its token limit, less than 0\.9997"):
            ours(folder, "onnx")
        assert ("building onnx" in capsys.readouterr().err) is built
    (kept,) = (manifests.models_folder() / Encoder(folder, backend="onnx").fingerprint).iterdir()
    assert kept.name == manifests.MANIFEST


def test_a_network_that_cannot_be_exported_says_so(
    plain: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    def fail(*_: Any, **__: Any) -> None:
        raise torch.onnx.errors.UnsupportedOperatorError("aten::odd", 17, None)

    folder = tiny_model(tmp_path / "own", "bert", limit=47)
    monkeypatch.setattr(torch.onnx, "export", fail)
    with pytest.raises(ColdStartError, match=r"'onnx' cannot be derived from .*; take 'torch': .*aten::odd"):
        ours(folder, "onnx")
    with pytest.warns(RuntimeWarning, match="is skipped"):
        same(ours(folder, "auto"), theirs(folder))


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("config.json", "{", r"config\.json is not valid JSON .*; restore the file"),
        ("config.json", "{}", "does not say how long its vectors are"),
        ("tokenizer.json", "{}", "does not run on device 'cpu': ValueError"),
        ("model.safetensors", "{}", "does not run on device 'cpu': SafetensorError"),
    ],
)
def test_a_damaged_file_is_named(name: str, content: str, reason: str, bert: Path) -> None:
    (bert / name).write_text(content)
    with pytest.raises(ColdStartError, match=reason):
        ours(bert, "torch")


def test_code_in_a_models_folder_is_never_run(bert: Path) -> None:
    change_json(bert / "config.json", model_type="own", auto_map={"AutoModel": "own.Own", "AutoConfig": "own.Config"})
    (bert / "own.py").write_text("raise SystemExit('was run')")
    with pytest.raises(ColdStartError, match="needs code from its own folder, which is never run"):
        ours(bert, "torch")


def test_everything_that_shapes_a_vector_is_in_the_fingerprint(plain: Callable[[str], Path], tmp_path: Path) -> None:
    assert Encoder(backend="torch").fingerprint == "torch-float32-384-c9211f66ce4be723"
    assert Encoder(backend="onnx-int8").fingerprint == "onnx-int8-384-7343fa1366c663f0"
    saved = saved_by_sentence_transformers(tmp_path / "saved", plain("bert"))
    changes: list[tuple[str, dict[str, Any]]] = [
        ("1_Pooling/config.json", {"pooling_mode": "cls"}),
        ("tokenizer_config.json", {"model_max_length": 40}),
        ("tokenizer_config.json", {"truncation_side": "left"}),
        ("tokenizer_config.json", {"do_lower_case": False}),
        ("sentence_bert_config.json", {"max_seq_length": 30}),
        ("config_sentence_transformers.json", {"prompts": {"query": "query: "}}),
        ("config_sentence_transformers.json", {"prompts": {"all": "all: "}, "default_prompt_name": "all"}),
        ("config_sentence_transformers.json", {"truncate_dim": 12}),
        ("tokenizer.json", {"normalizer": None}),
    ]
    found = {Encoder(saved, backend="torch").fingerprint}
    for number, (name, entries) in enumerate(changes):
        changed = Path(shutil.copytree(saved, tmp_path / str(number)))
        change_json(changed / name, **entries)
        found.add(Encoder(changed, backend="torch").fingerprint)
    assert len(found) == len(changes) + 1
