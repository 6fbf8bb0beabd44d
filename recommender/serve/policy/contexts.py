"""What the policy knows of a candidate for a user: twelve numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from coldstart_udfs.profile import Vectors
from recommender.model.fitted import Fitted, ItemSide
from recommender.model.scoring import Block

# A constant, expected demand, score, match; then the projected embedding.
OF_PAIR, PROJECTED = 4, 8
WIDTH = OF_PAIR + PROJECTED
# Numbers are cut off here: an outlier should not draw a line through all the others.
_FURTHEST = 3.0


@dataclass(frozen=True)
class Contexts:
    """Makes contexts, in the scale of one bundle.

    A context is 1; the demand that the item's words and attributes predict, as the difference to the average warm item
    in averages (0 is as much, 1 twice as much); the score for the user, in deviations from all cold items; the cosine
    of the enriched profile and the item's embedding; and the item's embedding in the 8 directions in which those of
    the bundle's items vary most, in deviations.

    Attributes:
        centre: (d,), the mean embedding.
        directions: (d, 8) float32.
        demand: the average predicted number of buyers of a warm item.
    """

    centre: Vectors
    directions: Vectors
    demand: float

    @classmethod
    def of(cls, base: Fitted) -> Contexts:
        """In the scale of a bundle's state: the same bundle gives the same."""
        vectors = base.warm_items.features.dense.astype(np.float64)
        centre = vectors.mean(axis=0)
        values, directions = np.linalg.eigh(np.atleast_2d(np.cov(vectors.T, bias=True)))
        order = np.argsort(-values, kind="stable")[:PROJECTED]
        directions = directions[:, order]
        # The sign of an eigenvector is arbitrary.
        largest = np.abs(directions).argmax(axis=0)
        directions *= np.sign(directions[largest, np.arange(len(order))])
        scales = np.sqrt(np.maximum(values[order], 0))
        directions *= np.where(scales > 1e-6, 1 / np.maximum(scales, 1e-6), 0)
        padded = np.zeros((len(centre), PROJECTED), np.float32)
        padded[:, : len(order)] = directions
        return cls(centre.astype(np.float32), padded, max(float(_buyers(base.warm_items).mean()), 1e-6))

    def projected(self, embeddings: Vectors) -> NDArray[np.float32]:
        """(m, 8), of embeddings, (m, d); zero for those without one."""
        found = np.clip((embeddings - self.centre) @ self.directions, -_FURTHEST, _FURTHEST)
        return np.asarray(np.where(embeddings.any(axis=1, keepdims=True), found, 0), np.float32)

    def of_candidates(self, block: Block, total: NDArray[np.floating], rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """(m, 12), of some items for the one user of a block.

        Args:
            block: of one user.
            total: (1, items), the scores of all items.
            rows: (m,), of the items.
        """
        fitted = block.users.fitted
        side = fitted.all_items.take(rows)
        cold = total[0, fitted.all_items.cold_rows]
        deviation = max(float(cold.std()), 1e-6) if len(cold) else 1.0
        found = np.zeros((len(rows), WIDTH), np.float32)
        found[:, 0] = 1
        found[:, 1] = np.clip(_buyers(side) / self.demand - 1, -1, _FURTHEST)
        found[:, 2] = np.clip((total[0, rows] - cold.mean()) / deviation, -_FURTHEST, _FURTHEST) if len(cold) else 0
        found[:, 3] = side.features.dense @ _enriched(block)
        found[:, OF_PAIR:] = self.projected(side.features.dense)
        return found

    def refreshed(self, stored: NDArray[np.float32], fitted: Fitted, items: Sequence[str]) -> NDArray[np.float32]:
        """Contexts of an earlier bundle, (n, 12), with the embeddings of the n items projected as in this one."""
        known = fitted.items.rows(items)
        vectors = fitted.items.embeddings.take(np.maximum(known, 0))
        found = stored.copy()
        found[:, OF_PAIR:] = np.where((known >= 0)[:, None], self.projected(vectors), 0)
        return found


def _buyers(side: ItemSide) -> NDArray[np.float64]:
    """(m,), the number of buyers that words and attributes predict."""
    return np.expm1(np.clip(side.mapped[:, side.latent.shape[1] + 1], 0, 20).astype(np.float64))


def _enriched(block: Block) -> Vectors:
    """(d,), the enriched profile of the one user, of length 1 or 0."""
    user = block.users.entities
    alpha = block.users.fitted.parameters.alpha_of(user.evidence).astype(np.float32)
    profile: Vectors = (user.profiles + alpha[:, None] * user.embeddings)[0]
    return profile / max(float(np.linalg.norm(profile)), 1e-12)
