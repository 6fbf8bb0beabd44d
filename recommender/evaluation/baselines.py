"""The methods that the recommender is compared with, each fitted on the training part of a split only.

A method is `fit(split, seed, **settings) -> scorer`. The scorer takes row numbers of users and returns scores, shape
(rows, all items); higher is better. The settings have defaults; `recommender.evaluation.tuned` chooses them. Items and
users without training interactions do not take part in fitting: their words are not in a vocabulary, and they are not
negative examples.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from coldstart_udfs.console import Report, no_report
from recommender.evaluation import rectools as rectools_door
from recommender.evaluation.plain_lightfm import (
    COMPONENTS,
    EPOCHS,
    LEARNING_RATE,
    Factors,
    bags,
    with_identity,
    word_features,
)
from recommender.measure.splits import Split, pair_matrix

if TYPE_CHECKING:
    from coldstart_udfs.settings import Enrichment
    from recommender.model.recommender import HybridRecommender
    from recommender.tuning.prior import Prior

Rows: TypeAlias = NDArray[np.int64]
Scores: TypeAlias = NDArray[np.floating[Any]]
Scorer: TypeAlias = Callable[[Rows], Scores]
Fit: TypeAlias = Callable[..., Scorer]

OURS = "coldstart"
_ITERATIONS = 15


def random(split: Split, seed: int) -> Scorer:
    """A random ranking for each user."""
    return lambda rows: np.stack([np.random.default_rng([seed, row]).random(len(split.items)) for row in rows])


def popularity(split: Split, seed: int) -> Scorer:
    """The number of users of an item in the training part."""
    counts = np.asarray(pair_matrix(split.train).sum(axis=0)).ravel()
    return lambda rows: np.tile(counts, (len(rows), 1))


def tfidf_cosine(split: Split, seed: int, *, ngrams: int = 1, sublinear: bool = True) -> Scorer:
    """TF-IDF cosine of an item and a user, who is the sum of their items' vectors and their description's vector.

    Args:
        split: what is learned from.
        seed: nothing is drawn.
        ngrams: the most words in a term.
        sublinear: whether a term counts 1 + log(times) instead of its times.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectors, said = bags(split, TfidfVectorizer, ngram_range=(1, ngrams), sublinear_tf=sublinear)
    profiles = pair_matrix(split.train) @ vectors + said
    transposed = vectors.T.tocsc()
    return lambda rows: (profiles[rows] @ transposed).toarray()


def encoder_cosine(split: Split, seed: int) -> Scorer:
    """The same with the encoder's vectors, unweighted."""
    vectors = split.items.embeddings
    profiles = pair_matrix(split.train) @ vectors + split.users.embeddings
    return lambda rows: profiles[rows] @ vectors.T


def lightfm_ids(split: Split, seed: int, *, components: int = COMPONENTS, epochs: int = EPOCHS) -> Scorer:
    """LightFM on identities: matrix factorisation with WARP."""
    return Factors.fit(split, seed, components=components, epochs=epochs).score


def lightfm_tokens(split: Split, seed: int, *, components: int = COMPONENTS, epochs: int = EPOCHS) -> Scorer:
    """LightFM on identities of users and words of items."""
    bought, _ = word_features(split)
    return Factors.fit(split, seed, item_features=bought, components=components, epochs=epochs).score


def lightfm_ids_and_tokens(
    split: Split, seed: int, *, components: int = COMPONENTS, epochs: int = EPOCHS, identity: float = 1.0
) -> Scorer:
    """LightFM on identities and words of both sides; `identity` is the value of an identity, the words have 1."""
    bought, said = word_features(split, own_words=True)
    warm_users = np.bincount(split.train.users, minlength=len(split.users)) > 0
    return Factors.fit(
        split, seed, with_identity(said, warm_users, identity), with_identity(bought, split.warm, identity),
        components=components, epochs=epochs,
    ).score  # fmt: skip


def ease(split: Split, seed: int, *, ridge: float = 300.0, half_life: float | None = None) -> Scorer:
    """EASE (Steck 2019).

    Args:
        split: what is learned from.
        seed: nothing is drawn.
        ridge: λ.
        half_life: see `aged_pairs`.
    """
    return _ease(aged_pairs(split, half_life), ridge)


def ridge_map(split: Split, seed: int, *, text: str = "words", ridge: float = 1.0) -> Scorer:
    """LightFM on identities; a ridge regression from texts predicts the factors of cold items.

    Args:
        split: what is learned from.
        seed: LightFM's seed.
        text: "words" (TF-IDF) or "vectors".
        ridge: λ.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import Ridge

    factors = Factors.fit(split, seed)
    targets = np.column_stack([factors.items, factors.item_biases]).astype(np.float64)
    warm, new = np.flatnonzero(split.warm), np.flatnonzero(~split.warm)
    if not len(new):
        return factors.score
    words = text == "words"
    features = bags(split, TfidfVectorizer, sublinear_tf=True)[0] if words else split.items.embeddings
    # With Cholesky and without sklearn's intercept, one solution covers all factors.
    centre = targets[warm].mean(axis=0)
    learned = Ridge(ridge, fit_intercept=False, solver="cholesky")
    learned.fit(features[warm].astype(np.float64), targets[warm] - centre)
    predicted = learned.predict(features[new]) + centre
    factors.items[new], factors.item_biases[new] = predicted[:, :-1], predicted[:, -1]
    return factors.score


def implicit_als(
    split: Split, seed: int, *, factors: int = COMPONENTS, ridge: float = 0.01, confidence: float = 5.0,
    half_life: float | None = None,
) -> Scorer:
    """implicit's ALS.

    Args:
        split: what is learned from.
        seed: of the first factors.
        factors: their number.
        ridge: λ.
        confidence: of a pair with an interaction, less 1.
        half_life: see `aged_pairs`.
    """
    from implicit.als import AlternatingLeastSquares
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, "blas"):  # otherwise implicit warns about nested threads
        model = AlternatingLeastSquares(
            factors=factors, regularization=ridge, alpha=confidence, iterations=_ITERATIONS, random_state=seed,
            num_threads=1,
        )  # fmt: skip
        model.fit(aged_pairs(split, half_life), show_progress=False)
    users, items = model.user_factors, model.item_factors.T
    return lambda rows: users[rows] @ items


def rectools_lightfm(split: Split, seed: int, *, components: int = COMPONENTS, epochs: int = EPOCHS) -> Scorer:
    """RecTools' LightFM wrapper on identities and words of both sides, in a separate environment."""
    bought, said = word_features(split, own_words=True)
    users, items = rectools_door.vectors(
        pair_matrix(split.train), said, bought, components=components, epochs=epochs, learning_rate=LEARNING_RATE,
        seed=seed,
    )  # fmt: skip
    return lambda rows: users[rows] @ items.T


