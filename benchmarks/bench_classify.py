"""Labels from a few examples: how often they are right, and how far their probabilities can be trusted.

`make bench-classify DATA=folder` writes its sections of docs/explanation/classification.md. A draw takes so many
examples of each label from the training part; all methods get the same ones. Nothing was chosen on the tests: the
settings of `classify()` come from the training parts, and C of the logistic regressions from three folds of the
examples of the first draw.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeAlias

import duckdb
import numpy as np
from bench_recommender_setup import told
from common import EXPLANATION, made_by, table, write_between
from numpy.typing import NDArray

from coldstart_udfs import Encoder
from coldstart_udfs.text.classify import Classifier
from coldstart_udfs.text.label_tuning import tune_for_labels
from recommender.measure.intervals import intervals

SHOTS = (1, 3, 5, 10)
METHODS = ("classify()", "logistic regression", "nearest example", "TF-IDF, logistic regression")
STRENGTHS = (1.0, 10.0, 100.0)
THRESHOLDS = (0.0, 0.3, 0.5, 0.7, 0.9)

Rows: TypeAlias = NDArray[np.int64]
Matrix: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True)
class Texts:
    """Texts with their labels and vectors.

    Attributes:
        texts: n texts.
        labels: (n,) their labels.
        vectors: (n, d) under the default encoder.
    """

    texts: NDArray[Any]
    labels: NDArray[Any]
    vectors: NDArray[np.float32]

    def take(self, rows: Rows) -> Texts:
        """Some of them."""
        return Texts(self.texts[rows], self.labels[rows], self.vectors[rows])


# (n, labels) probabilities for texts, after learning from examples; the labels in alphabetical order.
Learner: TypeAlias = Callable[[Texts], Callable[[Texts], Matrix]]


def main() -> None:
    """Measure the data sets one by one; the section of each is written when it is done."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", type=Path, required=True, help="contains banking77 and clinc150")
    parser.add_argument("--sets", nargs="*", default=["banking77", "clinc150", "tuned"])
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--processes", type=int, default=1, help="draws that are tuned at a time")
    given = parser.parse_args()
    encoder = Encoder()
    for name in given.sets:
        if name == "tuned":
            about, lines = tuned(given.data_dir, given.draws, given.processes)
        else:
            about, lines = {"banking77": banking, "clinc150": clinc}[name](encoder, given.data_dir, given.draws)
        print("\n".join(lines), flush=True)
        text = made_by("make bench-classify DATA=folder", about, ("numpy", "scikit-learn", "scipy"))
        write_between(EXPLANATION / "classification.md", f"bench-classify {name}", "\n".join([text, "", *lines]))


def banking(encoder: Encoder, folder: Path, draws: int) -> tuple[str, list[str]]:
    """Accuracy by number of examples, on the whole test part."""
    query = "SELECT text, category FROM read_parquet(?)"
    train = read(encoder, query, folder / "banking77" / "train.parquet")
    test = read(encoder, query, folder / "banking77" / "test.parquet")
    rows = []
    for shots in SHOTS:
        learners = methods(encoder, train, shots)
        right: dict[str, list[Matrix]] = {name: [] for name in learners}
        for seed in range(draws):
            examples = train.take(drawn(train.labels, shots, seed))
            names = np.unique(examples.labels)
            for name, learner in learners.items():
                found = names[learner(examples)(test).argmax(axis=1)]
                right[name].append((found == test.labels).astype(np.float64))
            told(f"banking77, {shots} examples, draw {seed}: "
                 + ", ".join(f"{name} {values[-1].mean():.3f}" for name, values in right.items()))  # fmt: skip
        rows += compared(shots, right)
    about = (
        f"The whole test part of banking77 (77 intents, {len(test.texts):,} questions), {draws} draws. Intervals are "
        "95 %, with draws and questions as sources of chance."
    )
    head = ("examples of a label", "method", "accuracy", "lowest, highest draw", "classify() is better by")
    return about, table(head, rows)


def compared(shots: int, right: dict[str, list[Matrix]]) -> list[tuple[str, ...]]:
    """One row for each method: accuracy, and how much better the first one is."""
    first = next(iter(right))
    ours = np.array(right[first])
    rows: list[tuple[str, ...]] = []
    questions, draws = np.tile(np.arange(ours.shape[1]), len(ours)), np.repeat(np.arange(len(ours)), ours.shape[1])
    for name, values in right.items():
        own = np.array(values)
        by_draw = own.mean(axis=1)
        against = ""
        if name != first:
            low, high = intervals((ours - own).reshape(-1, 1), questions, draws)[0]
            against = f"{(ours - own).mean():+.3f} ({low:+.3f} to {high:+.3f})"
        rows.append((str(shots), name, f"{own.mean():.3f}", f"{by_draw.min():.3f}, {by_draw.max():.3f}", against))
    return rows


