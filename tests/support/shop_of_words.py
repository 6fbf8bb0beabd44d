"""A shop whose users say which kind of things they buy, for the tests of tuning."""

from __future__ import annotations

import numpy as np

from recommender.data.entities import Entities, with_history
from recommender.data.interactions import Interactions
from recommender.tuning.divisions import Division
from tests.support.made_up_shop import entities, events

KINDS, DEPTH = 20, 6
Shop = tuple[Interactions, Entities, Entities]


def shop_of_words(users: int = 120, *, told: bool = True, seed: int = 0) -> Shop:
    """20 kinds of things, 6 items of each; half of what a user buys is of one kind, and they say which.

    With `told` false users say a kind that has nothing to do with theirs, and items too.
    """
    rng = np.random.default_rng(seed)
    kinds = rng.normal(size=(KINDS, 16))
    kinds /= np.linalg.norm(kinds, axis=1, keepdims=True)
    of_item, of_user = np.repeat(np.arange(KINDS), DEPTH), np.arange(users) % KINDS
    said_item = of_item if told else rng.permutation(of_item)
    said_user = of_user if told else rng.permutation(of_user)
    # The other half of what is bought is what everybody buys: the first item of the first five kinds.
    pairs = [(u, DEPTH * int(of_user[u]) + i) for u in range(users) for i in rng.permutation(DEPTH)[:4].tolist()]
    pairs += [(u, DEPTH * i) for u in range(users) for i in range(5) if i != of_user[u] and rng.random() < 0.8]
    order = rng.permutation(len(pairs))
    people = entities([f"u{n:03}" for n in range(users)], [f"kind{k}" for k in said_user], kinds[said_user])
    things = entities([f"i{n:03}" for n in range(KINDS * DEPTH)], [f"kind{k}" for k in said_item], kinds[said_item])
    return events(people, things, [pairs[k] for k in order]), people, things


def divided(shop: Shop, held: np.ndarray, *, seen: Interactions | None = None, in_time: bool = False) -> Division:
    """What is held is wanted, the rest is learned from, with the profiles of the rest."""
    interactions, users, items = shop
    known = interactions.select(~held)
    return Division(known, interactions.select(held), *with_history(known, users, items), seen, in_time)
