"""Labels for texts from a few examples of each: intents of a help desk, categories of a shop, topics of a forum.

A label's examples are its texts and its own name, "card_arrival" read as "card arrival". Kernel ridge regression on all
examples gives a text one score for each label. Two numbers turn scores into probabilities. They are found on the
examples themselves, each left out in turn, and on the examples of whole labels left out in turn, which tell what texts
look like that have none of the labels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import scipy.linalg
import scipy.optimize
import scipy.sparse as sp
from numpy.typing import NDArray

from coldstart_udfs.encoder.encoder import Encoder
from coldstart_udfs.errors import ColdStartError
from coldstart_udfs.profile import Vectors, has_text
from coldstart_udfs.text.examples import examples_of, texts_of

# Chosen on draws of the training parts of three data sets (docs/explanation/classification.md). The kernel of two texts
# is (exp(s·c) - 1)/(exp(s) - 1), c being the cosine of their vectors and s _SHARPNESS, plus _SPELLING times the cosine
# of their character n-grams.
_SHARPNESS = 3.0
_SPELLING = 0.15
_RIDGE = 0.3
# What a label's name counts beside one example.
_NAME = 2.0
# The kernel is spanned by at most this many examples (Nyström), so that time and memory are linear in the others.
_SPAN = 3_000
_JITTER = 1e-6  # for equal texts, which have equal rows in the kernel
# Probabilities are calibrated on at most this many examples, and on at most this many scores of examples.
_CALIBRATED_ROWS, _CALIBRATED = 1_000, 500_000
# Labels of more examples are not left out as a whole: it would take long, and they say little of what is unknown.
_LEFT_OUT = 1_000
# ε of `_Calibration`.
_LEAST_SCORE = 0.03
# The share of texts that are assumed to have none of the labels.
_UNKNOWN = 0.05
# b and t where there are few examples, and the standard deviation of their logarithms.
_USUAL, _USUAL_SPREAD = (3.0, 0.15), 0.5
_CHUNK = 2_048

Matrix = NDArray[np.float64]
Rows = NDArray[np.int64]


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
            ColdStartError: there are not as many texts as labels, one is a number, or there are no two labels.

        >>> encoder = Encoder(cache=False)
        >>> texts = ["where is my card", "the cash machine kept my card", "which rate do you use for euros?"]
        >>> classifier = Classifier.fit(encoder, texts, ["card_arrival", "card_swallowed", "exchange_rate"])
        >>> [choice.label for choice in classifier.predict(["has my new card been sent?", "the ATM ate it"])]
        ['card_arrival', 'card_swallowed']
        """
        return cls(encoder, learn(encoder, examples_of(texts, labels)))

    def probabilities(self, texts: Sequence[str]) -> Matrix:
        """The probability of each label.

        Args:
            texts: n texts.

        Returns:
            (n, labels); what a row lacks to 1 is the probability that the text has none of the labels. The row of a
            blank text is NaN.

        Raises:
            ColdStartError: `texts` is a single string, or one is a number.
        """
        texts = texts_of(texts, "texts")
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
            ColdStartError: the threshold is no probability, or as `probabilities`.
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
        raise ColdStartError(f"threshold is {threshold}; it is a probability from 0 to 1, or NULL for none")
    return float(threshold)


@dataclass(frozen=True)
class Learned:
    """What is learned from examples, without the encoder.

    Attributes:
        labels: L labels.
        vectors: (m, d) the vectors of the examples that span the kernel.
        spelling: their character n-grams, with which those of other texts are compared.
        weights: (m, L) what the likeness to each of them says for each label.
        calibration: turns scores into probabilities.
    """

    labels: tuple[str, ...]
    vectors: Vectors
    spelling: _Spelling
    weights: Matrix
    calibration: _Calibration

    def probabilities(self, vectors: Vectors, texts: Sequence[str]) -> Matrix:
        """(n, L) for texts and their (n, d) vectors."""
        scores: Matrix = _kernel(vectors, self.vectors, self.spelling.shared(texts)) @ self.weights
        return self.calibration.probabilities(scores)


