"""Which question to ask next: the one whose answer is likely to come and to tell most of what is ranked."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from recommender.model.fitted import Fitted
from recommender.model.posterior import Numbers, ProfilePosterior, ProfilePrior, Shares, described
from recommender.model.user_side import UserSide

Reply: TypeAlias = Literal["yes", "no", "unknown"]
# What a "yes" counts, in purchases; any positive number gives nearly the same list to a user without history.
YES = 1.0
# A "no" speaks against an item by this share of what a "yes" speaks for it. Chosen on validation users of
# benchmarks/bench_interview.py.
NO = 0.3
# What is added to the scores of items with an attribute, or taken from them; a convention.
BOOST = 0.5
# Nobody is asked what they cannot answer.
_LEAST_ANSWERABLE = 1e-4
# Items of a user's history that count as answers.
_MOST_KNOWN = 100


@dataclass(frozen=True)
class Topics:
    """What can be asked about: the items of a state, then the attributes.

    Attributes:
        prior: of the profiles.
        things: what is expected of items and attributes.
        items: number of items.
    """

    prior: ProfilePrior
    things: Shares
    items: int

    @classmethod
    def of(cls, prior: ProfilePrior, fitted: Fitted) -> Topics:
        """The items that a state knows, and the attributes of the prior."""
        things = prior.of_items(fitted, fitted.all_items)
        return cls(prior, things.joined(prior.of_attributes), len(fitted.all_items))

    @cached_property
    def gram(self) -> Numbers:
        """(r, r), Σ v·vᵀ over the items."""
        vectors = self.things.vectors[: self.items].astype(np.float64)
        return np.asarray(vectors.T @ vectors)


@dataclass(frozen=True)
class Interview:
    """What is known after some answers.

    Attributes:
        topics: what can be asked about.
        wants: what the user wants, from "yes" and "no".
        knows: what they can answer about, from "yes" and "no" on one side and "don't know" on the other. Whoever
            interacts with an item knows it, so the prior is the same.
    """

    topics: Topics
    wants: ProfilePosterior
    knows: ProfilePosterior

    @classmethod
    def begin(cls, topics: Topics, user: UserSide | None = None) -> Interview:
        """Before the first answer; what a user has interacted with counts as a "yes".

        Args:
            topics: what can be asked about.
            user: one user; None is one of whom nothing is known.
        """
        said = None if user is None else described(user, user.fitted.all_items)
        if said is not None:
            said = np.concatenate([said, np.zeros(len(topics.things.expected) - len(said))])
        one = cls(topics, ProfilePosterior.before(topics.things, said), ProfilePosterior.before(topics.things, said))
        if user is None or not user.history.nnz:
            return one
        order = np.argsort(-user.history.data, kind="stable")[:_MOST_KNOWN]
        return one.after((int(row), "yes") for row in user.history.indices[order] if row < topics.items)

    def after(self, answers: Iterable[tuple[int, Reply]]) -> Interview:
        """After some more answers, each about the topic in a row."""
        wants, knows = self.wants, self.knows
        for row, reply in answers:
            knows = knows.after(row, float(reply != "unknown"))
            if reply != "unknown":
                wants = wants.after(row, float(reply == "yes"))
        return Interview(self.topics, wants, knows)

    def answerable(self, rows: NDArray[np.int64]) -> Numbers:
        """(q,), how likely it is that the user can answer, from 0 to 1."""
        return np.clip(self.knows.expected()[rows], _LEAST_ANSWERABLE, 1.0)

    def gains(self, rows: NDArray[np.int64]) -> Numbers:
        """(q,), P(answerable) times the share of the uncertainty of the ranking that an answer removes."""
        reductions = self.wants.reductions(rows, self.topics.gram)
        return np.asarray(self.answerable(rows) * reductions / max(self._before, 1e-12))

    @property
    def learned(self) -> float:
        """The share of the uncertainty of the ranking that is gone, 0 to 1."""
        return float(np.clip(1 - self.wants.uncertainty(self.topics.gram) / max(self._before, 1e-12), 0, 1))

    @property
    def _before(self) -> float:
        return float(np.trace(self.topics.gram))
