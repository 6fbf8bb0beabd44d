"""Measure the encoder `multilingual`: votes on statements in two languages, retrieval across languages, speed.

`make bench-languages DATA=…` runs it on the folders polis-vtaiwan, polis-austria and grocery-store, and writes its
section of docs/explanation/performance.md.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
from common import ROOT, Row, interleaved, write_section
from numpy.typing import NDArray

from coldstart_udfs import Encoder
from coldstart_udfs.encoder.backends import available_threads
from coldstart_udfs.profile import Vectors

SPLITS = 10
RIDGE = 1.0
# A user is counted whose training part has so many votes, and whose test part has both kinds of votes.
LEAST_VOTES = 5
STATEMENTS = {"polis-vtaiwan": "Chinese", "polis-austria": "German"}
NAMES = ROOT / "benchmarks" / "data" / "grocery_names.csv"
LANGUAGES = ("zh", "de", "es", "ja")


def main() -> None:
    """Measure everything and write the section; the argument is the folder of the data sets."""
    if len(sys.argv) != 2 or not Path(sys.argv[1]).is_dir():
        raise SystemExit(f"give the folder of {', '.join(STATEMENTS)} and grocery-store: make bench-languages DATA=…")
    data = Path(sys.argv[1])
    encoders = {"MiniLM": Encoder(cache=False), "multilingual": Encoder("multilingual", cache=False)}
    rows: list[Row] = []
    for name, language in STATEMENTS.items():
        print(f"{name} …", file=sys.stderr, flush=True)
        rows.append(votes(data / name, name, language, encoders))
    print("names …", file=sys.stderr, flush=True)
    rows += retrieval(data / "grocery-store" / "products.parquet", encoders)
    print("speed …", file=sys.stderr, flush=True)
    rows += speed(encoders["multilingual"])
    write_section(
        "languages", "make bench-languages",
        "Backend onnx-int8, as `auto` chooses it. AUC of statements that a user agrees with over those that they "
        f"disagree with: kernel ridge (λ = {RIDGE:g}) per user on the votes of 80 % of the statements, judged on the "
        f"others; mean over users and {SPLITS} splits ± standard deviation of the splits. Top-1: the share of 81 "
        "products (Grocery Store Dataset) whose own English text is the most similar one; names were translated by "
        "hand.", rows,
    )  # fmt: skip


def votes(folder: Path, name: str, language: str, encoders: dict[str, Encoder]) -> Row:
    """AUC of one set of statements, for each encoder and for character TF-IDF."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    with duckdb.connect() as con:
        statements = con.sql(f"SELECT item_id, description FROM '{folder}/statements.parquet' ORDER BY ALL").fetchall()
        cast = con.sql(
            f"SELECT user_id, item_id, vote > 0 FROM '{folder}/votes.parquet' WHERE vote <> 0 ORDER BY ALL"
        ).fetchall()
    texts = [str(text) for _, text in statements]
    places = {item: place for place, (item, _) in enumerate(statements)}
    users: dict[str, list[tuple[int, bool]]] = {}
    for user, item, agrees in cast:
        users.setdefault(user, []).append((places[item], agrees))
    tokens = TfidfVectorizer(analyzer="char", ngram_range=(1, 3), sublinear_tf=True).fit_transform(texts).toarray()
    vectors = {"character TF-IDF": tokens, **{name: one.encode(texts) for name, one in encoders.items()}}
    vectors["multilingual, centred"] = centred(vectors["multilingual"])
    judged = {kind: agreement(some, list(users.values())) for kind, some in vectors.items()}
    shown = {kind: f"{aucs.mean():.3f} ± {aucs.std():.3f}" for kind, aucs in judged.items()}
    return (
        f"{name} ({language}), AUC of agree over disagree", "character TF-IDF, MiniLM",
        f"multilingual **{shown['multilingual']}**, TF-IDF {shown['character TF-IDF']}, MiniLM {shown['MiniLM']}; "
        f"multilingual centred on the mean {shown['multilingual, centred']}",
    )  # fmt: skip


