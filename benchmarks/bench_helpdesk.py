"""A help desk: who answers a new question, and what a conversation is about; `make bench-helpdesk DATA=folder`.

Writes its sections of docs/explanation/helpdesk.md. A question of Stack Exchange that nobody has answered is an item
without history, and the people who answered others are the users; each method ranks them. What an audience adds to the
score of a pair (`recommender.model.tables.activity`) was chosen on one half of the questions; only the other half is
asked here.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import scipy.sparse as sp
from bench_recommender_setup import dataset, make_tables, told
from common import EXPLANATION, made_by, table, write_between
from numpy.typing import NDArray
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.preprocessing import normalize

from coldstart_udfs.encoder.encoder import Encoder
from coldstart_udfs.text.classify import Classifier
from coldstart_udfs.text.conversation import conversation
from recommender.data.dataset import Dataset
from recommender.data.interactions import Interactions
from recommender.measure.intervals import intervals
from recommender.measure.splits import stable_share
from recommender.model.parameters import Parameters
from recommender.model.recommender import HybridRecommender
from recommender.model.scoring import blocks
from recommender.tuning.validation import fit_tuned

SETS = {"stackexchange-quantum": "Quantum Computing", "stackexchange-beer": "Beer, Wine & Spirits"}
DRAWS, K = 5, 10
# In time: learned from everything before, asked what was written until the next of these shares of the questions.
WINDOWS = (0.4, 0.55, 0.7, 0.85, 1.0)
OURS = "coldstart audience"
# LightFM with fewer numbers than by default, so that the benchmark takes minutes.
PARAMETERS = Parameters(components=32, epochs=8, lightfm_seeds=1)
MESSAGES, EXAMPLES = 400, 10
# What people write around their question.
SMALL_TALK = (
    "Hi there", "Hello, are you there?", "Thanks, one moment", "Please help", "I have a question", "ok",
)  # fmt: skip

Scores = NDArray[np.floating]
Mask = NDArray[np.bool_]


def main() -> None:
    """Measure, print, and write the sections."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="contains the folders of the raw files")
    folder = parser.parse_args().data
    names = make_tables(folder, list(SETS))
    lines = []
    for name in names:
        if name in SETS:
            lines += who_answers(name, dataset(name))
    about = (
        "Each question is ranked among all who answered in the training part; questions that only others answered are "
        f"left out. NDCG@{K}, mean reciprocal rank and recall@{K} are means over draws. Intervals are 95 % of the "
        f"difference {OURS} − method in NDCG@{K}, with draws and questions as sources of chance."
    )
    packages = ("lightfm-next", "numpy", "scikit-learn", "scipy", "sentence-transformers")
    said = made_by("make bench-helpdesk DATA=folder", about, packages)
    write_between(EXPLANATION / "helpdesk.md", "who answers", "\n".join([said, *lines]))
    lines = conversations(folder / "banking77")
    about = (
        f"Banking77: {EXAMPLES} examples of each of 77 intents from the training part; {MESSAGES} conversations of two "
        f"messages of the test part of each kind, in each of {DRAWS} draws. Share of the right intents."
    )
    said = made_by("make bench-helpdesk DATA=folder", about, packages)
    write_between(EXPLANATION / "helpdesk.md", "conversations", "\n".join([said, "", *lines]))


def who_answers(name: str, data: Dataset) -> list[str]:
    """The tables of one site: held-out questions, then questions in time."""
    ids = data.interactions.item_ids
    asked = np.array([stable_share(key, "helpdesk validation") >= 0.5 for key in ids])
    chance = []
    for seed in range(DRAWS):
        held = asked & np.array([stable_share(key, f"helpdesk {seed}") < 0.4 for key in ids])
        chance.append((held, ~held[data.interactions.items]))
    # A question is as old as its first answer.
    first = np.full(len(ids), np.datetime64("9999-01-01", "us"))
    np.minimum.at(first, data.interactions.items, data.interactions.timestamps.astype("datetime64[us]"))
    ends = np.sort(first)[[int(share * (len(first) - 1)) for share in WINDOWS]]
    in_time = [
        (asked & (first > start) & (first <= end), data.interactions.timestamps <= start)
        for start, end in pairwise(ends)
    ]
    lines = []
    for title, kind, parts in (("held-out questions", "item_cold", chance), ("later questions", "temporal", in_time)):
        runs = [_run(f"{name}, {title}", data, held, learned, kind, seed) for seed, (held, learned) in enumerate(parts)]
        heading = f"{SETS[name]}, {title}"
        lines += ["", f"### {heading}", "", *_table(runs)]
        print("\n".join(lines[-len(runs[0][1]) - 5 :]), flush=True)
    return lines