METHODS: dict[str, Fit] = {
    "random": random,
    "popularity": popularity,
    "TF-IDF cosine": tfidf_cosine,
    "encoder cosine": encoder_cosine,
    "LightFM ids": lightfm_ids,
    "LightFM ids+tokens": lightfm_ids_and_tokens,
    "LightFM tokens": lightfm_tokens,
    "EASE": ease,
    "ridge map": ridge_map,
    "implicit ALS": implicit_als,
    "RecTools LightFM": rectools_lightfm,
}


def missing() -> dict[str, str]:
    """Return the methods that cannot run in this environment, and the reasons."""
    left_out = {}
    if find_spec("implicit") is None:
        left_out["implicit ALS"] = "implicit is not installed; the extra `bench` has it"
    if reason := rectools_door.missing():
        left_out["RecTools LightFM"] = reason
    return left_out


def fit_ours(
    split: Split, seed: int, progress: Report = no_report,
    settings: Enrichment | None = None, prior: Prior | None = None, unseen: NDArray[np.bool_] | None = None,
) -> HybridRecommender:
    """Fit the recommender; parameters are chosen within the training part, except those in a repository's settings.

    `unseen`, (items,), are those that a tuned encoder has not learned from; None: the encoder is not tuned.
    """
    from recommender.data.events import EventWeights
    from recommender.model.parameters import Parameters
    from recommender.tuning.validation import fit_tuned

    model: HybridRecommender = fit_tuned(
        split.train, split.users, split.items, kind=split.kind, groups=split.groups, seed=seed,
        parameters=Parameters(evidence_scale=settings.evidence_scale) if settings else None,
        weights=EventWeights.of_settings(settings) if settings else None,
        searchers=split.searchers, unseen=unseen, prior=prior, progress=progress,
    )  # fmt: skip
    return model


def scorer_of(model: HybridRecommender) -> Scorer:
    """Return the scorer of a fitted recommender, for its own users and all its items."""
    ids = model.users.ids
    return lambda rows: model.score([ids[row] for row in rows.tolist()], list(model.items.ids))


def aged_pairs(split: Split, half_life: float | None) -> sp.csr_matrix:
    """(users, items) float32: 1 for pairs of the training part, halved for every `half_life` days since the last event.

    Ages are counted from the last interaction of all. None: pairs do not age.
    """
    if half_life is None:
        return pair_matrix(split.train)
    train = split.train
    days = (train.timestamps.max() - train.timestamps) / np.timedelta64(1, "D")
    latest = np.lexsort((days, train.users * len(split.items) + train.items))
    pairs, first = np.unique((train.users * len(split.items) + train.items)[latest], return_index=True)
    # A positive lower bound keeps very old pairs.
    values = np.maximum(np.exp2(-days[latest][first] / half_life), 1e-6).astype(np.float32)
    return sp.csr_matrix((values, np.divmod(pairs, len(split.items))), (len(split.users), len(split.items)))


def _ease(X: sp.csr_matrix, ridge: float) -> Scorer:
    """X − X·P·diag(1/diag P), P = (XᵀX + λI)⁻¹, with the smaller of XᵀX and XXᵀ: X·P = (XXᵀ + λI)⁻¹·X."""
    warm = np.flatnonzero(np.bincount(X.indices, minlength=X.shape[1]))
    Y = X[:, warm].astype(np.float64)
    n_users, n_items = Y.shape
    if n_items <= n_users:
        P = _inverse((Y.T @ Y).toarray() + ridge * np.eye(n_items))
        diagonal = np.diag(P)
        solved = np.asarray(Y @ P)
    else:
        solved = np.asarray((Y.T @ _inverse((Y @ Y.T).toarray() + ridge * np.eye(n_users))).T)
        diagonal = (1 - np.asarray(Y.multiply(solved).sum(axis=0)).ravel()) / ridge
    divided = (solved / diagonal).astype(np.float32)

    def score(rows: Rows) -> Scores:
        scores = np.zeros((len(rows), X.shape[1]), dtype=np.float32)
        scores[:, warm] = Y[rows].toarray() - divided[rows]
        return scores

    return score


def _inverse(G: NDArray[np.float64]) -> NDArray[np.float64]:
    """The inverse of a positive definite matrix, by Cholesky, which takes half the work of the general inverse."""
    from scipy.linalg import lapack

    factor, _ = lapack.dpotrf(G)
    upper, _ = lapack.dpotri(factor)
    upper = np.triu(upper)
    return np.asarray(upper + np.triu(upper, 1).T)
