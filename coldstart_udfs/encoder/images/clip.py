"""CLIP-like models of sentence-transformers: pictures and texts in one space."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from coldstart_udfs.encoder.backends import torch_threads
from coldstart_udfs.encoder.model_files import ModelFiles, read_json, sha256
from coldstart_udfs.errors import ColdStartError
from coldstart_udfs.profile import Vectors

if TYPE_CHECKING:
    from PIL import Image

# The model looks at a few hundred pixels a side; more would only take memory until it scales them down itself.
_SIDE = 1_024


class Clip:
    """A model that encodes pictures, and texts into the same space."""

    def __init__(self, folder: Path, name: str, threads: int) -> None:
        """Load a folder; takes seconds.

        Raises:
            ColdStartError: the model does not load, or encodes no pictures.
        """
        from PIL import Image
        from sentence_transformers import SentenceTransformer
        from transformers.utils import logging

        logging.disable_progress_bar()  # type: ignore[no-untyped-call]
        self._threads = threads
        try:
            self._network = SentenceTransformer(str(folder), device="cpu", local_files_only=True).eval().float()
            self.dimensions = self.encode([Image.new("RGB", (32, 32))]).shape[1]
        except Exception as error:  # whatever is wrong with a folder that others made
            raise ColdStartError(
                f"{name} encodes no pictures ({type(error).__name__}: {error}); give a CLIP-like sentence-transformers "
                "model, or None for EfficientNet-Lite0"
            ) from error

    def prepare(self, image: Image.Image) -> Image.Image:
        """A picture of at most 1,024 pixels a side."""
        image.thumbnail((_SIDE, _SIDE))
        return image

    def encode(self, prepared: Sequence[Image.Image]) -> Vectors:
        """(n, dimensions) float32 of unit length, for n results of `prepare`."""
        return self._encode(list(prepared))

    def encode_texts(self, texts: Sequence[str]) -> Vectors:
        """(n, dimensions) float32 of unit length, in the space of the pictures."""
        return self._encode(list(texts))

    def _encode(self, inputs: list[Any]) -> Vectors:
        with torch_threads(self._threads):
            vectors = self._network.encode(
                inputs, batch_size=16, prompt="", normalize_embeddings=True, convert_to_numpy=True,
                show_progress_bar=False,
            )  # fmt: skip
        return np.asarray(vectors, dtype=np.float32)


def folder_of(model: str) -> Path:
    """The folder of a model that is named or is one itself.

    Raises:
        ColdStartError: there is no such folder, and the hub does not give it.
    """
    return ModelFiles(model).folder


def identity(folder: Path) -> str:
    """A hash of everything in a folder that affects a vector; JSON counts by its content.

    Raises:
        ColdStartError: the folder has no *.safetensors.
    """
    weights = sorted(folder.rglob("*.safetensors"))
    if not weights:
        raise ColdStartError(f"{folder} holds no *.safetensors; is it a sentence-transformers model?")
    found = {path.relative_to(folder).as_posix(): sha256(path) for path in weights}
    for path in sorted(folder.rglob("*.json")):
        content = json.dumps(read_json(path), sort_keys=True)
        found[path.relative_to(folder).as_posix()] = hashlib.sha256(content.encode()).hexdigest()
    return hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()