Run = tuple[NDArray[np.int64], dict[str, NDArray[np.float64]]]


def _run(title: str, data: Dataset, held: Mask, learned: Mask, kind: str, seed: int) -> Run:
    """The questions of one draw, and of each method (questions, 3): NDCG, reciprocal rank and recall."""
    began = time.perf_counter()
    train = data.interactions.select(learned)
    model = fit_tuned(train, data.users, data.items, kind=kind, groups=data.groups, seed=seed, parameters=PARAMETERS)
    users = np.unique(train.users)
    wanted = _wanted(data.interactions.select(~learned), users, held)
    columns = np.flatnonzero(held)[wanted.any(axis=0)]
    wanted = wanted[:, wanted.any(axis=0)]
    found = {
        method: _measured(scores, wanted)
        for method, scores in _methods(data, train, model, users, columns).items()
    }  # fmt: skip
    told(f"{title}, draw {seed}: {len(columns)} questions, {len(users)} people, {time.perf_counter() - began:.0f} s")
    return columns, found


def _wanted(later: Interactions, users: NDArray[np.int64], held: Mask) -> Mask:
    """(users, held-out questions): who answered."""
    place = np.full(len(later.user_ids), -1)
    place[users] = np.arange(len(users))
    number = np.full(len(held), -1)
    number[held] = np.arange(held.sum())
    inside = (place[later.users] >= 0) & (number[later.items] >= 0)
    wanted = np.zeros((len(users), int(held.sum())), bool)
    wanted[place[later.users[inside]], number[later.items[inside]]] = True
    return wanted


def _methods(
    data: Dataset, train: Interactions, model: HybridRecommender, users: NDArray[np.int64], columns: NDArray[np.int64]
) -> dict[str, Scores]:
    """(users, questions) by method."""
    fitted = model.fitted
    ids = [data.interactions.user_ids[row] for row in users]
    questions = [data.interactions.item_ids[column] for column in columns]
    ranked = model.audience(questions, k=len(ids)).pivot(index="user_id", columns="item_id", values="score")
    pairs = np.concatenate([block.total(fitted.all_items.take(columns))
                            for _, block in blocks(fitted, fitted.users.take(users))])  # fmt: skip
    pairs_of = train.pairs()
    answered = sp.csr_matrix(
        (np.ones(len(pairs_of)), (pairs_of.users, pairs_of.items)), shape=(len(train.user_ids), len(train.item_ids))
    )[users]
    texts = [text or "" for text in data.items.descriptions]
    known = np.unique(train.items)
    words = TfidfVectorizer(sublinear_tf=True, stop_words="english").fit([texts[row] for row in known])
    tfidf = words.transform(texts)
    of_people = words.transform([" ".join(texts[item] for item in answered[row].indices) for row in range(len(users))])
    bm25 = _bm25([texts[row] for row in known], texts)
    vectors = data.items.embeddings
    profiles = answered @ vectors
    activity = np.log(np.asarray(answered.sum(axis=1)))
    lately = fitted.trends.activity_of(users, np.diff(answered.indptr))[:, None]
    document = (answered @ tfidf @ tfidf[columns].T).toarray()
    return {
        "the most answers": np.repeat(activity, len(columns), axis=1),
        "the most answers lately, Σ (1 + days)^-½": np.repeat(lately, len(columns), axis=1),
        "TF-IDF, all their questions as one text": (of_people @ tfidf[columns].T).toarray(),
        "TF-IDF, sum over their questions": document,
        "BM25, sum over their questions": (answered @ bm25[0] @ bm25[1][columns].T).toarray(),
        "encoder, mean of their questions": normalize(profiles) @ vectors[columns].T,
        "encoder, sum over their questions": profiles @ vectors[columns].T,
        "coldstart score of the pair, without activity": pairs,
        OURS: ranked.loc[ids, questions].to_numpy(),
    }


def _bm25(known: Sequence[str], texts: Sequence[str]) -> tuple[sp.csr_matrix, sp.csr_matrix]:
    """Weights of the words of texts as documents, and their counts as queries (Robertson and Zaragoza 2009)."""
    counter = CountVectorizer(stop_words="english").fit(known)
    counts = counter.transform(texts).astype(np.float64)
    frequency = np.asarray((counter.transform(known) > 0).sum(axis=0)).ravel()
    idf = np.log1p((len(known) - frequency + 0.5) / (frequency + 0.5))
    length = np.asarray(counts.sum(axis=1)).ravel()
    weighed = counts.tocoo()
    norm = 1.2 * (0.25 + 0.75 * length / max(length.mean(), 1e-9))
    data = weighed.data * 2.2 / (weighed.data + norm[weighed.row]) * idf[weighed.col]
    return sp.csr_matrix((data, (weighed.row, weighed.col)), shape=counts.shape), sp.csr_matrix(counts > 0, dtype=float)