class Encoding(Protocol):
    """What makes vectors: an `Encoder`, or vectors that are known already."""

    def encode(self, texts: Sequence[str]) -> Vectors:
        """(n, d) rows of length 1."""
        ...


def name_as_text(label: str) -> str:
    """The words of a label's name."""
    return label.replace("_", " ")


def learn(encoder: Encoding, examples: Sequence[tuple[str, str]]) -> Learned:
    """Learn from the result of `examples_of`.

    Ridge regression in the span of m of the examples: with K the kernel of these and LLᵀ its Cholesky factor, a text
    whose kernel with them is k has the m features φ = L⁻¹k, and the weights are L⁻ᵀ(ΦᵀWΦ + λI)⁻¹ΦᵀWY (Williams and
    Seeger 2000, Using the Nyström Method to Speed Up Kernel Machines, NIPS).
    """
    labels = tuple(sorted({label for label, _ in examples}))
    column = {label: place for place, label in enumerate(labels)}
    texts = [*map(name_as_text, labels), *(text for _, text in examples)]
    owner = np.array([*range(len(labels)), *(column[label] for label, _ in examples)], np.int64)
    weight = np.repeat([_NAME, 1.0], [len(labels), len(examples)])
    vectors = encoder.encode(texts)
    span = _spanning(owner)
    spelling = _Spelling([texts[row] for row in span])
    factor = scipy.linalg.cholesky(
        _kernel(vectors[span], vectors[span], spelling.shared([texts[row] for row in span]))
        + _JITTER * np.eye(len(span)), lower=True,
    )  # fmt: skip

    def features(rows: Rows) -> Matrix:
        kernel = _kernel(vectors[rows], vectors[span], spelling.shared([texts[row] for row in rows]))
        found: Matrix = scipy.linalg.solve_triangular(factor, kernel.T, lower=True).T
        return found

    gram, sums = _RIDGE * np.eye(len(span)), np.zeros((len(span), len(labels)))
    for part in _chunks(len(texts)):
        rows = np.arange(len(texts))[part]
        phi = features(rows)
        weighted = phi * weight[rows, None]
        gram += weighted.T @ phi
        sums += (_one_hot(owner[rows], len(labels)).T @ weighted).T
    solver = scipy.linalg.cho_factor(gram, lower=True)
    weights = scipy.linalg.cho_solve(solver, sums)
    without = _Without(features, weight, owner, solver, weights)
    return Learned(
        labels, vectors[span], spelling, scipy.linalg.solve_triangular(factor, weights, lower=True, trans="T"),
        _Calibration.fit(without, len(labels)),
    )  # fmt: skip


class _Without:
    """The scores that examples would have if they were not there, without learning again.

    With H the hat matrix and G the rows that are left out, their scores are (I - H_GG)⁻¹(s_G - H_GG·Y_G) (Rifkin and
    Lippert 2007, Notes on Regularized Least Squares, MIT-CSAIL-TR-2007-025).
    """

    def __init__(
        self, features: Callable[[Rows], Matrix], weight: Matrix, owner: Rows, solver: Any, weights: Matrix
    ) -> None:
        self._features, self._weight, self.owner = features, weight, owner
        self._solver, self._weights = solver, weights

    def example(self, rows: Rows) -> Matrix:
        """(k, L) for each of these rows without itself."""
        phi = self._features(rows)
        hat = (phi * scipy.linalg.cho_solve(self._solver, phi.T).T).sum(axis=1) * self._weight[rows]
        scores: Matrix = phi @ self._weights
        scores[np.arange(len(rows)), self.owner[rows]] -= hat
        scores /= (1 - hat)[:, None]
        return scores

    def label(self, label: int) -> Matrix:
        """(k, L) for the rows of a label without any of them: as if the label were not known."""
        rows = np.flatnonzero(self.owner == label)
        phi = self._features(rows)
        hat = phi @ scipy.linalg.cho_solve(self._solver, phi.T) * self._weight[rows]
        scores: Matrix = phi @ self._weights
        scores[:, label] -= hat.sum(axis=1)
        found: Matrix = np.linalg.solve(np.eye(len(rows)) - hat, scores)
        return found


