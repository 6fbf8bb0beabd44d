"""Texts of requests: without private data, encoded by one thread, with a bound on how many wait."""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from coldstart_udfs.encoder.encoder import Encoder
from coldstart_udfs.text.redaction import redact
from recommender.serve.metrics import Metrics
from recommender.serve.problems import ProblemError

# How many texts wait for the encoder at most; a short one takes some milliseconds.
MOST_WAITING = 32
_REMEMBERED = 10_000


class Texts:
    """Encodes texts, the latest of which are remembered in memory and nowhere else.

    Args:
        encoder: of the recommender's vectors.
        metrics: count what is remembered and what waits.
    """

    def __init__(self, encoder: Encoder, metrics: Metrics) -> None:
        self._encoder, self._metrics = encoder, metrics
        self._thread = ThreadPoolExecutor(1, "encoder")
        self._known: OrderedDict[str, NDArray[np.float32]] = OrderedDict()
        self._lock = threading.Lock()
        self._waiting = 0

    @property
    def fingerprint(self) -> str:
        """Of the encoder."""
        return self._encoder.fingerprint

    def warm_up(self) -> None:
        """Load the model."""
        self._encoder.encode(["a text"])

    async def encode(self, text: str, *, private: bool = True) -> tuple[str, NDArray[np.float32]]:
        """A text, and its embedding, (d,) float32.

        Args:
            text: with at least one character that is no space.
            private: replace private data in the text before anything else.

        Raises:
            ProblemError: 429, too many texts wait.
        """
        if self._waiting >= MOST_WAITING:
            self._metrics.refused.labels("encoder").inc()
            raise ProblemError(
                429, f"{MOST_WAITING} texts wait for the encoder; ask again in a second", {"Retry-After": "1"}
            )
        self._waiting += 1
        self._metrics.waiting.set(self._waiting)
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, self._encoded, text, private)
        finally:
            self._waiting -= 1
            self._metrics.waiting.set(self._waiting)

    def forget(self) -> None:
        """Forget all texts."""
        with self._lock:
            self._known.clear()
        self._metrics.drift.forget()

    def _encoded(self, text: str, private: bool) -> tuple[str, NDArray[np.float32]]:
        text = redact(text) if private else text
        with self._lock:
            known = self._known.get(text)
            if known is not None:
                self._known.move_to_end(text)
        self._metrics.texts.labels("remembered" if known is not None else "encoded").inc()
        if known is None:
            known = np.asarray(self._encoder.encode([text])[0])
            if private:
                self._metrics.drift.add(known)
            with self._lock:
                self._known[text] = known
                if len(self._known) > _REMEMBERED:
                    self._known.popitem(last=False)
        return text, known
