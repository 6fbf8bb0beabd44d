"""The methods that the recommender is compared with, each fitted on the training part of a split only.

A method is `fit(split, seed) -> scorer`. The scorer takes row numbers of users and returns scores, shape (rows, all
items); higher is better. Items and users without training interactions do not take part in fitting: their words are not
in a vocabulary, and they are not negative examples.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from coldstart_udfs.console import Report, no_report
from recommender.evaluation import rectools as rectools_door
from recommender.evaluation.plain_lightfm import COMPONENTS, EPOCHS, LEARNING_RATE, Factors, bags, with_identity
from recommender.measure.metrics import rank_metrics
from recommender.measure.splits import Split, pair_matrix

if TYPE_CHECKING:
    from coldstart_udfs.settings import Enrichment
    from recommender.model.recommender import HybridRecommender

Rows: TypeAlias = NDArray[np.int64]
Scores: TypeAlias = NDArray[np.floating[Any]]
Scorer: TypeAlias = Callable[[Rows], Scores]
Fit: TypeAlias = Callable[[Split, int], Scorer]

OURS = "coldstart"
_RIDGES = (50.0, 200.0, 800.0)
_CONFIDENCES = (1.0, 5.0, 20.0)
_TEXT_RIDGES = (0.3, 1.0, 3.0)
_CHECKED = 0.2
_VALIDATION_SHARE, _VALIDATION_USERS = 0.1, 1_000


def random(split: Split, seed: int) -> Scorer:
    """A random ranking for each user."""
    return lambda rows: np.stack([np.random.default_rng([seed, row]).random(len(split.items)) for row in rows])


def popularity(split: Split, seed: int) -> Scorer:
    """The number of users of an item in the training part."""
    counts = np.asarray(pair_matrix(split.train).sum(axis=0)).ravel()
    return lambda rows: np.tile(counts, (len(rows), 1))


def tfidf_cosine(split: Split, seed: int) -> Scorer:
    """TF-IDF cosine of an item and a user, who is the sum of their items' vectors and their description's vector."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectors, said = bags(split, TfidfVectorizer)
    profiles = pair_matrix(split.train) @ vectors + said
    transposed = vectors.T.tocsc()
    return lambda rows: (profiles[rows] @ transposed).toarray()


def encoder_cosine(split: Split, seed: int) -> Scorer:
    """The same with the encoder's vectors, unweighted."""
    vectors = split.items.embeddings
    profiles = pair_matrix(split.train) @ vectors + split.users.embeddings
    return lambda rows: profiles[rows] @ vectors.T


def lightfm_ids(split: Split, seed: int) -> Scorer:
    """LightFM on identities: matrix factorisation with WARP."""
    return Factors.fit(split, seed).score


def lightfm_tokens(split: Split, seed: int) -> Scorer:
    """LightFM on identities of users and words of items."""
    from sklearn.feature_extraction.text import CountVectorizer

    bought, _ = bags(split, CountVectorizer)
    return Factors.fit(split, seed, item_features=bought).score


def lightfm_ids_and_tokens(split: Split, seed: int) -> Scorer:
    """LightFM on identities and words of both sides."""
    from sklearn.feature_extraction.text import CountVectorizer

    bought, said = bags(split, CountVectorizer, own_words=True)
    warm_users = np.bincount(split.train.users, minlength=len(split.users)) > 0
    return Factors.fit(split, seed, with_identity(said, warm_users), with_identity(bought, split.warm)).score


def ease(split: Split, seed: int) -> Scorer:
    """EASE (Steck 2019), with the best λ of three on a tenth of the training pairs."""
    X = pair_matrix(split.train)
    return _ease(X, _best(X, _RIDGES, _ease, seed))