def clinc(encoder: Encoder, folder: Path, draws: int) -> tuple[str, list[str]]:
    """Accuracy in scope, calibration, and how well what is out of scope is told apart."""
    query = "SELECT text, intent FROM read_parquet(?) WHERE split = '{}'"
    train, test, strange = (
        read(encoder, query.format(split), folder / "clinc150" / "queries.parquet")
        for split in ("train", "test", "oos_test")
    )
    rows, curve = [], []
    for shots in (10, 100):
        learners = {name: learner for name, learner in methods(encoder, train, min(shots, 10)).items()
                    if name in METHODS[:2]}  # fmt: skip
        for name, learner in learners.items():
            figures = []
            for seed in range(draws if shots < 100 else 1):
                examples = train.take(drawn(train.labels, shots, seed))
                labels, probabilities = np.unique(examples.labels), learner(examples)
                inside, outside = probabilities(test), probabilities(strange).max(axis=1)
                right = labels[inside.argmax(axis=1)] == test.labels
                figures.append(told_apart(inside.max(axis=1), right, outside))
                told(f"clinc150, {shots} examples, {name}, draw {seed}: {np.round(figures[-1], 3).tolist()}")
                if name == METHODS[0] and shots == 10 and seed == 0:
                    curve = abstained(inside.max(axis=1), right, outside)
            low, high = np.min(figures, axis=0), np.max(figures, axis=0)
            rows.append((
                str(shots), name,
                *(f"{mean:.3f}" + (f" ({a:.3f} to {b:.3f})" if len(figures) > 1 else "")
                  for mean, a, b in zip(np.mean(figures, axis=0), low, high, strict=True)),
            ))  # fmt: skip
    about = (
        f"The test part of clinc150 (150 intents, {len(test.texts):,} requests) and its {len(strange.texts):,} "
        f"requests that are out of scope, of which no method saw any before. {draws} draws of 10 examples, with the "
        "lowest and the highest draw in brackets; 100 examples are all there are."
    )
    head = ("examples of a label", "method", "accuracy in scope", "expected calibration error",
            "AUROC, in or out of scope", "out-of-scope recall, 95 % of the labelled in scope",
            "out-of-scope recall, 95 % of the labels right")  # fmt: skip
    second = ("threshold", "requests in scope with a label", "of these right", "out of scope without a label")
    return about, [*table(head, rows), "", "The first draw of 10 examples, by threshold:", "", *table(second, curve)]


def told_apart(inside: Matrix, right: NDArray[np.bool_], outside: Matrix) -> tuple[float, ...]:
    """Accuracy, expected calibration error (ten bins), AUROC, and twice the recall of what is out of scope.

    The recalls are those at the lowest threshold at which, of all texts that get a label, 95 % are in scope, or 95 %
    get the right one.
    """
    from sklearn.metrics import roc_auc_score

    bins = np.minimum((inside * 10).astype(int), 9)
    error = sum(abs(inside[bins == one].mean() - right[bins == one].mean()) * (bins == one).mean()
                for one in np.unique(bins))  # fmt: skip
    scores, known = np.concatenate([inside, outside]), np.repeat([True, False], [len(inside), len(outside)])
    order = np.argsort(-scores, kind="stable")
    recalls = []
    for good in (known, np.concatenate([right, np.zeros(len(outside), bool)])):
        precise = np.flatnonzero(np.cumsum(good[order]) / np.arange(1, len(order) + 1) >= 0.95)
        threshold = scores[order][precise[-1]] if len(precise) else np.inf
        recalls.append(float((outside < threshold).mean()))
    return float(right.mean()), float(error), float(roc_auc_score(known, scores)), *recalls


def abstained(inside: Matrix, right: NDArray[np.bool_], outside: Matrix) -> list[tuple[str, ...]]:
    """What thresholds cost and spare."""
    rows: list[tuple[str, ...]] = []
    for threshold in THRESHOLDS:
        kept = inside >= threshold
        rows.append((f"{threshold:.1f}", f"{kept.mean():.3f}", f"{right[kept].mean():.3f}",
                     f"{(outside < threshold).mean():.3f}"))  # fmt: skip
    return rows


def tuned(folder: Path, draws: int, processes: int) -> tuple[str, list[str]]:
    """What `coldstart encoder tune-labels` adds at ten examples of a label."""
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        found = list(pool.map(tuned_draw, [folder] * draws, range(draws)))
    right = {name: [one[name] for one, _ in found] for name in found[0][0]}
    rows = compared(10, right)
    questions = len(found[0][0]["classify()"])
    about = (
        f"Ten examples of each of banking77's labels, {draws} draws, the whole test part ({questions:,} questions). "
        "Intervals are 95 %, with draws and questions as sources of chance. All examples of a draw but the fifth that "
        f"the command holds out are learned from: {np.median([seconds for _, seconds in found]):.0f} s of steps "
        f"(median, on a machine that did other things too)."
    )
    head = ("examples of a label", "method", "accuracy", "lowest, highest draw", "the tuned one is better by")
    return about, table(head, rows)