def agreement(vectors: NDArray[Any], users: list[list[tuple[int, bool]]]) -> NDArray[np.float64]:
    """(splits,) mean AUC over users, by kernel ridge on each user's votes around their mean."""
    kernel = vectors @ vectors.T
    result = []
    for split in range(SPLITS):
        held_out = np.zeros(len(vectors), dtype=bool)
        held_out[np.random.default_rng(split).permutation(len(vectors))[: len(vectors) // 5]] = True
        aucs = []
        for user in users:
            items = np.array([item for item, _ in user])
            agrees = np.array([one for _, one in user])
            test = held_out[items]
            train, chosen = items[~test], agrees[~test] * 2.0 - 1.0
            if len(train) < LEAST_VOTES or len(set(agrees[test])) < 2:
                continue
            weights = np.linalg.solve(kernel[np.ix_(train, train)] + RIDGE * np.eye(len(train)), chosen - chosen.mean())
            aucs.append(auc(kernel[np.ix_(items[test], train)] @ weights, agrees[test]))
        result.append(np.mean(aucs))
    return np.array(result)


def auc(scores: NDArray[Any], positive: NDArray[np.bool_]) -> float:
    """The share of pairs of a positive and another row that are in order; ties count half."""
    differences = scores[positive][:, None] - scores[~positive]
    return float((differences > 0).mean() + (differences == 0).mean() / 2)


def retrieval(products: Path, encoders: dict[str, Encoder]) -> list[Row]:
    """Top-1 of translated names among English descriptions and among English names."""
    with duckdb.connect() as con:
        described = dict(con.sql(f"SELECT name, description FROM '{products}'").fetchall())
    with NAMES.open(encoding="utf-8", newline="") as file:
        names = list(csv.DictReader(file))
    english = [row["name"].replace("-", " ") for row in names]
    targets = {"descriptions": [str(described[row["name"]]) for row in names], "names": english}
    rows = []
    for what, documents in targets.items():
        stored = {name: encoder.encode(documents) for name, encoder in encoders.items()}
        shown = []
        for language in LANGUAGES:
            asked = {name: encoder.encode([row[language] for row in names], prompt="query")
                     for name, encoder in encoders.items()}  # fmt: skip
            hits = {name: top_1(asked[name], stored[name]) for name in encoders}
            hits["centred"] = top_1(centred(asked["multilingual"]), centred(stored["multilingual"]))
            others = f"MiniLM {hits['MiniLM']:.2f}, centred {hits['centred']:.2f}"
            shown.append(f"{language} **{hits['multilingual']:.2f}** ({others})")
        rows.append((f"names in another language → English {what}, top-1", "MiniLM", ", ".join(shown)))
    return rows


def top_1(asked: Vectors, stored: Vectors) -> float:
    """The share of rows whose own row in `stored` is the most similar one."""
    return float(((asked @ stored.T).argmax(axis=1) == np.arange(len(asked))).mean())


def centred(vectors: Vectors) -> Vectors:
    """Minus their mean, and divided by their length again."""
    moved = vectors - vectors.mean(axis=0)
    return np.asarray(moved / np.linalg.norm(moved, axis=1, keepdims=True), dtype=np.float32)


def speed(encoder: Encoder) -> list[Row]:
    """Distinct short texts per second, compared with sentence-transformers on the same weights."""
    import torch
    from sentence_transformers import SentenceTransformer

    with NAMES.open(encoding="utf-8", newline="") as file:
        names = [row[language] for row in csv.DictReader(file) for language in LANGUAGES]
    texts = list(dict.fromkeys(names))[:120]
    peer = SentenceTransformer(str(encoder.files.folder), device="cpu", local_files_only=True)
    encode: Callable[..., Any] = partial(peer.encode, prompt_name="document")
    rows = []
    for threads in (available_threads(), 1):
        torch.set_num_threads(threads)
        ours = {name: Encoder("multilingual", backend=name, cache=False, threads=threads)
                for name in ("torch", "onnx-int8")}  # fmt: skip
        runs: dict[str, Callable[[], Any]] = {"peer": partial(encode, texts)}
        runs.update({name: partial(one.encode, texts) for name, one in ours.items()})
        for run in runs.values():
            run()
        seconds = interleaved(runs)
        cosines = (ours["onnx-int8"].encode(texts) * ours["torch"].encode(texts)).sum(axis=1)
        rows.append((
            f"multilingual, `onnx-int8`, distinct short texts/s, threads: {threads}",
            "`SentenceTransformer.encode`, same weights, float32, as many threads",
            f"**{seconds['peer'] / seconds['onnx-int8']:.2f}×** as fast ({len(texts) / seconds['onnx-int8']:,.0f} "
            f"texts/s), torch {seconds['peer'] / seconds['torch']:.2f}×; cosine to torch {cosines.mean():.4f} mean, "
            f"{cosines.min():.4f} min",
        ))  # fmt: skip
    return rows


if __name__ == "__main__":
    main()
