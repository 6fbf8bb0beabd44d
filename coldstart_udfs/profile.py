"""The profile kernel, P' = P + α(n)·M(d), in NumPy.

SQL functions, feature views and the recommender all call these functions, so one description gives the same numbers in
each of them. The module depends on none of DuckDB, Feast and LightFM.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

from coldstart_udfs.errors import ColdStartError, ColdStartWarning
from coldstart_udfs.settings import Enrichment as Enrichment  # users' code imports it from here

Vectors = NDArray[np.float32]

# Number of vectors gathered at once; 16,384 vectors of 384 floats are 25 MB, and a slice of 2,048 fits into a cache.
_BLOCK, _SLICE = 16_384, 2_048

# The share of |P|² + |w·x|² below which |P - w·x|² is that of the difference of the vectors.
_CANCELLED = 0.05

# A vector that is not longer than this is zero up to rounding, and has no direction.
_SHORTEST = 1e-6


def has_text(text: str | None) -> bool:
    """Whether a description has text: it is neither NULL nor blank.

    >>> has_text("a lamp"), has_text("  "), has_text(None)
    (True, False, False)
    """
    return isinstance(text, str) and text != "" and not text.isspace()


def finite_rows(vectors: Vectors) -> NDArray[np.bool_]:
    """(n,) whether each row of an (n, d) matrix is free of NaN and infinity.

    >>> finite_rows(np.array([[1, 0], [np.nan, 0], [0, np.inf]], "f4")).tolist()
    [True, False, False]
    """
    with np.errstate(over="ignore", invalid="ignore"):
        if np.isfinite(np.add.reduce(vectors, axis=None)):  # one pass: NaN and infinity survive in a sum
            return np.ones(len(vectors), dtype=bool)
    return np.asarray(np.isfinite(vectors).all(axis=1))


def usable_rows(vectors: Vectors, name: str) -> NDArray[np.bool_]:
    """`finite_rows`, with a `ColdStartWarning` that counts the others, which the caller takes for missing.

    Args:
        vectors: (n, d) float32.
        name: what the vectors are, for the warning.
    """
    usable = finite_rows(vectors)
    if not usable.all():
        warnings.warn(
            f"{name}: {len(usable) - np.count_nonzero(usable):,} of {len(usable):,} vectors hold NaN or infinity and "
            "count as missing; write them again, or NULL in their place",
            ColdStartWarning,
            stacklevel=2,
        )
    return usable


def evidence_weight(
    n: ArrayLike, weight: float, evidence_scale: float | None = None
) -> NDArray[np.float64]:
    """The weight of a description beside n interactions, α(n) = α·a/(a+n).

    Args:
        n: evidence, of any shape; NaN counts as 0.
        weight: α or β.
        evidence_scale: a; None or `inf` keeps the weight constant.

    >>> evidence_weight([0, 3], 2.0, 3.0).tolist()
    [2.0, 1.0]
    >>> evidence_weight([0, 3], 2.0).tolist()
    [2.0, 2.0]
    """
    evidence = np.asarray(n, dtype=np.float64)
    if not np.minimum.reduce(evidence, axis=None, initial=0) >= 0:  # some n is negative or NaN
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
        ColdStartError: the two widths differ, or a weight is NaN or too large for float32.

    >>> enrich(np.array([[1, 0]], "f4"), np.array([[0, 1]], "f4"), 0.5).tolist()
    [[1.0, 0.5]]
    """
    if profiles.shape != embeddings.shape:
        raise ColdStartError(
            f"profiles are {profiles.shape[-1]} wide, the encoder's embeddings {embeddings.shape[-1]}; "
            "they must come from the same encoder"
        )
    # Rounded to float32 before the product, so that every door multiplies the same numbers.
    with np.errstate(over="ignore"):
        column = np.asarray(weights, dtype=np.float32).reshape(-1, 1)
    if not np.isfinite(column).all():
        wrong = np.asarray(weights, dtype=np.float64).reshape(-1)[~np.isfinite(column[:, 0])]
        raise ColdStartError(
            f"the weight of a description (alpha) is {wrong[0]:g}; it must be a finite number, such as alpha(n) or 1.0"
        )
    return np.asarray(profiles + column * embeddings, dtype=np.float32)


