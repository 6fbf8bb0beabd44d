"""`Entities`: the features of users or items."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from coldstart_udfs.encoder.encoder import Encoder
from coldstart_udfs.errors import ColdStartError
from coldstart_udfs.profile import Vectors, has_text, item_profiles, user_profiles
from recommender.data.interactions import Interactions


@dataclass(frozen=True)
class Entities:
    """The features of n users, or of n items; row k belongs to `ids[k]`.

    Attributes:
        ids: strings; unique if a recommender learns from them.
        descriptions: "" for entities without a description.
        attributes: lists of "column=value".
        embeddings: (n, d) float32, M(d); zero rows for entities without a description.
        profiles: (n, d) float32, P, not enriched; zero rows for entities without history.
        evidence: (n,) float64, the number of interactions behind P.
        fingerprint: fingerprint of the encoder of embeddings and profiles.

    Raises:
        ColdStartError: columns of different length, vectors that are not finite, or negative evidence.
    """

    ids: Sequence[str]
    descriptions: Sequence[str]
    attributes: Sequence[Sequence[str]]
    embeddings: Vectors
    profiles: Vectors
    evidence: NDArray[np.float64]
    fingerprint: str

    def __post_init__(self) -> None:
        lengths = {name: len(getattr(self, name)) for name in
                   ("ids", "descriptions", "attributes", "embeddings", "profiles", "evidence")}  # fmt: skip
        if len(set(lengths.values())) > 1:
            raise ColdStartError(f"all columns of entities must have one length; the lengths are {lengths}")
        for name in ("embeddings", "profiles"):
            vectors = getattr(self, name)
            if vectors.ndim != 2 or not np.isfinite(vectors).all():
                raise ColdStartError(f"{name} must be a matrix of finite numbers; the shape is {vectors.shape}")
        if not (np.isfinite(self.evidence) & (self.evidence >= 0)).all():
            raise ColdStartError("evidence must be counts of interactions: finite numbers of at least 0")

    def __len__(self) -> int:
        return len(self.ids)

    @classmethod
    def nothing(cls, ids: Sequence[str], width: int, fingerprint: str) -> Entities:
        """Return entities without any features."""
        zeros = np.zeros((len(ids), width), dtype=np.float32)
        return cls(ids, [""] * len(ids), [[]] * len(ids), zeros, zeros, np.zeros(len(ids)), fingerprint)

    def join(self, other: Entities) -> Entities:
        """Return these entities, followed by the others."""
        return Entities(
            [*self.ids, *other.ids], [*self.descriptions, *other.descriptions],
            [*self.attributes, *other.attributes], np.concatenate([self.embeddings, other.embeddings]),
            np.concatenate([self.profiles, other.profiles]), np.concatenate([self.evidence, other.evidence]),
            self.fingerprint,
        )  # fmt: skip

    def take(self, rows: NDArray[np.int64]) -> Entities:
        """Return these rows, in this order."""
        return Entities(
            [self.ids[row] for row in rows], [self.descriptions[row] for row in rows],
            [self.attributes[row] for row in rows], self.embeddings[rows], self.profiles[rows],
            self.evidence[rows], self.fingerprint,
        )  # fmt: skip


def describe(
    encoder: Encoder, ids: Sequence[str], descriptions: Iterable[str | None] | None = None,
    attributes: Sequence[Sequence[str]] | None = None,
) -> Entities:
    """Encode descriptions, and return entities without history.

    Args:
        encoder: encodes the descriptions.
        ids: n strings.
        descriptions: n texts or None; blank texts count as none.
        attributes: n lists of "column=value".

    >>> describe(Encoder(cache=False), ["new"], ["a red lamp"]).embeddings.shape
    (1, 384)
    """
    texts = [text if has_text(text) and text else "" for text in descriptions or [""] * len(ids)]
    embeddings = np.zeros((len(ids), encoder.dimensions), dtype=np.float32)
    given = [row for row, text in enumerate(texts) if text]
    embeddings[given] = encoder.encode([texts[row] for row in given])
    return Entities(
        ids, texts, attributes or [[] for _ in ids], embeddings, np.zeros_like(embeddings),
        np.zeros(len(ids)), encoder.fingerprint,
    )  # fmt: skip


def with_history(interactions: Interactions, users: Entities, items: Entities) -> tuple[Entities, Entities]:
    """Return the same entities, with profiles and evidence computed from these interactions only."""
    pairs = interactions.pairs()
    described: NDArray[np.bool_] = np.asarray(np.abs(items.embeddings).any(axis=1))
    pairs = pairs.select(described[pairs.items])
    P_u = user_profiles(pairs.users, pairs.items, pairs.weights, items.embeddings, len(users))
    P_i = item_profiles(pairs.users, pairs.items, pairs.weights, items.embeddings, P_u)
    counted = described[interactions.items]
    n_u = np.bincount(interactions.users[counted], minlength=len(users)).astype(np.float64)
    n_i = np.bincount(interactions.items[counted], minlength=len(items)).astype(np.float64)
    return replace(users, profiles=P_u, evidence=n_u), replace(items, profiles=P_i, evidence=n_i)
