"""Filling the reserved places of a list with new items."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recommender.model.known import KnownEntities
from recommender.model.ranking import Rules
from recommender.model.scoring import Block
from recommender.model.single import best_of
from recommender.serve.policy.contexts import Contexts
from recommender.serve.policy.sampler import Posterior
from recommender.serve.policy.slots import number_of_slots, positions_of

# From how many new items one is drawn: the best of the user by the model's score.
CANDIDATES = 20
# Stands in the log; another way to draw, or another context, is another version.
NAME = "thompson/1"


@dataclass(frozen=True)
class Policy:
    """What a worker draws by at one moment.

    Attributes:
        posterior: of the rewards.
        contexts: makes contexts in the scale of the bundle.
        bundle: the bundle's id.
        settled: the number of the last explored place that counts in the posterior.
    """

    posterior: Posterior
    contexts: Contexts
    bundle: str
    settled: int
    _decided: dict[int, NDArray[np.int64]] = field(default_factory=dict, repr=False, compare=False)

    def decided_among(self, items: KnownEntities) -> NDArray[np.int64]:
        """The rows of the items that are not explored any more.

        They may be many, so they are looked up once, and again when new items have come.

        Args:
            items: of the bundle; new ones come at their end.
        """
        found = self._decided.get(len(items))
        if found is None:
            rows = items.rows(self.posterior.decided)
            found = rows[rows >= 0]
            self._decided.clear()
            self._decided[len(items)] = found
        return found


@dataclass(frozen=True)
class Slot:
    """One explored place.

    Attributes:
        place: from 0.
        row: of the drawn item.
        rows: (m,), of the candidates.
        probabilities: (m,), with which they were drawn.
        contexts: (m, 12).
    """

    place: int
    row: int
    rows: NDArray[np.int64]
    probabilities: NDArray[np.float64]
    contexts: NDArray[np.float32]


@dataclass(frozen=True)
class Draw:
    """How the places of one answer are explored.

    Attributes:
        policy: what is drawn by.
        share: of the places of lists.
        rng: draws.
    """

    policy: Policy
    share: float
    rng: np.random.Generator

    def fill(
        self, block: Block, total: NDArray[np.floating[Any]], rules: Rules, seen: Sequence[int] | None,
        rows: NDArray[np.int64],
    ) -> list[Slot]:
        """Draw items for the reserved places of a list.

        Candidates have no history in training, are allowed by the rules and not seen by the user, are neither on the
        list nor decided, and are the best of these by the model's score. Each place has its own draw; an item that was
        drawn is no candidate for the next one.

        Args:
            block: of one user.
            total: (1, items), the scores of all items.
            rules: of the list.
            seen: see `recommender.model.single.ranked`.
            rows: of the list without exploration.
        """  # fmt: skip
        slots = number_of_slots(len(rows), self.share, self.rng)
        if not slots:
            return []
        candidates = self._candidates(block, total, rules, seen, rows)
        pinned = int(np.isin(rows, rules.pinned).sum())
        places = positions_of(min(slots, len(candidates)), len(rows), pinned, self.rng)
        if not len(places):
            return []
        contexts = self.policy.contexts.of_candidates(block, total, candidates)
        found = []
        for place in places.tolist():
            ids = block.users.fitted.items.ids(candidates)
            probabilities = self.policy.posterior.probabilities(contexts, ids)
            drawn = int(self.rng.choice(len(candidates), p=probabilities))
            found.append(Slot(place, int(candidates[drawn]), candidates, probabilities, contexts))
            candidates, contexts = np.delete(candidates, drawn), np.delete(contexts, drawn, axis=0)
        return found

    def _candidates(
        self, block: Block, total: NDArray[np.floating[Any]], rules: Rules, seen: Sequence[int] | None,
        rows: NDArray[np.int64],
    ) -> NDArray[np.int64]:  # fmt: skip
        allowed = block.users.fitted.all_items.cold.copy()
        if rules.allowed is not None:
            allowed &= rules.allowed
        allowed[rows] = False
        allowed[self.policy.decided_among(block.users.fitted.items)] = False
        if not allowed.any():
            return np.zeros(0, np.int64)
        others = replace(rules, k=CANDIDATES, allowed=allowed, pinned=[], diversity=0.0)
        return best_of(block, total, others, seen=seen)


def with_slots(rows: NDArray[np.int64], slots: Sequence[Slot]) -> NDArray[np.int64]:
    """A list with the drawn items at their places; the other items move down, and the last ones go.

    >>> place = lambda at, row: Slot(at, row, np.array([row]), np.ones(1), np.zeros((1, 12), np.float32))
    >>> with_slots(np.array([4, 5, 6, 7]), [place(1, 90), place(3, 91)]).tolist()
    [4, 90, 5, 91]
    """
    explored = {slot.place: slot.row for slot in slots}
    rest = iter(rows.tolist())
    return np.array([explored[place] if place in explored else next(rest) for place in range(len(rows))], np.int64)
