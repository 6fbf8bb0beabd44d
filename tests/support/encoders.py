"""Stub encoders, for unit tests of what happens around the real one."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cache
from types import SimpleNamespace

import numpy as np

from coldstart_udfs.encoder.progress import EncoderStats


class StubEncoder:
    """No model: a text's vector is drawn from its hash. For unit tests of what happens around the encoder."""

    name = backend = fingerprint = "stub"
    dimensions = 4
    max_tokens = 8
    device = "cpu"
    files = SimpleNamespace(model=None)  # it was not tuned from another encoder

    def __init__(self) -> None:
        self.stats = EncoderStats()
        self.seen: list[str] = []
        self.prompts: set[str] = set()

    def truncated(self, texts: Sequence[str]) -> np.ndarray:
        return np.array([len(text.split()) > self.max_tokens for text in texts], dtype=bool)

    def encode(self, texts: Sequence[str], prompt: str = "document") -> np.ndarray:
        unique = list(dict.fromkeys(texts))
        self.prompts.add(prompt)
        self.seen += unique
        if "poison" in unique:
            raise ValueError("this text cannot be encoded")
        vectors = {text: self.vector(text) for text in unique}
        return np.array([vectors[text] for text in texts], dtype=np.float32).reshape(len(texts), 4)

    @staticmethod
    def vector(text: str) -> np.ndarray:
        seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")
        vector = np.random.default_rng(seed).normal(size=4).astype(np.float32)
        return vector / np.linalg.norm(vector)


class WordEncoder:
    """No model: a word's vector is drawn from its hash, a text's is the sum of its words' (so alike texts are near)."""

    dimensions, fingerprint = 64, "words"

    def encode(self, texts: list[str]) -> np.ndarray:
        vectors = np.zeros((len(texts), self.dimensions), np.float32)
        for row, text in enumerate(texts):
            vectors[row] = sum(map(self._word, text.lower().split()))
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    @staticmethod
    @cache
    def _word(word: str) -> np.ndarray:
        seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:4], "big")
        return np.random.default_rng(seed).normal(size=WordEncoder.dimensions)
