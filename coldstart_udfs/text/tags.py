"""Tags for product texts: zero-shot from the encoder, combined with word matches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from coldstart_udfs.encoder.derived import sample_descriptions
from coldstart_udfs.encoder.encoder import Encoder
from coldstart_udfs.encoder.tuning.parents import base_of
from coldstart_udfs.profile import Vectors, band, has_text
from coldstart_udfs.text.entities import stated_price
from coldstart_udfs.text.vocabulary import WORDS, mentions, singular
from coldstart_udfs.text.words import tokens

PRICE = "price"

# logit(score) = bias + word·(a word matches) + cosine·z, where z is the cosine of text and label in standard deviations
# above the mean of ordinary product texts. Fitted by logistic regression on the half of tests/data/tagged_texts.jsonl
# that `make bench-text` does not report on; audiences, of which that half has few, take the weights of colours.
_WEIGHTS = {
    "colour": (-5.6, 6.8, 0.9),
    "material": (-5.6, 6.8, 0.9),
    "audience": (-5.6, 6.8, 0.9),
    "style": (-5.2, 6.1, 0.9),
    "occasion": (-5.2, 6.1, 0.9),
}
_OWN_LABELS = (-4.3, 4.4, 0.85)
# Below 0.5 a label is more likely wrong than right. For labels of the caller the threshold is lower, because only their
# own words can match and the caller can filter by score.
_THRESHOLD, _OWN_THRESHOLD = 0.5, 0.2
# The mean cosine of a text and all labels is at least this, in the same deviations. Texts in another language than the
# ordinary ones are far from every label: for Chinese under the encoder `multilingual`, the mean is -2.3.
_LEAST_MEAN = -1.0
# Beside a word that matches, a cosine counts at least this, in the same deviations: a word is enough in every language.
_LEAST_BESIDE_A_WORD = -0.9


@dataclass(frozen=True)
class Tag:
    """A label for a text.

    Attributes:
        label: "red", "metal", …; for a price its band, such as "2^3" for 8 up to 16.
        group: "colour", "material", "audience", "style", "occasion", "price"; None for the caller's labels.
        score: estimated probability that the label is right: 0.5 to 1, for the caller's labels 0.2 to 1.
    """

    label: str
    group: str | None
    score: float


class Tagger:
    """Tags texts with one set of labels.

    Args:
        encoder: the encoder for texts, labels, and a sample of ordinary product texts to compare with. Of a tuned one,
            whose similarities are not those of meanings, the encoder that it was tuned from.
        labels: labels of one or a few words; None for colour, material, audience, style, occasion and price
            band.
    """

    def __init__(self, encoder: Encoder, labels: Sequence[str] | None = None) -> None:
        self._encoder = base_of(encoder)
        if labels is None:
            self._labels: list[tuple[str | None, str]] = [(group, label) for group in WORDS for label in WORDS[group]]
        else:
            self._labels = [(None, label) for label in dict.fromkeys(labels) if has_text(label)]
        self._own = labels is not None
        weights = [_OWN_LABELS if group is None else _WEIGHTS[group] for group, _ in self._labels]
        self._bias, self._word, self._cosine = np.array(weights).reshape(-1, 3).T

    def tag(self, texts: Sequence[str], language: str | None = None) -> list[list[Tag]]:
        """The tags of each text, likeliest first.

        A word match is sufficient for a label; without one the cosine must be high. The price band is that of the last
        price in the text, named as in the attribute "price=2^3" of `coldstart ingest`.

        Args:
            texts: product texts.
            language: an ISO 639-1 code, as in `entities`; for labels of the caller as in `tokens`. By default each text
                tells.

        Raises:
            ColdStartError: the language is not known.
        """
        result = self._chosen(self.scores(texts, language))
        for text, tags in zip(texts, result, strict=True):
            if not self._own and (price := stated_price(text)):
                tags.append(Tag(band(price), PRICE, 1.0))
            tags.sort(key=_order)
        return result

    def tag_vectors(self, vectors: Vectors) -> list[list[Tag]]:
        """The tags of vectors in the space of texts, such as those of pictures, likeliest first.

        There are no words that could match, so that only what is clearly near a label gets it.

        Args:
            vectors: (n, dimensions) float32, of any length; a zero vector, or one with NaN or infinity, has no tags.
        """
        vectors = _unit(vectors)
        (prototypes, _, _), ordinary = self._prototypes, self._ordinary
        mean = ordinary.mean(axis=0)
        # Both are directions from the mean text.
        centred = ordinary - mean
        centred /= np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-12)
        usual = centred @ prototypes.T
        z = (vectors @ prototypes.T - usual.mean(axis=0)) / np.maximum(usual.std(axis=0), 1e-6)
        scores = 1 / (1 + np.exp(-(self._bias + self._cosine * z)))
        scores[~vectors.any(axis=1)] = 0
        result = self._chosen(scores)
        for tags in result:
            tags.sort(key=_order)
        return result

    def _chosen(self, scores: NDArray[np.float64]) -> list[list[Tag]]:
        result: list[list[Tag]] = [[] for _ in scores]
        rows, columns = np.nonzero(scores >= (_OWN_THRESHOLD if self._own else _THRESHOLD))
        for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
            group, label = self._labels[column]
            result[row].append(Tag(label, group, round(float(scores[row, column]), 3)))
        return result

    def scores(self, texts: Sequence[str], language: str | None = None) -> NDArray[np.float64]:
        """(n texts, labels) scores from 0 to 1; the language as in `tag`."""
        if not texts or not self._labels:
            return np.zeros((len(texts), len(self._labels)))
        z, matches = self.similarities(texts), self.matches(texts, language)
        if not self._own:
            z = np.where(matches, np.maximum(z, _LEAST_BESIDE_A_WORD), z)
        logits = self._bias + self._word * matches + self._cosine * z
        scores: NDArray[np.float64] = 1 / (1 + np.exp(-logits))
        return scores

    def similarities(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """(n, labels) cosine of text and label, in standard deviations above the mean of ordinary product texts.

        If a text is far from all labels, as in another language, its row is raised until its mean is -1.
        """
        prototypes, mean, deviation = self._prototypes
        z: NDArray[np.float64] = (self._encoder.encode(texts).astype(np.float64) @ prototypes.T - mean) / deviation
        if not self._own:
            z += np.maximum(_LEAST_MEAN - z.mean(axis=1, keepdims=True), 0)
        return z

    def matches(self, texts: Sequence[str], language: str | None = None) -> NDArray[np.bool_]:
        """(n, labels) whether a word of the text matches the label; the language as in `tag`."""
        found = np.zeros((len(texts), len(self._labels)), dtype=bool)
        columns = {label: column for column, label in enumerate(self._labels)}
        if not self._own:
            for row, text in enumerate(texts):
                for one in mentions(text, language):
                    found[row, columns[one.group, one.label]] = True
            return found
        wanted = [set(map(singular, tokens(label, language))) for _, label in self._labels]
        for row, text in enumerate(texts):
            words = set(map(singular, tokens(text, language)))
            found[row] = [bool(label) and label <= words for label in wanted]
        return found

    @cached_property
    def _prototypes(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        phrases = [label if group is None else _phrase(group, label) for group, label in self._labels]
        prototypes = self._encoder.encode(phrases, prompt="query").astype(np.float64)
        ordinary = self._ordinary @ prototypes.T
        return prototypes, ordinary.mean(axis=0), np.maximum(ordinary.std(axis=0), 1e-6)

    @cached_property
    def _ordinary(self) -> NDArray[np.float64]:
        """The vectors of ordinary product texts."""
        return self._encoder.encode(sample_descriptions()).astype(np.float64)


def _unit(vectors: Vectors) -> Vectors:
    """The vectors with length 1; zero where there is none."""
    given = np.where(np.isfinite(vectors).all(axis=1, keepdims=True), vectors, 0).astype(np.float64)
    lengths = np.linalg.norm(given, axis=1, keepdims=True)
    found = np.divide(given, lengths, out=np.zeros_like(given), where=lengths > 1e-15)
    return np.asarray(found, dtype=np.float32)


def _order(tag: Tag) -> tuple[float, str, str]:
    return -tag.score, tag.group or "", tag.label


def _phrase(group: str, label: str) -> str:
    """The text encoded for a label: the label with its most common words, since "bath" alone is ambiguous."""
    words = [word.replace("_", " ") for word in WORDS[group][label].split()[:4]]
    return f"{label}: {', '.join(words)}"
