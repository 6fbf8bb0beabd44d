"""The guard: the whole recommender with both encoders, on data that the tuned one has not seen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from coldstart_udfs.console import Report, no_report
from coldstart_udfs.encoder.encoder import Encoder
from coldstart_udfs.profile import Vectors
from recommender.data.dataset import Dataset
from recommender.data.entities import describe
from recommender.evaluation.baselines import fit_ours, scorer_of
from recommender.evaluation.comparison import measure
from recommender.evaluation.resume import Arrays, Finished
from recommender.measure.intervals import ByItem, intervals
from recommender.measure.splits import Candidates, Split, divide

NEW_ITEMS, LATER = "new items", "later interactions"


@dataclass(frozen=True)
class Compared:
    """The recommender with both encoders, on one kind of held-out data.

    Attributes:
        name: `NEW_ITEMS` or `LATER`.
        before: mean NDCG@20 over users with the parent.
        after: with the tuned encoder.
        low: lower bound of the 95 % interval of the difference, over users and items.
        high: upper bound.
        users: number of users.
    """

    name: str
    before: float
    after: float
    low: float
    high: float
    users: int

    def __str__(self) -> str:
        """The figures as a sentence."""
        gain = self.after - self.before
        return (
            f"NDCG@20 of {self.name} {self.before:.4f} before and {self.after:.4f} after, {gain:+.4f} "
            f"({self.low:+.4f} … {self.high:+.4f})"
        )

    def figures(self) -> dict[str, float]:
        """For a manifest."""
        return {f"{self.name}: {key}": float(getattr(self, key)) for key in ("before", "after", "low", "high", "users")}


@dataclass(frozen=True)
class Verdict:
    """What the guard found.

    Attributes:
        compared: new items first; then later interactions, if the data have time.
    """

    compared: tuple[Compared, ...]

    @property
    def recommends(self) -> bool:
        """Whether the recommender gains by the encoder.

        It ranks new items better, by an interval that excludes 0, and later interactions no worse.
        """
        new, *later = self.compared
        return new.low > 0 and all(one.after >= one.before for one in later)

    def __str__(self) -> str:
        """The figures, and what follows from them."""
        new, *later = self.compared
        told = "; ".join(map(str, self.compared))
        if self.recommends:
            return f"{told}: the recommender ranks better with it"
        reasons = [] if new.low > 0 else ["the interval of the gain on new items does not lie above 0"]
        reasons += ["later interactions are ranked worse" for one in later if one.after < one.before]
        return f"{told}: {' and '.join(reasons)}"


def described(data: Dataset, encoder: Encoder, vectors: Vectors) -> Dataset:
    """The same data under an encoder; `vectors`, (items, d), are its vectors of the items."""
    blank = np.zeros_like(vectors)
    items = replace(data.items, embeddings=vectors, profiles=blank, fingerprint=encoder.fingerprint)
    users = describe(encoder, data.users.ids, data.users.descriptions, data.users.attributes)
    searchers = data.searchers and replace(data.searchers, users=users, encoder=encoder)
    return replace(data, users=users, items=items, searchers=searchers)


def judge(
    before: Dataset, after: Dataset, guard: NDArray[np.bool_], later: NDArray[np.bool_] | None,
    unseen: NDArray[np.bool_], *, seed: int, finished: Finished, report: Report = no_report,
) -> Verdict:
    """Fit the recommender with both encoders, and compare its rankings user by user.

    Args:
        before: the data under the parent.
        after: the same data under the tuned encoder.
        guard: (items,), items that the tuned encoder has not learned from; all their interactions are held out.
        later: (interactions,), those after all that it has learned from; None: the data have no time.
        unseen: (items,), those that the tuned encoder has not learned from: parameters are chosen on these.
        seed: of the fits.
        finished: keeps the results of an interrupted run.
        report: called with (stage, done, total).
    """
    held = {NEW_ITEMS: guard[before.interactions.items]}
    if later is not None:
        held[LATER] = later
    found, done = [], 0
    for name, rows in held.items():
        results = []
        for which, data in (("parent", before), ("tuned encoder", after)):
            report(f"guard: {name}, {which}", done, 2 * len(held))
            make = _measuring(data, name, rows, guard, seed, unseen if data is after else None)
            results.append(finished.get(f"{name} {which}", make))
            done += 1
        found.append(_compared(name, results[0], results[1]))
    report("guard", done, done)
    return Verdict(tuple(found))


def _measuring(
    data: Dataset, name: str, rows: NDArray[np.bool_], guard: NDArray[np.bool_], seed: int,
    unseen: NDArray[np.bool_] | None,
) -> Callable[[], Arrays]:
    def run() -> Arrays:
        groups = list(data.items.ids) if data.groups is None else data.groups
        kind, cold = ("item_cold", guard) if name == NEW_ITEMS else ("temporal", None)
        split = divide(
            kind, data.interactions, rows, data.users, data.items, groups, seed=seed, cold_items=cold,
            searchers=data.searchers,
        )  # fmt: skip
        asked = "cold" if name == NEW_ITEMS else "overall"
        metrics = measure(split, scorer_of(fit_ours(split, seed, unseen=unseen)))[asked]
        return {"ndcg": metrics.ndcg, "credit": metrics.credit, **_asked(split, split.candidates(asked))}

    return run


def _asked(split: Split, candidates: Candidates) -> Arrays:
    """Who is asked, and for each candidate its group and the sum over users of 1 / number of items that they want."""
    wanted = candidates.wanted[candidates.users]
    _, groups = np.unique(split.groups, return_inverse=True)
    shares = np.asarray(wanted.T @ (1 / np.diff(wanted.indptr)), dtype=np.float64)
    return {"users": candidates.users, "groups": groups[candidates.items], "shares": shares[candidates.items]}


def _compared(name: str, before: Arrays, after: Arrays) -> Compared:
    credit = (after["credit"] - before["credit"])[:, None]
    by_item = ByItem(credit, before["shares"], before["groups"], np.zeros(len(credit), dtype=np.int64))
    differences = (after["ndcg"] - before["ndcg"])[:, None]
    ((low, high),) = intervals(differences, before["users"], np.zeros(len(differences), dtype=np.int64), by_item)
    means = float(before["ndcg"].mean()), float(after["ndcg"].mean())
    return Compared(name, *means, float(max(low, -1)), float(min(high, 1)), len(differences))