def sum_profiles(vectors: Vectors, weights: NDArray[np.float32], offsets: NDArray[np.int64]) -> Vectors:
    """P = Σ w·x for each of m groups of rows.

    Args:
        vectors: (n, d) float32.
        weights: (n,) float32.
        offsets: (m + 1,) increasing; group k is the rows offsets[k]:offsets[k + 1], which may be none.

    Returns:
        (m, d) float32, summed in float64; zero for an empty group.

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
    users: NDArray[np.integer], items: NDArray[np.integer], weights: NDArray[np.floating], embeddings: Vectors,
    n_users: int,
) -> Vectors:
    """P_u = Σ w·x_i over each user's interactions.

    Args:
        users: (n,) row numbers of the interactions' users.
        items: (n,) row numbers of their items in `embeddings`.
        weights: (n,) of floats.
        embeddings: (items, d) float32.
        n_users: how many rows the result has.

    Returns:
        (n_users, d) float32, summed in float64; zero for a user without interactions.
    """
    order, offsets = _group(users, n_users)
    result = np.zeros((n_users, embeddings.shape[1]), dtype=np.float32)
    for groups in _blocks(offsets):
        sums = np.zeros((groups.stop - groups.start, embeddings.shape[1]))
        for rows, local in _slices(offsets, groups):
            chosen = order[rows]
            vectors = embeddings[items[chosen]].astype(np.float64)
            _add_products(sums, local, weights[chosen].astype(np.float64), vectors)
        result[groups] = sums
    return result


def item_profiles(
    users: NDArray[np.integer], items: NDArray[np.integer], weights: NDArray[np.floating], embeddings: Vectors,
    profiles: Vectors,
) -> Vectors:
    """P_i = the mean of the unit profiles of the item's buyers, each without the item itself.

    Without the item itself, an item does not describe itself through its buyers. Users who bought nothing else have no
    profile without the item and are not counted.

    Args:
        users: (n,) row numbers of the interactions' users in `profiles`.
        items: (n,) row numbers of their items in `embeddings`.
        weights: (n,) of floats; one row per pair of user and item (add up repeated interactions first).
        embeddings: (items, d) float32.
        profiles: (users, d) float32, P_u.

    Returns:
        (items, d) float32, zero for an item without such buyers.
    """
    per_user = np.bincount(users, minlength=len(profiles))
    informative = per_user[users] > 1
    order, offsets = _group(items[informative], len(embeddings))
    buyers, weights = users[informative][order], weights[informative][order]
    result = np.zeros_like(embeddings)
    for rows, means in item_profile_blocks(buyers, weights, offsets, embeddings, profiles):
        result[rows] = means
    return result


def item_profile_blocks(
    buyers: NDArray[np.integer], weights: NDArray[np.floating], offsets: NDArray[np.int64], embeddings: Vectors,
    profiles: Vectors,
) -> Iterator[tuple[slice, Vectors]]:
    """P_i of all items, some at a time, so that memory does not grow with the number of items.

    With the rest r = P_u - w·x_i of each of m buyers, P_i = Σ r/|r| / m = (Σ P_u/|r| - Σ w/|r|·x_i) / m. The first sum
    is the product of a sparse matrix with the profiles.

    Args:
        buyers: (n,) row numbers in `profiles` of the users that count, item by item, once for each item.
        weights: (n,) of floats, what the item adds to the buyer's profile.
        offsets: (items + 1,) increasing; the buyers of item k are the rows offsets[k]:offsets[k + 1], perhaps none.
        embeddings: (items, d) float32.
        profiles: (users, d) float32, P_u.

    Yields:
        A slice of the items and their (k, d) float32 profiles; the slices cover all items in their order.
    """
    squares, item_squares = (np.vecdot(vectors, vectors).astype(np.float64) for vectors in (profiles, embeddings))
    for groups in _blocks(offsets):
        n_items = groups.stop - groups.start
        sums, own = np.zeros((n_items, embeddings.shape[1])), np.zeros(n_items)
        for rows, local in _slices(offsets, groups):
            counts = np.diff(local)
            items = groups.start + np.repeat(np.arange(n_items), counts)
            chosen, w = buyers[rows], weights[rows].astype(np.float64)
            found, vectors = profiles[chosen], embeddings[items]
            whole = squares[chosen] + w * w * item_squares[items]
            squared = whole - 2 * w * np.vecdot(found, vectors)
            # Where the item is nearly the whole profile, differences of sums lose their digits.
            near = np.flatnonzero(squared < _CANCELLED * whole)
            found[near] -= w[near, None] * vectors[near]
            squared[near] = np.vecdot(found[near], found[near])
            w[near] = 0
            norms = np.sqrt(squared)
            # A buyer whose other items have no vectors has a zero profile: it has no direction, but counts in the mean.
            scale = np.divide(1.0, norms, out=np.zeros(len(norms)), where=norms > _SHORTEST)
            _add_products(sums, local, scale.astype(np.float32), found)
            own += np.bincount(items - groups.start, scale * w, n_items)
        buyers_of = np.maximum(np.diff(offsets[groups.start : groups.stop + 1]), 1)[:, None]
        yield groups, ((sums - own[:, None] * embeddings[groups]) / buyers_of).astype(np.float32)


def updated_item_profiles(
    means: Vectors, counts: NDArray[np.floating], items: NDArray[np.int64], weights: NDArray[np.float32],
    embeddings: Vectors, buyers: Vectors,
) -> Vectors:
    """Item profiles after new interactions, as running means.

    Only the new buyers are read: the part of earlier buyers in the mean stays as it was, although their own profiles
    may have changed. The result is therefore an approximation of `item_profiles` over all interactions.

    Args:
        means: (k, d) float32, P_i of the k items concerned.
        counts: (k,) number of buyers in each mean; counts as 0 where the mean is zero.
        items: (n,) row numbers, from 0 to k - 1, of the new interactions' items; one row per pair of user and item.
        weights: (n,) float32.
        embeddings: (k, d) float32, of the same items.
        buyers: (n, d) float32, P_u of each interaction's user with the new interactions included.

    Returns:
        (k, d) float32. Users who bought nothing else are not counted.

    >>> lamp, spade = np.eye(2, dtype="f4")
    >>> updated_item_profiles(np.array([lamp]), np.array([1.0]), np.array([0]), np.array([1], "f4"), np.array([lamp]),
    ...     np.array([lamp + spade])).tolist()  # a buyer of one lamp before, now one who also has a spade
    [[0.5, 0.5]]
    """
    rest, norms = _without(items, weights, embeddings, buyers)
    told = norms > _SHORTEST
    order, offsets = _group(items[told], len(means))
    sums = sum_profiles(rest[told][order], (1 / norms[told][order]).astype(np.float32), offsets)
    before = np.where(means.any(axis=1), counts, 0)[:, None]
    total = np.maximum(before + np.diff(offsets)[:, None], 1)
    return np.asarray((means * before + sums) / total, dtype=np.float32)


def _without(
    items: NDArray[np.int64], weights: NDArray[np.float32], embeddings: Vectors, buyers: Vectors
) -> tuple[Vectors, NDArray[np.float32]]:
    """(n, d) the buyers' profiles without the items themselves, and (n,) their lengths."""
    rest = buyers - weights[:, None] * embeddings[items]
    return rest, np.linalg.norm(rest, axis=1)


