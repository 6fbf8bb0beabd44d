"""Labels from examples, in Python. The encoder is one of words, so that a reader can tell what is near what."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from coldstart_udfs.errors import ColdStartError
from coldstart_udfs.text import classify
from coldstart_udfs.text.classify import Choice, Classifier
from tests.support.encoders import WordEncoder

EXAMPLES = [
    ("where is my new card", "card_arrival"),
    ("my card did not come", "card_arrival"),
    ("the machine kept my card", "card_swallowed"),
    ("card stuck in the machine", "card_swallowed"),
    ("which rate for euros", "exchange_rate"),
    ("what is the rate today", "exchange_rate"),
]
ASKED = ["has my new card come", "stuck in a machine", "the rate for dollars", "nothing of this at all"]


def fitted(examples: list[tuple[str, str]]) -> Classifier:
    return Classifier.fit(WordEncoder(), [text for text, _ in examples], [label for _, label in examples])  # type: ignore[arg-type]


def labels_of(choices: list[Choice | None]) -> list[str | None]:
    return [choice.label if choice else "no text" for choice in choices]


def test_a_text_gets_the_label_of_the_examples_it_is_like() -> None:
    assert labels_of(fitted(EXAMPLES).predict(ASKED[:3])) == ["card_arrival", "card_swallowed", "exchange_rate"]


def test_the_words_of_a_labels_name_count() -> None:
    with_names = [("a b", "lost_luggage"), ("c d", "late_train")]
    without = [("a b", "x1"), ("c d", "x2")]
    assert labels_of(fitted(with_names).predict(["my luggage", "the train"])) == ["lost_luggage", "late_train"]
    certain, uncertain = (fitted(one).probabilities(["the train"]).max() for one in (with_names, without))
    assert certain > uncertain


def test_probabilities_add_up_to_one_less_what_has_none_of_the_labels() -> None:
    classifier = fitted(EXAMPLES)
    found = classifier.probabilities(ASKED)
    assert found.shape == (4, 3)
    assert classifier.labels == ("card_arrival", "card_swallowed", "exchange_rate")
    assert (found > 0).all()
    assert (found.sum(axis=1) < 1).all()
    # Of the text that is like no example, least is certain.
    assert found.sum(axis=1).argmin() == found.max(axis=1).argmin() == 3


def test_below_the_threshold_the_label_is_none_and_the_probability_told() -> None:
    classifier = fitted(EXAMPLES)
    always = classifier.predict(ASKED)
    least = always[3]
    assert least is not None
    assert least.label is not None
    some = classifier.predict(ASKED, threshold=least.probability + 1e-6)
    assert some[:3] == always[:3]
    assert some[3] == Choice(None, least.probability)
    assert classifier.predict(ASKED, threshold=least.probability) == always


def test_a_blank_text_has_no_label_and_no_probabilities() -> None:
    classifier = fitted(EXAMPLES)
    assert classifier.predict(["  ", ASKED[0], ""])[::2] == [None, None]
    assert np.isnan(classifier.probabilities(["", ASKED[0]])).all(axis=1).tolist() == [True, False]
    assert classifier.probabilities([]).shape == (0, 3)


@pytest.mark.parametrize("seed", range(5))
def test_neither_order_nor_repetition_of_examples_counts(seed: int) -> None:
    drawn = np.random.default_rng(seed)
    shuffled = [EXAMPLES[row] for row in drawn.permutation(len(EXAMPLES))] + [EXAMPLES[seed]] * 3
    assert np.array_equal(fitted(shuffled).probabilities(ASKED), fitted(EXAMPLES).probabilities(ASKED))


def test_a_text_alone_and_among_others_gets_the_same() -> None:
    classifier = fitted(EXAMPLES)
    together = classifier.probabilities(ASKED)
    assert np.concatenate([classifier.probabilities([text]) for text in ASKED]) == pytest.approx(together, abs=1e-9)


def test_rows_without_text_or_label_are_no_examples() -> None:
    more: list[tuple[str | None, str | None]] = [*EXAMPLES, (None, "card_arrival"), ("", "x"), ("y", None), ("z", " ")]
    found = Classifier.fit(WordEncoder(), [text for text, _ in more], [label for _, label in more])  # type: ignore[arg-type]
    assert np.array_equal(found.probabilities(ASKED), fitted(EXAMPLES).probabilities(ASKED))


def test_one_text_with_two_labels_is_neither_for_certain() -> None:
    found = fitted([("a lamp", "red"), ("a lamp", "blue"), ("a mug", "green")])
    red, blue, green = found.probabilities(["a lamp"])[0][[2, 0, 1]]
    assert red == pytest.approx(blue, abs=0.05)  # the words of the labels' names differ
    assert min(red, blue) > green


def test_examples_that_are_left_out_tell_how_sure_to_be() -> None:
    """Labels that follow from the words are given surely, labels by chance are not."""
    kinds = ["red crimson", "blue navy"]
    texts = [f"{kinds[row % 2]} thing {row}" for row in range(40)]
    by_chance = np.random.default_rng(0).permutation([row % 2 for row in range(40)])
    follows, chance = (
        fitted([(text, f"k{label}") for text, label in zip(texts, labels, strict=True)]).probabilities(kinds)
        for labels in ([row % 2 for row in range(40)], by_chance)
    )
    assert follows.max(axis=1).min() > 0.9
    assert chance.max(axis=1).mean() < 0.7


def test_leaving_out_is_as_learning_without(monkeypatch: pytest.MonkeyPatch) -> None:
    """The closed form, for an example and for a whole label, beside what is learned from the other rows."""
    held: dict[str, classify._Without] = {}
    real = classify._Calibration.fit

    def watched(without: classify._Without, labels: int) -> classify._Calibration:
        held["one"] = without
        return real(without, labels)

    monkeypatch.setattr(classify._Calibration, "fit", watched)
    examples = classify.examples_of(*zip(*EXAMPLES, strict=True))
    learned = classify.learn(WordEncoder(), examples)  # type: ignore[arg-type]
    texts = [classify.name_as_text(label) for label in learned.labels] + [text for _, text in examples]
    vectors = WordEncoder().encode(texts)
    kernel = classify._kernel(vectors, vectors, learned.spelling.shared(texts))
    owner = held["one"].owner
    noise = np.diag(np.where(np.arange(len(texts)) < 3, 0.3 / 2, 0.3))

    def scores(rows: np.ndarray, out: np.ndarray) -> np.ndarray:
        kept = np.setdiff1d(np.arange(len(texts)), out)
        inner = (kernel + noise)[np.ix_(kept, kept)]
        return kernel[np.ix_(rows, kept)] @ np.linalg.solve(inner, np.eye(3)[owner[kept]])

    for row in (3, 5, 8):
        rows = np.array([row])
        assert held["one"].example(rows) == pytest.approx(scores(rows, rows), abs=1e-4)
    for label in range(3):
        rows = np.flatnonzero(owner == label)
        assert held["one"].label(label) == pytest.approx(scores(rows, rows), abs=1e-4)


def test_of_many_examples_some_span_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(classify, "_SPAN", 60)
    words = [f"word{number}" for number in range(20)]
    texts = [f"{word} of number {number}" for word in words for number in range(10)]
    found = Classifier.fit(WordEncoder(), texts, [f"label {word}" for word in words for _ in range(10)])  # type: ignore[arg-type]
    assert labels_of(found.predict([f"a {word}" for word in words])) == [f"label {word}" for word in words]


def test_many_labels_with_one_example_each() -> None:
    words = [f"word{number}" for number in range(150)]
    found = Classifier.fit(WordEncoder(), [f"the {word}" for word in words], [f"label {word}" for word in words])  # type: ignore[arg-type]
    asked = words[::15]
    assert labels_of(found.predict([f"a {word}" for word in asked])) == [f"label {word}" for word in asked]


@pytest.mark.parametrize(
    ("texts", "labels", "message"),
    [
        ([], [], "0 rows give 0 different examples .* and no label; give at least one example of each of two labels"),
        (["a", "b", "a"], ["x"] * 3, "3 rows give 2 different examples .* and the label 'x' alone"),
        (["a", "b"], [None, None], "and no label"),
        (["a", "b"], ["x"], "2 texts and 1 labels; give one label for each text"),
    ],
)
def test_too_few_labels_are_an_error(texts: list[str], labels: list[str], message: str) -> None:
    with pytest.raises(ColdStartError, match=message):
        Classifier.fit(WordEncoder(), texts, labels)  # type: ignore[arg-type]


@pytest.mark.parametrize("threshold", [-0.1, 1.1, float("nan")])
def test_a_threshold_is_a_probability(threshold: float) -> None:
    with pytest.raises(ColdStartError, match="it is a probability from 0 to 1"):
        fitted(EXAMPLES).predict(ASKED, threshold=threshold)


def test_texts_without_a_character_that_counts() -> None:
    found = fitted([("?", "!"), ("¿", "¡")])
    assert len(found.probabilities(["?", "a"])) == 2


@pytest.mark.parametrize(
    ("texts", "labels", "said"),
    [
        ("a text", ["x", "y"], "texts is a single string; give a list"),
        (["a", "b"], "xy", "labels is a single string; give a list"),
        (["a", "b"], [0, 1], r"labels\[0\] is 0 \(int\); labels are texts, such as '1'"),
        (["a", b"b"], ["x", "y"], r"texts\[1\] is b'b' \(bytes\)"),
    ],
)
def test_what_is_no_text_is_an_error_and_not_left_out(texts: Any, labels: Any, said: str) -> None:
    with pytest.raises(ColdStartError, match=said):
        Classifier.fit(WordEncoder(), texts, labels)  # type: ignore[arg-type]


def test_missing_values_of_pandas_are_no_examples_and_a_single_string_is_no_list() -> None:
    classifier = fitted([*EXAMPLES, ("no label", math.nan), (math.nan, "no_text")])  # type: ignore[list-item]
    assert classifier.labels == fitted(EXAMPLES).labels
    assert classifier.predict([math.nan, "which rate"])[0] is None  # type: ignore[list-item]
    with pytest.raises(ColdStartError, match="texts is a single string; give a list"):
        classifier.predict("which rate")
