"""Labels for texts from a few examples of each: intents of a help desk, categories of a shop, topics of a forum.

A label's examples are its texts and its own name, "card_arrival" read as "card arrival". Kernel ridge regression of
each label on all examples gives a text one score for each label; a temperature, found on the examples themselves by
leaving one out at a time, turns scores into probabilities.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.linalg
import scipy.optimize
import scipy.sparse as sp
import scipy.special
from numpy.typing import NDArray

from coldstart_udfs.encoder.encoder import Encoder
from coldstart_udfs.errors import ColdStartError
from coldstart_udfs.profile import Vectors, has_text

# Chosen on draws of the training parts of four data sets (docs/explanation/classification.md). The kernel of two texts
# is exp(-_SHARPNESS·‖x - y‖²) of their vectors, times 1 to 1 + _SPELLING by the character n-grams that they share.
_SHARPNESS = 1.0
_SPELLING = 1.0
_RIDGE = 0.3
# What a label's name counts beside one example.
_NAME = 2.0
# The kernel is spanned by at most this many examples (Nyström), so that time and memory are linear in the others.
_SPAN = 3_000
# The temperature is found on at most this many examples.
_CALIBRATED = 2_000
_CHUNK = 2_048

Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class Choice:
    """The label that was chosen for a text.

    Attributes:
        label: the likeliest label; None where its probability is below the threshold.
        probability: of the likeliest label, from 0 to 1.
    """

    label: str | None
    probability: float


class Classifier:
    """Chooses between labels that were learned from a few examples; made by `fit`.

    Args:
        encoder: the encoder of the examples.
        learned: what was learned from them.

    Attributes:
        labels: the labels in alphabetical order, those of the columns of `probabilities`.
    """

    def __init__(self, encoder: Encoder, learned: Learned) -> None:
        self._encoder, self._learned = encoder, learned
        self.labels = learned.labels

    @classmethod
    def fit(cls, encoder: Encoder, texts: Iterable[str | None], labels: Iterable[str | None]) -> Classifier:
        """Learn labels from examples.

        The order of the examples makes no difference, nor does an example that is given twice. A text without a label,
        or a label without a text, is no example.

        Args:
            encoder: makes the vectors of the examples, and of the texts later.
            texts: n texts.
            labels: n labels. One to ten examples of each are enough to begin with; of a label with one example,
                probabilities are judged by its name alone.

        Raises:
            ColdStartError: there are not as many texts as labels, or the examples have fewer than two labels.

        >>> encoder = Encoder(cache=False)
        >>> texts = ["where is my card", "my card did not come", "the cash machine kept my card", "card stuck in an ATM"]
        >>> found = Classifier.fit(encoder, texts, ["card_arrival", "card_arrival", "card_swallowed", "card_swallowed"])
        >>> [choice.label for choice in found.predict(["has my new card been sent?", "the ATM ate it"])]
        ['card_arrival', 'card_swallowed']
        """
        return cls(encoder, learn(encoder, examples_of(texts, labels)))

    def probabilities(self, texts: Sequence[str]) -> Matrix:
        """(n texts, labels) the probability of each label; rows add up to 1, the row of a blank text is NaN."""
        result = np.full((len(texts), len(self.labels)), np.nan)
        rows = np.flatnonzero([has_text(text) for text in texts])
        for part in _chunks(len(rows)):
            given = [texts[row] for row in rows[part]]
            result[rows[part]] = self._learned.probabilities(self._encoder.encode(given), given)
        return result

    def predict(self, texts: Sequence[str], *, threshold: float | None = None) -> list[Choice | None]:
        """The likeliest label of each text; None for a blank text.

        Args:
            texts: n texts.
            threshold: the probability, from 0 to 1, below which a text gets no label; None: every text gets one.

        Raises:
            ColdStartError: the threshold is no probability.
        """
        least = checked_threshold(threshold)
        result: list[Choice | None] = []
        for row in self.probabilities(texts):
            best = int(row.argmax())
            if np.isnan(row[best]):
                result.append(None)
            else:
                result.append(Choice(self.labels[best] if row[best] >= least else None, float(row[best])))
        return result


def checked_threshold(threshold: float | None) -> float:
    """The threshold; None is 0.

    Raises:
        ColdStartError: it is no probability.
    """
    if threshold is None:
        return 0.0
    if not 0 <= threshold <= 1:
        raise ColdStartError(f"threshold is {threshold}; it is a probability from 0 to 1, such as 0.5, or NULL for none")
    return float(threshold)


def examples_of(texts: Iterable[str | None], labels: Iterable[str | None]) -> tuple[tuple[str, str], ...]:
    """(label, text) of each different example, in alphabetical order.

    Raises:
        ColdStartError: as `Classifier.fit`.
    """
    texts, labels = list(texts), list(labels)
    if len(texts) != len(labels):
        raise ColdStartError(f"there are {len(texts)} texts and {len(labels)} labels; give one label for each text")
    found = sorted(
        {(label, text) for text, label in zip(texts, labels, strict=True) if has_text(text) and has_text(label)}
    )
    names = {label for label, _ in found}
    if len(names) < 2:
        given = f"the label {next(iter(names))!r} alone" if names else "no label"
        raise ColdStartError(
            f"{len(texts)} rows give {len(found)} different examples with both a text and a label, and {given}; give "
            "at least one example of each of two labels"
        )
    return tuple(found)


@dataclass(frozen=True)
class Learned:
    """What is learned from examples, without the encoder.

    Attributes:
        labels: L labels.
        vectors: (m, d) the vectors of the examples that span the kernel.
        spelling: their character n-grams, which turns texts into rows that can be compared with theirs.
        weights: (m, L) what the likeness to each of them says for each label.
        steepness: what a score is multiplied with before the softmax.
    """

    labels: tuple[str, ...]
    vectors: Vectors
    spelling: _Spelling
    weights: Matrix
    steepness: float

    def probabilities(self, vectors: Vectors, texts: Sequence[str]) -> Matrix:
        """(n, L) for texts and their (n, d) vectors."""
        scores = _kernel(vectors, self.vectors, self.spelling.shared(texts)) @ self.weights
        found: Matrix = _softmax(self.steepness * scores)
        return found


def learn(encoder: Encoder, examples: Sequence[tuple[str, str]]) -> Learned:
    """Learn from the result of `examples_of`.

    Ridge regression in the span of m of the examples: with K_mm their kernel and LLᵀ its Cholesky factor, an example
    has the m features φ = L⁻¹k, and the weights are L⁻ᵀ(ΦᵀWΦ + λI)⁻¹ΦᵀWY (Williams and Seeger 2000, Using the Nyström
    Method to Speed Up Kernel Machines, NIPS). Without the i-th example its scores would be (s_i - h_i·y_i)/(1 - h_i),
    h being the diagonal of the hat matrix (Rifkin and Lippert 2007, Notes on Regularized Least Squares).
    """
    labels = tuple(sorted({label for label, _ in examples}))
    column = {label: place for place, label in enumerate(labels)}
    texts = [label.replace("_", " ") for label in labels] + [text for _, text in examples]
    owner = np.array([*range(len(labels)), *(column[label] for label, _ in examples)], np.int64)
    weight = np.repeat([_NAME, 1.0], [len(labels), len(examples)])
    vectors = encoder.encode(texts)
    span = _spanning(owner)
    spelling = _Spelling([texts[row] for row in span])
    spanned = vectors[span]

    def features(rows: NDArray[np.int64]) -> Matrix:
        kernel = _kernel(vectors[rows], spanned, spelling.shared([texts[row] for row in rows]))
        found: Matrix = scipy.linalg.solve_triangular(factor, kernel.T, lower=True).T
        return found

    own = _kernel(spanned, spanned, spelling.shared([texts[row] for row in span]))
    factor = scipy.linalg.cholesky(own + 1e-6 * np.eye(len(span)), lower=True)
    gram, sums = _RIDGE * np.eye(len(span)), np.zeros((len(span), len(labels)))
    for part in _chunks(len(texts)):
        rows = np.arange(len(texts))[part]
        phi = features(rows)
        weighted = phi * weight[rows, None]
        gram += weighted.T @ phi
        sums += (_one_hot(owner[rows], len(labels)).T @ weighted).T
    solved = scipy.linalg.cho_factor(gram, lower=True)
    weights = scipy.linalg.cho_solve(solved, sums)
    rows = len(labels) + _spread(len(examples), _CALIBRATED)
    phi = features(rows)
    hat = (phi * scipy.linalg.cho_solve(solved, phi.T).T).sum(axis=1)
    scores = phi @ weights
    scores[np.arange(len(rows)), owner[rows]] -= hat
    scores /= (1 - hat)[:, None]
    return Learned(
        labels, spanned, spelling, scipy.linalg.solve_triangular(factor, weights, lower=True, trans="T"),
        _steepness(scores, owner[rows]),
    )  # fmt: skip


class _Spelling:
    """The character n-grams of some texts, and how many of them other texts share with each."""

    def __init__(self, texts: Sequence[str]) -> None:
        from sklearn.feature_extraction.text import TfidfVectorizer

        self._counter: Any = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4), sublinear_tf=True)
        try:
            self._known: Any = self._counter.fit_transform(texts).T.tocsr()
        except ValueError:  # no text has a character that counts
            self._known = None

    def shared(self, texts: Sequence[str]) -> Matrix:
        """(n, m) cosine of the n-grams of n texts and of the m known ones, weighted by tf·idf."""
        if self._known is None:
            return np.zeros((len(texts), 1))
        found: Matrix = (self._counter.transform(texts) @ self._known).toarray()
        return found


def _kernel(a: Vectors, b: Vectors, shared: Matrix) -> Matrix:
    """(n, m): 1 for equal texts, near 0 for those that have nothing in common."""
    x, y = a.astype(np.float64), b.astype(np.float64)
    squares = (x**2).sum(axis=1)[:, None] + (y**2).sum(axis=1) - 2 * x @ y.T
    found: Matrix = np.exp(-_SHARPNESS * np.maximum(squares, 0)) * (1 + _SPELLING * shared) / (1 + _SPELLING)
    return found


def _spanning(owner: NDArray[np.int64]) -> NDArray[np.int64]:
    """The rows that span the kernel: all, or of many the labels' names and as many examples of each as there is room."""
    if len(owner) <= _SPAN:
        return np.arange(len(owner))
    labels = int(owner.max()) + 1
    mixed = np.concatenate([np.arange(labels), labels + np.random.default_rng(0).permutation(len(owner) - labels)])
    order = mixed[np.argsort(owner[mixed], kind="stable")]
    turn = np.empty(len(owner), np.int64)
    starts = np.concatenate([[0], np.cumsum(np.bincount(owner))[:-1]])
    turn[order] = np.arange(len(owner)) - starts[owner[order]]
    return np.sort(np.lexsort((owner, turn))[:_SPAN])


def _spread(count: int, most: int) -> NDArray[np.int64]:
    """At most so many rows, at equal distances."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(np.int64))


def _steepness(scores: Matrix, owner: NDArray[np.int64]) -> float:
    """What the scores of examples, each left out, have to be multiplied with so that the softmax is right."""
    rows = np.arange(len(scores))

    def surprise(logarithm: float) -> float:
        scaled = np.exp(logarithm) * scores
        return float((scipy.special.logsumexp(scaled, axis=1) - scaled[rows, owner]).mean())

    found = scipy.optimize.minimize_scalar(surprise, bounds=(np.log(0.1), np.log(100.0)), method="bounded")
    return float(np.exp(found.x))


def _softmax(scores: Matrix) -> Matrix:
    found: Matrix = scipy.special.softmax(scores, axis=1)
    return found


def _one_hot(owner: NDArray[np.int64], labels: int) -> Any:
    return sp.csr_matrix((np.ones(len(owner)), (np.arange(len(owner)), owner)), (len(owner), labels))


def _chunks(count: int) -> Iterator[slice]:
    for start in range(0, count, _CHUNK):
        yield slice(start, start + _CHUNK)