def ridge_map(split: Split, seed: int) -> Scorer:
    """LightFM on identities; a ridge regression from texts (TF-IDF or vectors) predicts the factors of cold items.

    The kind of text and λ are chosen on a fifth of the warm items, by the squared error of their factors.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import Ridge

    factors = Factors.fit(split, seed)
    targets = np.column_stack([factors.items, factors.item_biases]).astype(np.float64)
    warm, new = np.flatnonzero(split.warm), np.flatnonzero(~split.warm)
    apart = np.random.default_rng(seed).random(len(warm)) < _CHECKED
    learned, checked = warm[~apart], warm[apart]
    texts = [bags(split, TfidfVectorizer)[0], split.items.embeddings]

    def predict(known: Rows, asked: Rows, kind: int, penalty: float) -> NDArray[np.float64]:
        # With Cholesky and without sklearn's intercept, one solution covers all factors.
        centre = targets[known].mean(axis=0)
        ridge = Ridge(penalty, fit_intercept=False, solver="cholesky")
        ridge.fit(texts[kind][known].astype(np.float64), targets[known] - centre)
        return np.asarray(ridge.predict(texts[kind][asked]) + centre)

    if len(learned) and len(checked) and len(new):
        choices = [(kind, penalty) for kind in (0, 1) for penalty in _TEXT_RIDGES]
        best = min(choices, key=lambda it: float(((predict(learned, checked, *it) - targets[checked]) ** 2).sum()))
        predicted = predict(warm, new, *best)
        factors.items[new], factors.item_biases[new] = predicted[:, :-1], predicted[:, -1]
    return factors.score


def implicit_als(split: Split, seed: int) -> Scorer:
    """implicit's ALS, with the best confidence weight of three on a tenth of the training pairs."""
    X = pair_matrix(split.train)

    def fit(matrix: sp.csr_matrix, confidence: float) -> Scorer:
        from implicit.als import AlternatingLeastSquares
        from threadpoolctl import threadpool_limits

        with threadpool_limits(1, "blas"):  # otherwise implicit warns about nested threads
            model = AlternatingLeastSquares(
                factors=COMPONENTS, iterations=EPOCHS, alpha=confidence, random_state=seed, num_threads=1
            )
            model.fit(matrix, show_progress=False)
        users, items = model.user_factors, model.item_factors.T
        return lambda rows: users[rows] @ items

    return fit(X, _best(X, _CONFIDENCES, fit, seed))


def rectools_lightfm(split: Split, seed: int) -> Scorer:
    """RecTools' LightFM wrapper on identities and words of both sides, in a separate environment."""
    from sklearn.feature_extraction.text import CountVectorizer

    bought, said = bags(split, CountVectorizer, own_words=True)
    users, items = rectools_door.vectors(
        pair_matrix(split.train), said, bought, components=COMPONENTS, epochs=EPOCHS, learning_rate=LEARNING_RATE,
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
    settings: Enrichment | None = None,
) -> HybridRecommender:
    """Fit the recommender; parameters are chosen within the training part, except those in a repository's settings."""
    from recommender.data.events import EventWeights
    from recommender.model.parameters import Parameters
    from recommender.tuning.validation import fit_tuned

    model: HybridRecommender = fit_tuned(
        split.train, split.users, split.items, kind=split.kind, groups=split.groups, seed=seed,
        parameters=Parameters(evidence_scale=settings.evidence_scale) if settings else None,
        weights=EventWeights.of_settings(settings) if settings else None,
        searchers=split.searchers, progress=progress,
    )  # fmt: skip
    return model


def scorer_of(model: HybridRecommender) -> Scorer:
    """Return the scorer of a fitted recommender, for its own users and all its items."""
    ids = model.users.ids
    return lambda rows: model.score([ids[row] for row in rows.tolist()], list(model.items.ids))


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


def _best(
    X: sp.csr_matrix, settings: Sequence[float], fit: Callable[[sp.csr_matrix, float], Scorer], seed: int
) -> float:
    """Return the setting with the best NDCG@20 on a tenth of the training pairs, over at most 1,000 users."""
    rng = np.random.default_rng(seed)
    pairs = X.tocoo()
    held_out = rng.random(pairs.nnz) < _VALIDATION_SHARE

    def part(mask: NDArray[np.bool_]) -> sp.csr_matrix:
        return sp.csr_matrix((pairs.data[mask], (pairs.row[mask], pairs.col[mask])), shape=X.shape)

    kept, asked = part(~held_out), part(held_out)
    rows = rng.permutation(np.flatnonzero(np.diff(asked.indptr)))[:_VALIDATION_USERS]
    if not len(rows) or not kept.nnz:
        return settings[len(settings) // 2]
    wanted, known = asked[rows].toarray() > 0, kept[rows].toarray() > 0
    return max(settings, key=lambda value: rank_metrics(fit(kept, value)(rows), wanted, known).ndcg.mean())
