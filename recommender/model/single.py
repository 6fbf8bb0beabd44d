"""The recommendations of one user, whose features and latest events come with the request: what a service asks for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from recommender.data.entities import Entities
from recommender.model.explain import sentence, terms, with_link
from recommender.model.fitted import Fitted
from recommender.model.ranking import Rules, Scores, best, left_out
from recommender.model.requests import same_encoder
from recommender.model.scoring import Block
from recommender.model.tables import tiers


@dataclass(frozen=True)
class Ranked:
    """The best items of one user, the best first.

    Attributes:
        tier: what is known of the user, "warm", "cold" or "unknown".
        rows: (k,), the items' rows in the recommender.
        scores: (k,), boosts included, and what a link adds.
        parts: popularity, lightfm, history and text, (k,) each; they add up to the score, boosts and link apart.
        sentences: why, for people, (k,); empty if nobody asked.
    """

    tier: str
    rows: NDArray[np.int64]
    scores: NDArray[np.floating[Any]]
    parts: dict[str, NDArray[np.float64]]
    sentences: list[str]


def block_of(fitted: Fitted, user: Entities, columns: NDArray[np.int64], weights: NDArray[np.float32]) -> Block:
    """The scores of one user after some more events.

    They are those after `HybridRecommender.partial_fit` with these events; the state stays as it is, and so does the
    popularity of the items.

    Args:
        fitted: the state of the recommender.
        user: one row; its profile is used as it is given.
        columns: (e,), rows of the items of the events.
        weights: (e,), their weights.

    Raises:
        FingerprintError: the user's features are of another encoder.
    """
    same_encoder(fitted.items.fingerprint, user.fingerprint)
    if not len(columns):
        return Block.of(fitted, user)
    vectors = fitted.items.embeddings.take(columns)
    counted = int(vectors.any(axis=1).sum())
    profiles = user.profiles + weights @ vectors
    user = replace(user, profiles=profiles, evidence=user.evidence + counted)
    return Block.of(fitted, user, sp.csr_matrix(fitted.history_of(user.ids) + _row(fitted, columns, weights)))


def ranked(block: Block, rules: Rules, *, seen: Sequence[int] | None, explain: bool = False) -> Ranked:
    """The best items of the one user of a block.

    Args:
        block: see `block_of`.
        rules: of the list.
        seen: rows of items that are left out beside those that the recommender knows as seen by the user; None leaves
            out none.
        explain: add the sentences.
    """
    total = block.total(block.users.fitted.all_items)
    return described(block, total, rules, best_of(block, total, rules, seen=seen), explain=explain)


def best_of(block: Block, total: Scores, rules: Rules, *, seen: Sequence[int] | None) -> NDArray[np.int64]:
    """The rows of the best items of the one user of a block.

    Args:
        block: see `block_of`.
        total: (1, items), its scores of all items.
        rules: of the list.
        seen: as for `ranked`.
    """
    side, fitted = block.users, block.users.fitted
    out = None
    if seen is not None:
        out = fitted.seen_by(side.entities.ids)
        if len(seen):
            out = sp.csr_matrix(out + _row(fitted, np.array(seen, np.int64), np.ones(len(seen), np.float32)))
    return best(total, rules, left_out(fitted, side.entities, out), fitted.all_items.features)[1]


def described(
    block: Block, total: Scores, rules: Rules, rows: NDArray[np.int64], *, explain: bool = False
) -> Ranked:
    """A list of some items for the one user of a block, in the order that is given.

    Args:
        block: see `block_of`.
        total: (1, items), its scores of all items.
        rules: of the list; their boosts, and what a link adds, count in its scores.
        rows: (k,), of the items.
        explain: add the sentences.
    """
    side, items = block.users, block.users.fitted.all_items
    scores = rules.applied(total)[0, rows]
    plain = np.asarray(total[0, rows], dtype=np.float64)
    parts = block.parts(items, np.zeros(len(rows), np.int64), rows)
    parts["history"] = plain - sum(parts.values())
    said = []
    for row in rows if explain else ():
        one = items.take(np.array([row]))
        table = with_link(terms(block, one), None if rules.linked is None else float(rules.linked[row]))
        said.append(sentence(table, bool(one.cold[0])))
    return Ranked(str(tiers(side.entities, ~side.cold)[0]), rows, scores, parts, said)


def _row(fitted: Fitted, columns: NDArray[np.int64], weights: NDArray[np.float32]) -> sp.csr_matrix:
    places = np.zeros(len(columns), np.int64), columns
    return sp.csr_matrix((weights, places), shape=(1, len(fitted.items)), dtype=np.float32)
