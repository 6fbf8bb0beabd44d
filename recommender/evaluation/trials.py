"""Choose a method's settings by trial within the training part of a split, with a budget of processor seconds.

The training part is divided as for our own recommender (`recommender.tuning.validation.held_out`). No trial sees a test
pair.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from coldstart_udfs.errors import ColdStartError
from recommender.data.interactions import Interactions
from recommender.evaluation.baselines import Scorer, Scores
from recommender.measure.metrics import rank_metrics
from recommender.measure.splits import SHOTS, Candidates, Split, divide, stable_share
from recommender.tuning.validation import held_out

Settings: TypeAlias = Mapping[str, Any]
Mask: TypeAlias = NDArray[np.bool_]

# Of a cold item's score, in standard deviations of the user's scores of warm items; the smaller is preferred.
OFFSETS = (0.0, 1.0, -1.0, 2.0, -2.0, 3.0, -3.0, 4.0, -4.0, 5.0, 6.0, -6.0, 7.0, 8.0)
# Only these splits ask for many new items.
_NEW_ITEMS = ("item_cold", "both_cold", "temporal")
_NEW_USERS = ("user_cold", "both_cold")
# Of so few users nothing can be said; the methods keep their defaults.
_FEWEST_RANKINGS = 10
# Rankings of one trial: this many users, fewer where there are very many items.
_MOST_USERS, _FEWEST_USERS, _MOST_SCORES = 1_000, 400, 4_000_000


def processor_seconds() -> float:
    """Seconds that this process, all its threads, and processes that it has ended have computed.

    Other work on the machine does not count, so that methods can be compared beside it.
    """
    ended = os.times()
    return time.process_time() + ended.children_user + ended.children_system


def grid(**axes: Sequence[Any]) -> list[Settings]:
    """Return all combinations, those of likely values first: the nearer to the beginning of each axis, the earlier.

    >>> grid(components=(64, 128), epochs=(15, 30))
    [{'components': 64, 'epochs': 15}, {'components': 64, 'epochs': 30}, {'components': 128, 'epochs': 15}, \
{'components': 128, 'epochs': 30}]
    """
    places = sorted(product(*(range(len(values)) for values in axes.values())), key=sum)
    return [
        {name: values[place] for (name, values), place in zip(axes.items(), row, strict=True)} for row in places
    ]


@dataclass(frozen=True)
class Trials:
    """What the trials found.

    Attributes:
        best: the best settings.
        scores: of the best settings, shape (validation users, items).
        count: number of trials.
    """

    best: Settings
    scores: Scores
    count: int


def run_trials(
    candidates: Sequence[Settings], score: Callable[[Settings], Scores], quality: Callable[[Scores], float],
    budget: float, *, work: Callable[[Settings], float] = lambda settings: 1.0,
    clock: Callable[[], float] = processor_seconds, progress: Callable[[int, int], None] = lambda done, total: None,
) -> Trials:
    """Try settings in this order while there is time; the best by quality, the earlier among equals.

    The first trial always runs. Of the others, those run that are predicted to end within the budget: the seconds of
    the latest trial with the most work so far, times the ratio of their work.

    Args:
        candidates: the settings, at least one; the defaults first.
        score: fits with settings, and returns the scores of the validation users.
        quality: of scores; higher is better.
        budget: seconds of `clock`.
        work: the relative seconds that settings take.
        clock: seconds now.
        progress: told (tried or left out, all) settings.
    """
    began = clock()
    first, *others = candidates
    scores = score(first)
    best, value, count = (first, scores), quality(scores), 1
    most = work(first), clock() - began
    for done, settings in enumerate(others, 1):
        progress(done, len(candidates))
        started, needed = clock(), work(settings)
        if started - began + most[1] * needed / most[0] > budget:
            continue
        scores = score(settings)
        found, count = quality(scores), count + 1
        if needed >= most[0]:
            most = needed, clock() - started
        if found > value:
            best, value = (settings, scores), found
    progress(len(candidates), len(candidates))
    return Trials(*best, count)


def validation_of(split: Split, seed: int) -> Split | None:
    """Divide the training part of a split as it was divided itself; None if it is too small.

    Users are asked as in the split: those without history, those with few interactions, or the others; if there are
    fewer than 10 of them, everybody. Items that nobody has in the training part are not ranked: they cannot be wanted
    here, and are the wanted ones of the test.

    Args:
        split: only its training part, texts and kind are used.
        seed: of the division, as for our own recommender.
    """
    train, n = split.train, len(split.items)
    held = held_out(train, split.items, split.kind, split.groups, seed)
    learned, wanted = train.select(~held), train.select(held)
    new = (np.bincount(learned.items, minlength=n) == 0) & (np.bincount(wanted.items, minlength=n) > 0)
    try:
        found = divide(
            split.kind, train, held, split.users, split.items, split.groups, seed=seed,
            ask=_asked(split, learned, wanted, seed), cold_items=new, listed=_listed(split, held, new, seed),
            searchers=split.searchers,
        )  # fmt: skip
    except ColdStartError:
        return None
    return found if len(found.asked) >= _FEWEST_RANKINGS else None


def _listed(split: Split, held: Mask, new: Mask, seed: int) -> Mask | None:
    """What is relevant in the list "overall": a user's pairs of cold items as often as those of warm items are held."""
    if split.kind == "temporal":
        return None
    train, n = split.train, len(split.users)
    of_new = new[train.items]
    warm = np.bincount(train.users[~of_new], minlength=n)
    shares = np.bincount(train.users[held & ~of_new], minlength=n) / np.maximum(warm, 1)
    users, items = train.users[of_new], train.items[of_new]
    names = [f"{user} {item}" for user, item in zip(users.tolist(), items.tolist(), strict=True)]
    listed = held.copy()
    listed[of_new] = np.array([stable_share(name, f"validation list {seed}") for name in names]) < shares[users]
    return listed


