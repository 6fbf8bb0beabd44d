"""Plain LightFM on identities and words, for the methods that the recommender is compared with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from coldstart_udfs.text.words import tokens as tokens_of
from recommender.measure.splits import Split, pair_matrix

COMPONENTS, EPOCHS = 64, 15
LEARNING_RATE = 0.05
_MIN_DESCRIPTIONS = 2


@dataclass
class Factors:
    """LightFM's vectors of all users and items; zeros for unknown ones, so that only the biases count."""

    users: NDArray[np.float32]
    items: NDArray[np.float32]
    item_biases: NDArray[np.float32]

    @classmethod
    def fit(
        cls, split: Split, seed: int, user_features: sp.csr_matrix | None = None,
        item_features: sp.csr_matrix | None = None, *, components: int = COMPONENTS, epochs: int = EPOCHS,
    ) -> Factors:
        """Fit LightFM with WARP on one thread, on the features of each side, or its identities if there are none."""
        from lightfm import LightFM

        warm_users = np.flatnonzero(np.bincount(split.train.users, minlength=len(split.users)))
        warm_items = np.flatnonzero(split.warm)
        model = LightFM(no_components=components, loss="warp", learning_rate=LEARNING_RATE, random_state=seed)
        model.fit(
            pair_matrix(split.train)[warm_users][:, warm_items].tocoo(),
            user_features=None if user_features is None else user_features[warm_users],
            item_features=None if item_features is None else item_features[warm_items],
            epochs=epochs, num_threads=1,
        )  # fmt: skip
        return cls(
            _spread(model.user_embeddings, user_features, warm_users, len(split.users)),
            _spread(model.item_embeddings, item_features, warm_items, len(split.items)),
            _spread(model.item_biases[:, None], item_features, warm_items, len(split.items))[:, 0],
        )

    def score(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the scores of users. The user's bias is omitted, because it does not change a ranking."""
        return np.asarray(self.users[rows] @ self.items.T + self.item_biases)


def _spread(
    learned: NDArray[np.float32], features: sp.csr_matrix | None, warm: NDArray[np.intp], n: int
) -> NDArray[np.float32]:
    if features is not None:
        return np.asarray(features @ learned, dtype=np.float32)
    everyone = np.zeros((n, learned.shape[1]), dtype=np.float32)
    everyone[warm] = learned
    return everyone


def bags(
    split: Split, vectorizer: Any, *, own_words: bool = False, **how: Any
) -> tuple[sp.csr_matrix, sp.csr_matrix]:
    """Return bags of words of all items and of all users' descriptions; (n, 1) zeros if there are no words.

    The columns are the words of warm items. With `own_words`, the users' columns are the words of warm users.

    Args:
        split: its texts.
        vectorizer: scikit-learn's class.
        own_words: see above.
        how: arguments of the class.
    """
    warm_users = np.flatnonzero(np.bincount(split.train.users, minlength=len(split.users)))
    bought, said = split.items.descriptions, split.users.descriptions
    learned = _vectorizer(vectorizer, [bought[row] for row in np.flatnonzero(split.warm).tolist()], how)
    learned_said = _vectorizer(vectorizer, [said[row] for row in warm_users.tolist()], how) if own_words else learned
    return _transform(learned, bought), _transform(learned_said, said)


def word_features(split: Split, *, own_words: bool = False) -> tuple[sp.csr_matrix, sp.csr_matrix]:
    """Return LightFM's features of all items and of all users: their words, each row of length 1.

    LightFM's vector of an entity is the sum over its features. With the value 1 for every word, sixty words would drown
    everything else; with 1/√n for each of n words, long and short texts weigh the same.
    """
    from sklearn.feature_extraction.text import CountVectorizer

    bought, said = bags(split, CountVectorizer, own_words=own_words, binary=True)
    return _even(bought), _even(said)


def _even(bag: sp.csr_matrix) -> sp.csr_matrix:
    counts = np.maximum(np.diff(bag.indptr), 1)
    return sp.csr_matrix(sp.diags_array(1 / np.sqrt(counts)) @ bag, dtype=np.float32)


def _vectorizer(vectorizer: Any, texts: Sequence[str], how: Mapping[str, Any]) -> Any:
    # A word in one description only connects it to no other.
    words = Counter(word for text in texts for word in set(tokens_of(text)))
    if max(words.values(), default=0) < _MIN_DESCRIPTIONS:
        return None
    return vectorizer(
        tokenizer=tokens_of, token_pattern=None, lowercase=False, min_df=_MIN_DESCRIPTIONS, **how
    ).fit(texts)  # fmt: skip


def _transform(learned: Any, texts: Sequence[str]) -> sp.csr_matrix:
    if learned is None:
        return sp.csr_matrix((len(texts), 1), dtype=np.float32)
    return learned.transform(texts).astype(np.float32)


def with_identity(features: sp.csr_matrix, warm: NDArray[np.bool_], weight: float = 1.0) -> sp.csr_matrix:
    """Return the features with one identity column of this weight for each warm row before them."""
    rows = np.flatnonzero(warm)
    values = np.full(len(rows), weight, np.float32)
    identity = sp.csr_matrix((values, (rows, np.arange(len(rows)))), (len(warm), len(rows)))
    return sp.hstack([identity, features], format="csr", dtype=np.float32)