def _measured(scores: Scores, wanted: Mask) -> NDArray[np.float64]:
    """(questions, 3); equal scores are in an order by chance, the same for all methods."""
    shuffled = np.random.default_rng(0).permutation(len(scores))
    order = shuffled[np.argsort(-scores[shuffled], axis=0, kind="stable")]
    right = np.take_along_axis(wanted, order, axis=0)
    discounts = 1 / np.log2(np.arange(2, K + 2))
    counts = wanted.sum(axis=0)
    ideal = np.cumsum(discounts)[np.minimum(counts, K) - 1]
    gains = (right[:K] * discounts[: len(right[:K]), None]).sum(axis=0) / ideal
    return np.column_stack([gains, 1 / (right.argmax(axis=0) + 1), right[:K].sum(axis=0) / counts])


def _table(runs: Sequence[Run]) -> list[str]:
    methods = list(runs[0][1])
    questions = np.concatenate([columns for columns, _ in runs])
    draws = np.repeat(np.arange(len(runs)), [len(columns) for columns, _ in runs])
    values = {method: np.concatenate([found[method] for _, found in runs]) for method in methods}
    means = {method: np.mean([found[method].mean(axis=0) for _, found in runs], axis=0) for method in methods}
    apart = np.column_stack([values[OURS][:, 0] - values[method][:, 0] for method in methods])
    bounds = intervals(apart, questions, draws)
    rows = []
    for method, (low, high) in zip(methods, bounds, strict=True):
        difference = means[OURS][0] - means[method][0]
        shown = "" if method == OURS else f"{difference:+.3f} ({low:+.3f} to {high:+.3f})"
        rows.append((method, *(f"{one:.3f}" for one in means[method]), shown))
    sizes = ", ".join(str(len(columns)) for columns, _ in runs)
    head = ("method", f"NDCG@{K}", "MRR", f"recall@{K}", f"{OURS} − it")
    return [f"{sizes} questions.", "", *table(head, rows)]


def conversations(folder: Path) -> list[str]:
    """The intent of conversations of two messages, by how they become one text."""
    train, test = (pd.read_parquet(folder / f"{part}.parquet").drop_duplicates("text") for part in ("train", "test"))
    messages = {str(intent): group.text.tolist() for intent, group in test.groupby("category")}
    encoder = Encoder()
    ways: dict[str, Callable[[list[str]], str]] = {
        "in the order of time": " ".join, "newest first": lambda turns: " ".join(reversed(turns)),
        "newest alone": lambda turns: turns[-1],
        "newest first and twice, as conversation() does": lambda turns: conversation(turns) or "",
    }
    right: dict[str, dict[str, list[float]]] = {way: {} for way in ways}
    for draw in range(DRAWS):
        few = train.sample(frac=1, random_state=draw).groupby("category").head(EXAMPLES)
        classifier = Classifier.fit(encoder, few.text.tolist(), few.category.tolist())
        for kind, cases in _cases(messages, np.random.default_rng(draw)).items():
            truth = [intent for _, intent in cases]
            for way, joined in ways.items():
                found = classifier.predict([joined(turns) for turns, _ in cases])
                hits = [one is not None and one.label == intent for one, intent in zip(found, truth, strict=True)]
                right[way].setdefault(kind, []).append(float(np.mean(hits)))
        told(f"conversations, draw {draw}")
    kinds = list(right["newest first"])
    rows = [(way, *(f"{np.mean(right[way][kind]):.3f}" for kind in kinds)) for way in ways]
    lines = table(("the text is", *kinds), rows)
    print("\n".join(lines), flush=True)
    return lines


def _cases(messages: dict[str, list[str]], rng: np.random.Generator) -> dict[str, list[tuple[list[str], str]]]:
    kinds: dict[str, list[tuple[list[str], str]]] = {
        "the second is about something else": [], "both are about one thing": [], "greeting, question": [],
        "question, small talk": [],
    }  # fmt: skip
    for _ in range(MESSAGES):
        before, now = rng.choice(list(messages), 2, replace=False).tolist()
        old, new, same = (messages[intent][rng.integers(len(messages[intent]))] for intent in (before, now, now))
        talk = SMALL_TALK[rng.integers(len(SMALL_TALK))]
        for kind, turns in zip(kinds, ([old, new], [same, new], [talk, new], [new, talk]), strict=True):
            kinds[kind].append((turns, now))
    return kinds


if __name__ == "__main__":
    main()
