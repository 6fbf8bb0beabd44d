"""Held-out evaluation: splits, per-user metrics and the comparison table.

Profiles are rebuilt from a split's training part with the same kernel that served profiles come from. They are
never read from Feast: the profiles there contain what a split holds out.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import starmap
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from coldstart_udfs.encoder import Encoder, shared_encoder
from coldstart_udfs.errors import ColdStartError
from coldstart_udfs.profile import Enrichment
from coldstart_udfs.text import tokens as tokens_of
from recommender.data import ATTRIBUTES, DESCRIPTION, Interactions, load, read_interactions
from recommender.features import Entities, describe, with_history
from recommender.metrics import K, Metrics, rank_metrics
from recommender.model import HybridRecommender, Parameters, Scores
from recommender.tuning import first_interactions, tune

_HELD_OUT = 0.2
METHODS = ("popularity", "TF-IDF cosine", "LightFM on ids", "LightFM on tokens", "coldstart")


@dataclass(frozen=True)
class Split:
    """What is trained on, what is asked, and what would have been right.

    Attributes:
        name: "cold items", "cold users" or "warm pairs".
        train: the interactions that a method may see.
        test: the interactions that it is asked for.
        users: features of all users, with profiles of `train` alone.
        items: features of all items, with profiles of `train` alone.
        candidates: rows of the items that are ranked.
        asked: rows of the users who are asked.
        excluded: (users, items), true where a pair is not a candidate (it is known already).
        note: what stands in for what.
    """

    name: str
    train: Interactions
    test: Interactions
    users: Entities
    items: Entities
    candidates: NDArray[np.int64]
    asked: NDArray[np.int64]
    excluded: sp.csr_matrix
    note: str = ""


def stable_share(name: str, salt: str) -> float:
    """A number in [0, 1) that depends on the name and the salt alone, so that splits stay as data grow."""
    digest = hashlib.blake2b(f"{salt}\0{name}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def groups_of(ids: list[str], pattern: str | None) -> list[str]:
    """The part of each id that a pattern matches: ids of one group are held out together.

    >>> groups_of(["85123A", "85123B", "M"], "^[0-9]{5}")
    ['85123', '85123', 'M']
    """
    if pattern is None:
        return ids
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise ColdStartError(f"the group pattern {pattern!r} is no regular expression: {error}") from None
    matches = [compiled.search(name) for name in ids]
    return [match.group() if match else name for match, name in zip(matches, ids, strict=True)]


def split_cold_items(
    interactions: Interactions, users: Entities, items: Entities, *, group: str | None = None, seed: int = 0
) -> Split:
    """Hold out a fifth of the items, variants of one product (a group) together."""
    names = groups_of(list(items.ids), group)
    cold = np.array([stable_share(name, f"items {seed}") < _HELD_OUT for name in names])
    held_out = cold[interactions.items]
    return _split("cold items", interactions, held_out, users, items, np.flatnonzero(cold))


def split_cold_users(interactions: Interactions, users: Entities, items: Entities, *, seed: int = 0) -> Split:
    """Hold out a fifth of the users with all that they did.

    Where no user has a description, the text of each held-out user's first purchase stands in for it, and
    that purchase is neither asked for nor a candidate.
    """
    cold = np.array([stable_share(name, f"users {seed}") < _HELD_OUT for name in users.ids])
    held_out = cold[interactions.users]
    warm_items = np.unique(interactions.items[~held_out])
    excluded = None
    note = ""
    test = held_out & np.isin(interactions.items, warm_items)
    if not any(users.descriptions):
        users, stand_in = stand_in_descriptions(interactions.select(test), users, items)
        excluded = stand_in
        note = "the text of the first purchase stands for their words"
    return _split("cold users", interactions, held_out, users, items, warm_items, excluded=excluded, note=note)


def split_warm_pairs(interactions: Interactions, users: Entities, items: Entities, *, seed: int = 0) -> Split:
    """Hold out a fifth of the pairs at random; both sides keep other interactions."""
    pairs = interactions.pairs()
    names = [f"{u} {i}" for u, i in zip(pairs.users.tolist(), pairs.items.tolist(), strict=True)]
    held_out = np.array([stable_share(name, f"pairs {seed}") < _HELD_OUT for name in names])
    warm_items = np.unique(pairs.items[~held_out])
    return _split("warm pairs", pairs, held_out, users, items, warm_items)


def stand_in_descriptions(
    interactions: Interactions, users: Entities, items: Entities
) -> tuple[Entities, sp.csr_matrix]:
    """Let the text of each user's first interaction here stand for his words.

    Returns:
        The users, and a (users, items) matrix of the interactions that were used up.
    """
    rows, chosen = first_interactions(interactions)
    embeddings, descriptions = users.embeddings.copy(), list(users.descriptions)
    embeddings[rows] = items.embeddings[chosen]
    for user, item in zip(rows, chosen, strict=True):
        descriptions[user] = items.descriptions[item]
    used = sp.csr_matrix((np.ones(len(rows), np.float32), (rows, chosen)), shape=(len(users), len(items)))
    return replace(users, embeddings=embeddings, descriptions=descriptions), used


def _split(
    name: str, interactions: Interactions, held_out: NDArray[np.bool_], users: Entities, items: Entities,
    candidates: NDArray[np.int64], *, excluded: sp.csr_matrix | None = None, note: str = "",
) -> Split:
    train, test = interactions.select(~held_out), interactions.select(held_out)
    if not len(train) or not len(test):
        raise ColdStartError(f"{name}: {len(train)} interactions to train on and {len(test)} to test; give more data")
    users, items = with_history(train, users, items)
    known = _matrix(train)
    blocked = known if excluded is None else known + excluded
    positives = _matrix(test)
    positives = positives - positives.multiply(blocked > 0)
    asked = np.flatnonzero(np.asarray(positives.tocsr()[:, candidates].sum(axis=1)).ravel() > 0)
    return Split(name, train, test, users, items, candidates, asked, blocked.tocsr(), note)


def measure(split: Split, scores: Callable[[NDArray[np.int64]], Scores]) -> Metrics:
    """Rank every asked user's candidates and compare with what he did.

    Args:
        split: who is asked, and for what.
        scores: rows of users → (users, candidates); higher is better.

    Returns:
        AUC, Recall@20 and NDCG@20, as `rank_metrics` has them, per user.
    """
    positives = _matrix(split.test)[:, split.candidates]
    blocked = split.excluded[:, split.candidates]
    values = []
    for start in range(0, len(split.asked), 512):
        rows = split.asked[start : start + 512]
        block = np.asarray(scores(rows), dtype=np.float64)
        if not np.isfinite(block).all():
            raise ColdStartError(f"{split.name}: a method gave scores that are not finite numbers")
        wanted, known = positives[rows].toarray() > 0, blocked[rows].toarray() > 0
        values += list(starmap(rank_metrics, zip(block, wanted & ~known, known, strict=True)))
    auc, recall, ndcg = np.array(values).T
    return Metrics(auc, recall, ndcg)


def compare(
    split: Split, parameters: Parameters, *, group: str | None = None,
    progress: Callable[[str], None] = lambda method: None,
) -> dict[str, Metrics]:
    """Every method of `METHODS` on one split, each fitted on its training part alone.

    Ours chooses α, β and γ on interactions held out of the training part.
    """
    candidates = split.items.take(split.candidates)
    results = {}
    popularity = np.asarray(_matrix(split.train).sum(axis=0)).ravel()[split.candidates]
    results["popularity"] = measure(split, lambda rows: np.tile(popularity, (len(rows), 1)))
    progress("popularity")
    results["TF-IDF cosine"] = measure(split, _tfidf(split))
    progress("TF-IDF cosine")
    for method, tokens in (("LightFM on ids", False), ("LightFM on tokens", True)):
        results[method] = measure(split, _plain_lightfm(split, parameters, tokens=tokens))
        progress(method)
    chosen = tune_within(split, parameters, group=group)
    ours = HybridRecommender(chosen).fit(split.train, split.users, split.items)
    results["coldstart"] = measure(split, lambda rows: ours.score(split.users.take(rows), candidates))
    progress("coldstart")
    return results


def tune_within(split: Split, parameters: Parameters, *, group: str | None = None) -> Parameters:
    """Choose α, β and γ on a part of a split's training part: items and users made cold, and warm pairs."""
    train = split.train
    gone = np.array([stable_share(name, "validation users") < _HELD_OUT / 2 for name in split.users.ids])
    names = groups_of(list(split.items.ids), group)
    cold = np.array([stable_share(name, "validation items") < _HELD_OUT for name in names])
    pair_names = zip(train.users.tolist(), train.items.tolist(), strict=True)
    some = np.array([stable_share(f"{u} {i}", "validation pairs") < _HELD_OUT / 2 for u, i in pair_names])
    held_out = cold[train.items] | gone[train.users] | some
    users, items = with_history(train.select(~held_out), split.users, split.items)
    return tune(parameters, train.select(~held_out), train.select(held_out), users, items)