@dataclass(frozen=True)
class _Calibration:
    """From scores to probabilities: (max(s_j, 0) + ε)^b, divided by their sum over the labels and t^b.

    Attributes:
        power: b.
        unknown: t, the score with which "none of these" takes part; 0 without it.
    """

    power: float
    unknown: float

    def probabilities(self, scores: Matrix) -> Matrix:
        """(n, L) for scores of the same shape."""
        found: Matrix = np.exp(self._logarithms(scores)[0])
        return found

    @classmethod
    def fit(cls, without: _Without, labels: int) -> _Calibration:
        """The two numbers that make the right answer likeliest.

        It is the own label for examples each of which is left out, and for examples whose whole label is left out, that
        they are none of the others. Where there are few examples, both numbers stay near those of larger sets.
        """
        most = max(min(_CALIBRATED_ROWS, _CALIBRATED // labels), 100)
        rows = labels + _spread(len(without.owner) - labels, most)
        known, own = without.example(rows), without.owner[rows]
        sizes = np.bincount(without.owner)
        small = np.flatnonzero(sizes <= _LEFT_OUT)
        strange = None
        if len(small):
            few = small[_spread(len(small), max(1, int(most / sizes[small].mean())))]
            # The first row of a label is its name.
            strange = np.concatenate([without.label(int(label))[1:] for label in few])

        def surprise(given: NDArray[np.float64]) -> float:
            one = cls(float(np.exp(given[0])), float(np.exp(given[1])) if strange is not None else 0.0)
            loss = -one._logarithms(known)[0][np.arange(len(own)), own].mean()
            if strange is not None:
                loss = (1 - _UNKNOWN) * loss - _UNKNOWN * one._logarithms(strange)[1].mean()
            return float(loss + (((given - usual) / _USUAL_SPREAD) ** 2).sum() / (2 * len(rows)))

        usual = np.log(_USUAL)
        found = scipy.optimize.minimize(surprise, usual, method="Nelder-Mead", options={"maxiter": 200}).x
        return cls(float(np.exp(found[0])), float(np.exp(found[1])) if strange is not None else 0.0)

    def _logarithms(self, scores: Matrix) -> tuple[Matrix, Matrix]:
        """(n, L) logarithms of the labels' probabilities, and (n,) of that of none of them."""
        logits = self.power * np.log(np.maximum(scores, 0) + _LEAST_SCORE)
        none = self.power * np.log(self.unknown) if self.unknown else -np.inf
        highest = np.maximum(logits.max(axis=1), none)
        total = highest + np.log(np.exp(logits - highest[:, None]).sum(axis=1) + np.exp(none - highest))
        return logits - total[:, None], none - total


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
    """(n, m): how alike texts are: 1 + _SPELLING for equal ones, 0 for those that have nothing in common."""
    cosines = a.astype(np.float64) @ b.astype(np.float64).T
    found: Matrix = np.expm1(_SHARPNESS * cosines) / np.expm1(_SHARPNESS) + _SPELLING * shared
    return found


def _spanning(owner: Rows) -> Rows:
    """The rows that span the kernel: all, or of many the labels' names and as many examples of each as fit in."""
    if len(owner) <= _SPAN:
        return np.arange(len(owner))
    labels = int(owner.max()) + 1
    mixed = np.concatenate([np.arange(labels), labels + np.random.default_rng(0).permutation(len(owner) - labels)])
    order = mixed[np.argsort(owner[mixed], kind="stable")]
    turn = np.empty(len(owner), np.int64)
    starts = np.concatenate([[0], np.cumsum(np.bincount(owner))[:-1]])
    turn[order] = np.arange(len(owner)) - starts[owner[order]]
    return np.sort(np.lexsort((owner, turn))[:_SPAN])


def _spread(count: int, most: int) -> Rows:
    """At most so many rows, at equal distances."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(np.int64))


def _one_hot(owner: Rows, labels: int) -> Any:
    return sp.csr_matrix((np.ones(len(owner)), (np.arange(len(owner)), owner)), (len(owner), labels))


def _chunks(count: int) -> Iterator[slice]:
    for start in range(0, count, _CHUNK):
        yield slice(start, start + _CHUNK)