def tuned_draw(folder: Path, seed: int) -> tuple[dict[str, Matrix], float]:
    """One draw: by method, whether each question got the right label; and seconds of tuning."""
    encoder, query = Encoder(), "SELECT text, category FROM read_parquet(?)"
    train = read(encoder, query, folder / "banking77" / "train.parquet")
    test = read(encoder, query, folder / "banking77" / "test.parquet")
    examples = train.take(drawn(train.labels, 10, seed))
    with TemporaryDirectory() as place:
        out = Path(place) / "model"
        seconds = tune_for_labels(None, examples.texts.tolist(), examples.labels.tolist(), out).seconds
        other = Encoder(out, backend="torch", cache=False)
        found = {
            "classify(), tuned encoder": ours(other, examples)(test), "classify()": ours(encoder, examples)(test),
            "logistic regression": methods(encoder, train, 10)[METHODS[1]](examples)(test),
        }  # fmt: skip
    labels = np.unique(examples.labels)
    right = {name: (labels[one.argmax(axis=1)] == test.labels).astype(np.float64) for name, one in found.items()}
    told(f"banking77, draw {seed}: " + ", ".join(f"{name} {one.mean():.3f}" for name, one in right.items()))
    return right, seconds


def methods(encoder: Encoder, train: Texts, shots: int) -> dict[str, Learner]:
    """The methods that are compared, by name."""
    first = train.take(drawn(train.labels, shots, 0))
    return {
        METHODS[0]: lambda examples: ours(encoder, examples),
        METHODS[1]: chosen(first, shots, logistic),
        METHODS[2]: nearest,
        METHODS[3]: chosen(first, shots, words),
    }


def ours(encoder: Encoder, examples: Texts) -> Callable[[Texts], Matrix]:
    """`Classifier`, as SQL has it."""
    classifier = Classifier.fit(encoder, examples.texts.tolist(), examples.labels.tolist())
    return lambda asked: classifier.probabilities(asked.texts.tolist())


def nearest(examples: Texts) -> Callable[[Texts], Matrix]:
    """The label of the example with the highest cosine."""
    names = np.unique(examples.labels)

    def scores(asked: Texts) -> Matrix:
        cosines = asked.vectors @ examples.vectors.T
        return np.stack([cosines[:, examples.labels == name].max(axis=1) for name in names], axis=1)

    return scores


def logistic(strength: float, examples: Texts) -> Callable[[Texts], Matrix]:
    """Logistic regression on the vectors."""
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=strength, max_iter=300).fit(examples.vectors, examples.labels)
    return lambda asked: np.asarray(model.predict_proba(asked.vectors))


def words(strength: float, examples: Texts) -> Callable[[Texts], Matrix]:
    """Logistic regression on words and pairs of words."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    counter = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    model = LogisticRegression(C=strength, max_iter=300).fit(counter.fit_transform(examples.texts), examples.labels)
    return lambda asked: np.asarray(model.predict_proba(counter.transform(asked.texts)))


def chosen(first: Texts, shots: int, learn: Callable[[float, Texts], Callable[[Texts], Matrix]]) -> Learner:
    """The learner with the C that is right most often on three folds; with one example, in the middle."""
    if shots < 3:
        return lambda examples: learn(STRENGTHS[1], examples)
    names = np.unique(first.labels)
    turn = np.concatenate([np.arange((first.labels == name).sum()) for name in names])
    right = {}
    for strength in STRENGTHS:
        folds = []
        for fold in range(3):
            found = learn(strength, first.take(np.flatnonzero(turn % 3 != fold)))
            asked = first.take(np.flatnonzero(turn % 3 == fold))
            folds.append((names[found(asked).argmax(axis=1)] == asked.labels).mean())
        right[strength] = np.mean(folds)
    best = max(STRENGTHS, key=lambda strength: right[strength])
    return lambda examples: learn(best, examples)


def drawn(labels: NDArray[Any], shots: int, seed: int) -> Rows:
    """So many rows of each label, in alphabetical order of the labels."""
    rng = np.random.default_rng(seed)
    return np.concatenate([
        rng.choice(rows, min(shots, len(rows)), replace=False)
        for rows in (np.flatnonzero(labels == name) for name in np.unique(labels))
    ])  # fmt: skip


def read(encoder: Encoder, query: str, path: Path) -> Texts:
    """Texts and labels of a query."""
    with duckdb.connect() as con:
        rows: Sequence[tuple[str, str]] = con.execute(query, [str(path)]).fetchall()
    texts = [text for text, _ in rows]
    return Texts(np.array(texts), np.array([label for _, label in rows]), encoder.encode(texts))


if __name__ == "__main__":
    main()