def _tfidf(split: Split) -> Callable[[NDArray[np.int64]], Scores]:
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(tokenizer=tokens_of, token_pattern=None, lowercase=False)
    warm = np.unique(split.train.items)
    vectorizer.fit([split.items.descriptions[row] for row in warm])
    vectors = vectorizer.transform(split.items.descriptions)
    # A user is the sum of what he bought and of what he said.
    profiles = _matrix(split.train) @ vectors + vectorizer.transform(split.users.descriptions)
    candidates = vectors[split.candidates].T.tocsc()
    return lambda rows: (profiles[rows] @ candidates).toarray()


def _plain_lightfm(
    split: Split, parameters: Parameters, *, tokens: bool
) -> Callable[[NDArray[np.int64]], Scores]:
    """LightFM as its users run it: WARP, user identities, items by identity or by their words."""
    from lightfm import LightFM
    from sklearn.feature_extraction.text import CountVectorizer

    features = None
    if tokens:
        counter = CountVectorizer(tokenizer=tokens_of, token_pattern=None, lowercase=False, binary=True)
        warm = np.unique(split.train.items)
        counter.fit([split.items.descriptions[row] for row in warm])
        features = counter.transform(split.items.descriptions).astype(np.float32)
    model = LightFM(
        no_components=parameters.components, loss="warp", learning_rate=parameters.learning_rate,
        random_state=parameters.seed,
    )  # fmt: skip
    model.fit(_matrix(split.train).tocoo(), item_features=features, epochs=parameters.epochs, num_threads=1)
    biases, items = model.get_item_representations(features)
    # A user without interactions was never moved from his random start: the biases alone are known.
    seen = np.bincount(split.train.users, minlength=len(split.users)) > 0
    users = model.user_embeddings * seen[:, None]
    return lambda rows: users[rows] @ items[split.candidates].T + biases[split.candidates]


