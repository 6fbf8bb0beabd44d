"""Vectors that two processes of a test agree on without telling each other."""

from __future__ import annotations

import numpy as np

WIDTH = 8


def vector(number: int) -> np.ndarray:
    """The vector of a number, (WIDTH,) and of length 1, drawn from it."""
    drawn = np.random.default_rng(number).normal(size=WIDTH).astype(np.float32)
    return drawn / np.linalg.norm(drawn)