def band(number: float) -> str:
    """The band of a positive number: the power of two at its lower end. Bands do not depend on the data.

    >>> band(3.5), band(8), band(0.3)
    ('2^1', '2^3', '2^-2')
    """
    return f"2^{math.floor(math.log2(number))}"


def band_label(name: str, number: float) -> str:
    """The attribute for a number, named by its band, as the data contract's SQL makes it.

    >>> band_label("price", 3.5), band_label("price", -1)
    ('price=2^1', 'price<=0')
    """
    return f"{name}={band(number)}" if number > 0 else f"{name}<=0"


def similarity(a: Vectors, b: Vectors) -> NDArray[np.float64]:
    """Cosine of each pair of rows; NaN where either is a zero vector or holds NaN or infinity.

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
    result: NDArray[np.float64] = np.full(len(a), np.nan)
    np.divide(dots, norms, out=result, where=(norms > 0) & np.isfinite(norms))
    return result


def _group(keys: NDArray[np.integer], n: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """An order of the rows that groups equal keys, and the offset of each of the n keys in it."""
    order = np.argsort(keys, kind="stable")
    offsets = np.zeros(n + 1, dtype=np.int64)
    np.cumsum(np.bincount(keys, minlength=n), out=offsets[1:])
    return order, offsets


def _blocks(offsets: NDArray[np.int64]) -> Iterator[slice]:
    """Cut the groups into runs of about _BLOCK rows and at most as many groups; a larger group is a run of its own."""
    start, groups = 0, len(offsets) - 1
    while start < groups:
        stop = int(np.searchsorted(offsets, offsets[start] + _BLOCK, side="right")) - 1
        stop = min(max(stop, start + 1), start + _BLOCK, groups)
        yield slice(start, stop)
        start = stop


def _slices(offsets: NDArray[np.int64], groups: slice) -> Iterator[tuple[slice, NDArray[np.int64]]]:
    """Cut the rows of some groups into slices of _SLICE rows, each with the offsets of these groups in it."""
    own = offsets[groups.start : groups.stop + 1]
    for first in range(int(own[0]), int(own[-1]), _SLICE):
        last = min(first + _SLICE, int(own[-1]))
        yield slice(first, last), np.clip(own, first, last) - first


def _add_products(
    sums: NDArray[np.float64], offsets: NDArray[np.int64], weights: NDArray[np.floating], vectors: NDArray[np.floating]
) -> None:
    """Add the weighted sum of the vectors of each group to its row of `sums`."""
    from scipy.sparse import csr_matrix

    filled = np.flatnonzero(np.diff(offsets))
    bounds = np.append(offsets[filled], offsets[-1])
    products = csr_matrix((weights, np.arange(len(weights)), bounds), shape=(len(filled), len(weights)))
    sums[filled] += products @ vectors


def _reduce(rows: NDArray[np.float64], offsets: NDArray[np.int64]) -> NDArray[np.float64]:
    """Sum the rows of each group; `np.add.reduceat` cannot express an empty group."""
    result = np.zeros((len(offsets) - 1, rows.shape[1]))
    filled = np.flatnonzero(np.diff(offsets))
    if len(filled):
        result[filled] = np.add.reduceat(rows, offsets[filled], axis=0)
    return result