def _matrix(interactions: Interactions) -> sp.csr_matrix:
    """(users, items), 1 where they interacted."""
    pairs = interactions.pairs()
    shape = (len(pairs.user_ids), len(pairs.item_ids))
    return sp.csr_matrix((np.ones(len(pairs), np.float32), (pairs.users, pairs.items)), shape=shape)


def evaluate(
    data: Path, repo: Path, *, group: str | None = None, seed: int = 0,
    report: Callable[[str, int, int], None] = lambda stage, done, total: None,
) -> dict[str, Any]:
    """Every method on cold items, cold users and warm pairs of the contract's tables.

    Args:
        data: the folder with items, users and interactions.
        repo: a Feast repository, for its encoder's name alone; no feature is read from it.
        group: a pattern as for `groups_of`.
        seed: of the splits.
        report: told (stage, done, total).

    Returns:
        {"metrics", "seed", "embedding_fingerprint", "splits": [{"split", "users", "candidates", "note",
        "rows": [{"method", metric: mean over users}]}]}.
    """
    settings = Enrichment.of_repo(repo)
    encoder = shared_encoder(settings.model, backend=settings.backend)
    with duckdb.connect() as con:
        load(con, data)
        interactions = read_interactions(con)
        users, items = (_described(con, encoder, side) for side in ("user", "item"))
    splits = (
        split_cold_items(interactions, users, items, group=group, seed=seed),
        split_cold_users(interactions, users, items, seed=seed),
        split_warm_pairs(interactions, users, items, seed=seed),
    )
    described = []
    for split in splits:
        report(split.name, 0, len(METHODS))
        done = iter(range(1, len(METHODS) + 1))
        results = compare(
            split, Parameters(), group=group,
            progress=lambda method, split=split, done=done: report(split.name, next(done), len(METHODS)),  # type: ignore[misc]
        )  # fmt: skip
        rows = [{"method": method, **metrics.means()} for method, metrics in results.items()]
        described.append({"split": split.name, "users": len(split.asked), "candidates": len(split.candidates),
                          "note": split.note, "rows": rows})  # fmt: skip
    metrics = ["auc", f"recall@{K}", f"ndcg@{K}"]
    return {"metrics": metrics, "seed": seed, "embedding_fingerprint": encoder.fingerprint, "splits": described}


def _described(con: duckdb.DuckDBPyConnection, encoder: Encoder, side: str) -> Entities:
    rows = con.execute(f"SELECT {side}_id, {DESCRIPTION}, {ATTRIBUTES} FROM {side}s ORDER BY 1").fetchall()
    ids, descriptions, attributes = zip(*rows, strict=True)
    return describe(encoder, list(ids), list(descriptions), list(attributes))
