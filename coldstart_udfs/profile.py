"""The profile kernel: P' = P + α(n)·M(d), in plain NumPy.

It knows nothing of DuckDB, Feast or LightFM. Every door (SQL, feature views, recommender) calls these
functions, so that one description gives the same numbers through all of them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from coldstart_udfs.errors import ColdStartError
from coldstart_udfs.files import write_text

Vectors = NDArray[np.float32]

ENRICHMENT_FILE = "enrichment.json"
# What an event of a type counts as, in purchases. Custom, not measurement: fit them (`coldstart weigh`), or give your
# own. Any other type counts as a purchase. Of a return it is the share of a purchase that it takes back.
EVENT_WEIGHTS = {"view": 0.1, "search": 0.2, "cart": 0.5, "purchase": 1.0, "return": 1.0}

_FITTED = ("alpha", "beta", "evidence_scale", "event_weights", "half_life_days")
_MAY_BE_INFINITE = ("evidence_scale", "half_life_days")
# How many vectors are gathered at once; 16,384 of 384 floats are 25 MB.
_BLOCK = 16_384


@dataclass(frozen=True)
class Enrichment:
    """How much a description and each event weigh: the contents of `enrichment.json`.

    Attributes:
        alpha: α, the weight of a user's description, in interactions: a description counts as α of them.
        beta: β, the same for an item's description.
        evidence_scale: a in α(n) = α·a/(a+n), in interactions; `inf` keeps α constant. P is a sum that
            grows with every interaction, so a constant α already fades beside it.
        event_weights: what an event counts as in P, by type; a type that is not named counts as in `EVENT_WEIGHTS`,
            and as 1 if it is not there either. 0 leaves a type out.
        half_life_days: after so many days an event counts half; `inf` keeps it whole.
        model: the encoder, a folder or a sentence-transformers name; None is the embedded default.
        backend: what runs it, recorded when the repository's first vectors are written; None before that.
        source: for each setting, where its value comes from ("default", "fitted …").
    """

    alpha: float = 1.0
    beta: float = 1.0
    evidence_scale: float = math.inf
    event_weights: dict[str, float] = field(default_factory=EVENT_WEIGHTS.copy)
    half_life_days: float = math.inf
    model: str | None = None
    backend: str | None = None
    source: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("alpha", "beta", "evidence_scale", "half_life_days"):
            _check_number(name, getattr(self, name))
        if math.isinf(self.alpha) or math.isinf(self.beta):
            raise ColdStartError("alpha and beta must be finite; only evidence_scale may be infinite (null)")
        if self.evidence_scale == 0:
            raise ColdStartError("evidence_scale is 0; it must be positive, or null for a constant weight")
        if self.half_life_days == 0:
            raise ColdStartError("half_life_days is 0; it must be positive, or null for events that do not age")
        if not isinstance(self.event_weights, dict):
            raise ColdStartError(f"event_weights is {self.event_weights!r}; it must be like {EVENT_WEIGHTS}")
        for name, weight in self.event_weights.items():
            if not isinstance(name, str) or name != name.strip().lower():
                raise ColdStartError(f"event_weights names {name!r}; types of events are lower case, without spaces")
            _check_number(f"the event weight of {name!r}", weight)
            if math.isinf(weight) or (name == "return" and weight > 1):
                raise ColdStartError(f"the event weight of {name!r} is {weight!r}; it must be finite, of 'return' ≤ 1")

    @classmethod
    def read(cls, path: str | Path) -> Enrichment:
        """Read `enrichment.json`. An `evidence_scale` or `half_life_days` of null stands for infinity.

        Raises:
            ColdStartError: no such file, not JSON, an unknown key, or a value out of range.
        """
        try:
            given = json.loads(Path(path).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise ColdStartError(f"{path} does not exist; `coldstart train` writes one") from None
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise ColdStartError(f"{path} is not JSON: {error}") from None
        known = set(cls.__dataclass_fields__)
        if not isinstance(given, dict) or not set(given) <= known:
            unknown = sorted(set(given) - known) if isinstance(given, dict) else type(given).__name__
            raise ColdStartError(f"{path} holds {unknown}; possible keys are {sorted(known)}")
        given |= {name: math.inf for name in _MAY_BE_INFINITE if given.get(name, 0) is None}
        try:
            return cls(**given)
        except ColdStartError as error:
            raise ColdStartError(f"{path}: {error}") from None

    @classmethod
    def of_repo(cls, repo: Path) -> Enrichment:
        """The settings of a Feast repository: its `enrichment.json`, or the defaults before there is one."""
        path = repo / ENRICHMENT_FILE
        return cls.read(path) if path.exists() else cls(source=dict.fromkeys(_FITTED, "default"))

    def write(self, path: str | Path) -> None:
        """Write `enrichment.json`, whole or not at all."""
        values: dict[str, Any] = asdict(self)
        values |= {name: None for name in _MAY_BE_INFINITE if math.isinf(values[name])}
        write_text(Path(path), json.dumps(values, indent=2, ensure_ascii=False) + "\n")


def _check_number(name: str, value: Any) -> None:
    if not isinstance(value, (int, float)) or isinstance(value, bool) or math.isnan(value) or value < 0:
        raise ColdStartError(f"{name} is {value!r}; it must be a number of at least 0")


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