def _asked(split: Split, learned: Interactions, held: Interactions, seed: int) -> Mask:
    """(users,): who is asked, drawn from those who want an item."""
    n = len(split.users)
    history = np.bincount(learned.pairs().users, minlength=n)
    wanting = np.bincount(held.users[np.isnat(held.returned)], minlength=n) > 0
    able = history > 0
    if split.kind in _NEW_USERS:
        able = ~able
    elif split.kind == "k_shot":
        able &= history <= max(SHOTS)
    rows = np.flatnonzero(wanting & able)
    if len(rows) < _FEWEST_RANKINGS:
        rows = np.flatnonzero(wanting)
    most = min(_MOST_USERS, max(_MOST_SCORES // len(split.items), _FEWEST_USERS))
    asked = np.zeros(n, dtype=bool)
    asked[np.random.default_rng(seed).permutation(rows)[:most]] = True
    return asked


def quality(split: Split, scores: Scores) -> float:
    """NDCG@20 of all rankings of warm items, and in splits that ask for new items, of those of cold items.

    The constant for cold items does not change it. −∞ if a score is not finite.

    Args:
        split: n users are asked.
        scores: (n, items), of them.
    """
    if not np.isfinite(scores).all():
        return -np.inf
    kinds = ("cold", "warm") if split.kind in _NEW_ITEMS else ("warm",)
    values = np.concatenate([_ndcg(split, scores, split.candidates(kind)) for kind in kinds])
    return float(values.mean()) if len(values) else 0.0


def best_offset(split: Split, scores: Scores) -> float:
    """The constant for cold items with the best NDCG@20 of the list "overall"; see `quality` for the arguments."""
    ranked = split.candidates("overall")
    if not len(ranked.users) or not np.isfinite(scores).all():
        return 0.0
    return max(OFFSETS, key=lambda offset: float(_ndcg(split, _raised(split, scores, offset), ranked).mean()))


def raised(split: Split, scorer: Scorer, offset: float) -> Scorer:
    """Add a constant to the scores of items without training interactions: only candidates overall are ranked anew.

    Args:
        split: which items these are.
        scorer: scores of all items.
        offset: in standard deviations of the user's scores of warm items.
    """
    return (lambda rows: _raised(split, scorer(rows), offset)) if offset else scorer


def _raised(split: Split, scores: Scores, offset: float) -> Scores:
    # With float64, a large constant does not round different scores to equal ones.
    changed = np.array(scores, dtype=np.float64)
    changed[:, ~split.warm] += offset * changed[:, split.warm].std(axis=1, keepdims=True)
    return changed


def _ndcg(split: Split, scores: Scores, ranked: Candidates) -> NDArray[np.float64]:
    users, items = ranked.users, np.flatnonzero(ranked.items)
    if not len(users):
        return np.zeros(0)
    block = scores[np.searchsorted(split.asked, users)].take(items, axis=1)
    return rank_metrics(block, ranked.wanted[users][:, items], ranked.excluded[users][:, items]).ndcg
