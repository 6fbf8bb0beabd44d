"""The profile kernel: P' = P + α(n)·M(d), in plain NumPy.

It knows nothing of DuckDB, Feast or LightFM. Every door (SQL, feature views, recommender) calls these
functions, so that one description gives the same numbers through all of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

from coldstart_udfs.errors import ColdStartError
from coldstart_udfs.settings import Enrichment as Enrichment  # users' code imports it from here

Vectors = NDArray[np.float32]

# How many vectors are gathered at once; 16,384 of 384 floats are 25 MB.
_BLOCK = 16_384


def has_text(text: str | None) -> bool:
    """Whether a description says anything: neither NULL nor blank.

    >>> has_text("a lamp"), has_text("  "), has_text(None)
    (True, False, False)
    """
    return isinstance(text, str) and text != "" and not text.isspace()


def evidence_weight(
    n: ArrayLike, weight: float, evidence_scale: float | None = None
) -> NDArray[np.float64]:
    """α(n) = α·a/(a+n): what a description weighs beside n interactions.

    Args:
        n: evidence, any shape; NaN counts as 0 (nothing is known).
        weight: α or β.
        evidence_scale: a; None or `inf` keeps the weight constant.

    >>> evidence_weight([0, 3], 2.0, 3.0).tolist()
    [2.0, 1.0]
    >>> evidence_weight([0, 3], 2.0).tolist()
    [2.0, 2.0]
    """
    evidence = np.asarray(n, dtype=np.float64)
    if not np.minimum.reduce(evidence, axis=None, initial=0) >= 0:  # below 0, or NaN somewhere
        evidence = np.where(np.isnan(evidence), 0, evidence)
        if evidence.min() < 0:
            raise ColdStartError(f"evidence n is {evidence.min():g}; it counts interactions, so it is at least 0")
    if evidence_scale is None or math.isinf(evidence_scale):
        constant = np.empty(evidence.shape)
        constant.fill(weight)
        return constant
    return weight * evidence_scale / (evidence_scale + evidence)


def enrich(profiles: Vectors, embeddings: Vectors, weights: ArrayLike) -> Vectors:
    """P' = P + w·M(d), row by row.

    Args:
        profiles: (n, d) float32; zero rows for entities without history.
        embeddings: (n, d) float32; zero rows for entities without a description.
        weights: (n,) or scalar, α(n).

    Returns:
        (n, d) float32.

    Raises:
        ColdStartError: the two widths differ.

    >>> enrich(np.array([[1, 0]], "f4"), np.array([[0, 1]], "f4"), 0.5).tolist()
    [[1.0, 0.5]]
    """
    if profiles.shape != embeddings.shape:
        raise ColdStartError(
            f"profiles are {profiles.shape[-1]} wide, the encoder's embeddings {embeddings.shape[-1]}; "
            "they must come from the same encoder"
        )
    # Rounded to float32 before the product, so that every door multiplies the same numbers.
    column = np.asarray(weights, dtype=np.float32).reshape(-1, 1)
    return np.asarray(profiles + column * embeddings, dtype=np.float32)


def sum_profiles(vectors: Vectors, weights: NDArray[np.float32], offsets: NDArray[np.int64]) -> Vectors:
    """P = Σ w·x for each of m groups of rows.

    Args:
        vectors: (n, d) float32.
        weights: (n,) float32.
        offsets: (m + 1,) increasing; group k is the rows offsets[k]:offsets[k + 1], which may be none.

    Returns:
        (m, d) float32; zero for an empty group. Sums are taken in float64.

    >>> sum_profiles(np.eye(2, dtype="f4"), np.array([2, 3], "f4"), np.array([0, 2, 2])).tolist()
    [[2.0, 3.0], [0.0, 0.0]]
    """
    result = np.zeros((len(offsets) - 1, vectors.shape[1]), dtype=np.float32)
    for groups in _blocks(offsets):
        low, high = offsets[groups.start], offsets[groups.stop]
        if low < high:
            weighted = vectors[low:high].astype(np.float64) * weights[low:high, None]
            result[groups] = _reduce(weighted, offsets[groups.start : groups.stop + 1] - low)
    return result


def user_profiles(
    users: NDArray[np.int64], items: NDArray[np.int64], weights: NDArray[np.float32], embeddings: Vectors,
    n_users: int,
) -> Vectors:
    """P_u = Σ w·x_i over each user's interactions.

    Args:
        users: (n,) row numbers of the interactions' users.
        items: (n,) row numbers of their items in `embeddings`.
        weights: (n,) float32.
        embeddings: (items, d) float32.
        n_users: how many rows the result has.

    Returns:
        (n_users, d) float32, zero for a user without interactions.
    """
    order, offsets = _group(users, n_users)
    result = np.zeros((n_users, embeddings.shape[1]), dtype=np.float32)
    for groups in _blocks(offsets):
        rows = order[offsets[groups.start] : offsets[groups.stop]]
        local = offsets[groups.start : groups.stop + 1] - offsets[groups.start]
        result[groups] = sum_profiles(embeddings[items[rows]], weights[rows], local)
    return result


def item_profiles(
    users: NDArray[np.int64], items: NDArray[np.int64], weights: NDArray[np.float32], embeddings: Vectors,
    profiles: Vectors,
) -> Vectors:
    """P_i = the mean of its buyers' unit profiles, each with the item itself left out.

    Leaving it out keeps an item from describing itself through those who bought it. A buyer of nothing
    else says nothing about the item and is not counted.

    Args:
        users: (n,) row numbers of the interactions' users in `profiles`.
        items: (n,) row numbers of their items in `embeddings`.
        weights: (n,) float32; one row per pair (add repeated interactions up first).
        embeddings: (items, d) float32.
        profiles: (users, d) float32, P_u.

    Returns:
        (items, d) float32, zero for an item without such buyers.
    """
    n_items = len(embeddings)
    per_user = np.bincount(users, minlength=len(profiles))
    informative = per_user[users] > 1
    users, items, weights = users[informative], items[informative], weights[informative]
    order, offsets = _group(items, n_items)
    result = np.zeros_like(embeddings)
    for groups in _blocks(offsets):
        rows = order[offsets[groups.start] : offsets[groups.stop]]
        rest = profiles[users[rows]] - weights[rows, None] * embeddings[items[rows]]
        local = offsets[groups.start : groups.stop + 1] - offsets[groups.start]
        buyers = np.repeat(np.diff(local), np.diff(local))
        norms = np.linalg.norm(rest, axis=1)
        # A buyer of texts without vectors has a zero profile: no direction, no say.
        scale = np.divide(1.0, norms * buyers, out=np.zeros(len(rows), np.float32), where=norms > 1e-6)
        result[groups] = sum_profiles(rest, scale.astype(np.float32), local)
    return result


def similarity(a: Vectors, b: Vectors) -> NDArray[np.float64]:
    """Cosine of each pair of rows, NaN where either is a zero vector (it has no direction).

    Args:
        a: (n, d).
        b: (n, d).

    >>> similarity(np.array([[1, 0], [0, 0]], "f4"), np.array([[2, 0], [1, 0]], "f4")).tolist()
    [1.0, nan]
    """
    if a.shape != b.shape:
        raise ColdStartError(
            f"similarity() of vectors of {a.shape[-1]} and {b.shape[-1]} numbers; they must be equally long"
        )
    a64, b64 = a.astype(np.float64), b.astype(np.float64)
    norms = np.sqrt(np.einsum("ij,ij->i", a64, a64) * np.einsum("ij,ij->i", b64, b64))
    dots = np.einsum("ij,ij->i", a64, b64)
    result: NDArray[np.float64] = np.divide(dots, norms, out=np.full(len(a), np.nan), where=norms > 0)
    return result


def _group(keys: NDArray[np.int64], n: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The order that brings equal keys together, and where each of the n keys starts in it."""
    order = np.argsort(keys, kind="stable")
    offsets = np.zeros(n + 1, dtype=np.int64)
    np.cumsum(np.bincount(keys, minlength=n), out=offsets[1:])
    return order, offsets


def _blocks(offsets: NDArray[np.int64]) -> Iterator[slice]:
    """Cut the groups into runs of about _BLOCK rows; one large group makes a run of its own."""
    start, groups = 0, len(offsets) - 1
    while start < groups:
        stop = int(np.searchsorted(offsets, offsets[start] + _BLOCK, side="right")) - 1
        stop = min(max(stop, start + 1), groups)
        yield slice(start, stop)
        start = stop


def _reduce(rows: NDArray[np.float64], offsets: NDArray[np.int64]) -> NDArray[np.float64]:
    """Sum the rows of each group; `np.add.reduceat` cannot express an empty group."""
    result = np.zeros((len(offsets) - 1, rows.shape[1]))
    filled = np.flatnonzero(np.diff(offsets))
    if len(filled):
        result[filled] = np.add.reduceat(rows, offsets[filled], axis=0)
    return result
