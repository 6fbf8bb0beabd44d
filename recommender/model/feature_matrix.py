"""The feature matrix: for each item or user the embedding of its text, its words, and its attributes, side by side.

The served profiles P are in the embedding space alone, where words that name a thing exactly ("HEART T-LIGHT HOLDER")
are blurred. The recommender therefore adds sparse columns of words and attributes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from coldstart_udfs.profile import Vectors
from coldstart_udfs.text.function_words import content_words
from coldstart_udfs.text.words import tokens as tokens_of
from recommender.data.entities import Entities

# A word of one description alone cannot be learned from.
_MIN_DESCRIPTIONS = 2
# The most frequent words; rarer ones cost time and do not improve rankings.
MOST_WORDS = 3_000
MOST_ATTRIBUTES = 1_000


@dataclass(frozen=True)
class FeatureMatrix:
    """n rows of the feature matrix, in two blocks.

    Attributes:
        dense: (n, d) float32, embeddings.
        sparse: (n, s) float32, words and attributes.
    """

    dense: Vectors
    sparse: sp.csr_matrix

    def __len__(self) -> int:
        return len(self.dense)

    @property
    def width(self) -> int:
        """d + s."""
        return int(self.dense.shape[1] + self.sparse.shape[1])

    def take(self, rows: NDArray[np.int64]) -> FeatureMatrix:
        """These rows, in this order."""
        return FeatureMatrix(self.dense[rows], self.sparse[rows])

    def toarray(self) -> Vectors:
        """(n, d + s), the whole."""
        return np.hstack([self.dense, self.sparse.toarray()])

    def any(self) -> bool:
        """Whether there is anything but zeros."""
        return bool(self.sparse.nnz or self.dense.any())

    def dot(self, vectors: Vectors) -> Vectors:
        """(n, k): the products of every row with each of the k rows of `vectors`, (k, d + s)."""
        d = self.dense.shape[1]
        if len(vectors) == 1:  # a product of matrices would copy the dense block
            return np.asarray(self.dense @ vectors[0, :d] + self.sparse @ vectors[0, d:])[:, None]
        products = vectors[:, :d] @ self.dense.T
        products += (self.sparse @ np.ascontiguousarray(vectors[:, d:].T)).T
        return np.asarray(products.T)

    def paired(self, rows: NDArray[np.int64], vectors: Vectors, others: NDArray[np.int64]) -> NDArray[np.float64]:
        """(p,): the products of some rows, each with the row of `vectors`, (k, d + s), that stands in `others`."""
        d = self.dense.shape[1]
        dense = np.einsum("ij,ij->i", self.dense[rows], vectors[others, :d], dtype=np.float64)
        chosen = self.sparse[rows]
        pair = np.repeat(np.arange(len(rows)), np.diff(chosen.indptr))
        products = chosen.data.astype(np.float64) * vectors[others[pair], d + chosen.indices]
        return np.asarray(dense + np.bincount(pair, products, minlength=len(rows)))

    def summed(self, weights: sp.csr_matrix) -> Vectors:
        """(m, d + s): m weighted sums of rows; `weights` is (m, n)."""
        return np.hstack([weights @ self.dense, (weights @ self.sparse).toarray()]).astype(np.float32)

    def gram(self) -> NDArray[np.float64]:
        """XᵀX, (d + s, d + s)."""
        dense = self.dense.astype(np.float64)
        across = self.sparse.T @ dense
        return np.block([[dense.T @ dense, across.T], [across, (self.sparse.T @ self.sparse).toarray()]])


class Vocabulary:
    """The words and attributes that have a column.

    Attributes:
        words: words and pairs of neighbouring words.
        idf: (words,) inverse document frequencies.
        attributes: "column=value".
    """

    def __init__(self, words: Sequence[str], idf: NDArray[np.float64], attributes: Sequence[str]) -> None:
        self.words, self.attributes = list(words), list(attributes)
        self.idf = np.asarray(idf, dtype=np.float64)
        self._attribute_columns = {name: column for column, name in enumerate(self.attributes)}
        # Of names and of sentences.
        self._vectorizers = [_vectorizer(how, vocabulary=self.words) for how in (tokens_of, content_words_of) if words]
        for one in self._vectorizers:
            one.idf_ = self.idf

    @classmethod
    def fit(cls, descriptions: Sequence[str], attributes: Sequence[Sequence[str]]) -> Vocabulary:
        """Learn the columns from entities with history: the most frequent words and attributes of two or more."""
        labels = Counter(label for labels in attributes for label in set(labels))
        often = sorted((-times, label) for label, times in labels.items() if times >= _MIN_DESCRIPTIONS)
        kept = sorted(label for _, label in often[:MOST_ATTRIBUTES])
        vectorizer = _vectorizer(tokens_of, max_features=MOST_WORDS, min_df=min(_MIN_DESCRIPTIONS, len(descriptions)))
        try:
            vectorizer.fit(descriptions)
        except ValueError:  # sklearn's way to say that no word is left
            return cls([], np.zeros(0), kept)
        return cls(vectorizer.get_feature_names_out().tolist(), vectorizer.idf_, kept)

    def tfidf(self, descriptions: Sequence[str], *, sentences: bool = False) -> sp.csr_matrix:
        """(n, words) float32, rows of length 1 or 0.

        Args:
            descriptions: n texts.
            sentences: whether they are sentences, in which function words do not count. Few items have an "i" in their
                names: it would weigh more than what a user says.
        """
        if not self._vectorizers or not any(descriptions):
            return sp.csr_matrix((len(descriptions), len(self.words)), dtype=np.float32)
        return sp.csr_matrix(self._vectorizers[sentences].transform(descriptions), dtype=np.float32)

    def labels(self, attributes: Sequence[Sequence[str]]) -> sp.csr_matrix:
        """(n, attributes) float32, 1 where a row has it."""
        return one_hot(attributes, self._attribute_columns)

    def label_columns(self, labels: Sequence[str]) -> list[int]:
        """The attribute columns of one entity."""
        return columns_of(labels, self._attribute_columns)

    def feature_matrix(self, entities: Entities) -> FeatureMatrix:
        """The feature matrix of entities, known or not; the blocks of a row have length 1 each, or 0."""
        labels = self.labels(entities.attributes)
        length = np.sqrt(np.maximum(np.asarray(labels.sum(axis=1)).ravel(), 1))
        scaled = sp.diags((1 / length).astype(np.float32)) @ labels
        return FeatureMatrix(entities.embeddings, sp.hstack([self.tfidf(entities.descriptions), scaled], format="csr"))


def content_words_of(text: str) -> list[str]:
    """The words of what a user says of themselves, without function words."""
    return content_words(tokens_of(text))


def columns_of(labels: Iterable[str], columns: dict[str, int]) -> list[int]:
    """The columns of some names, each once, in order; a name without a column is left out."""
    return sorted({columns[name] for name in labels if name in columns})


def one_hot(labels: Sequence[Sequence[str]], columns: dict[str, int]) -> sp.csr_matrix:
    """(n, columns) float32; a name without a column is left out, a repeated one counts once."""
    rows, indices = [], []
    for row, names in enumerate(labels):
        known = columns_of(names, columns)
        rows.extend([row] * len(known))
        indices.extend(known)
    ones = np.ones(len(rows), dtype=np.float32)
    return sp.csr_matrix((ones, (rows, indices)), shape=(len(labels), len(columns)))


def _vectorizer(tokenizer: Callable[[str], list[str]], **settings: Any) -> Any:
    from sklearn.feature_extraction.text import TfidfVectorizer

    # The logarithm keeps a word that a long text repeats from drowning the others.
    return TfidfVectorizer(
        tokenizer=tokenizer, token_pattern=None, lowercase=False, ngram_range=(1, 2), sublinear_tf=True, **settings
    )
