"""What columns of `coldstart annotate` bring a recommender on new items; `make bench-annotation DATA=folder`.

Writes its section of docs/how-to/annotate.md. The recommender is fitted with and without the labels as attributes of
items, with its default weights; NDCG@20 of items that are held out.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
from bench_recommender_setup import dataset, make_tables, told
from common import ROOT, made_by, table, write_between
from numpy.typing import NDArray

from coldstart_udfs.encoder.encoder import shared_encoder
from coldstart_udfs.text.annotation import PREFIX
from coldstart_udfs.text.tags import Tagger
from recommender.data.entities import Entities
from recommender.measure.intervals import intervals
from recommender.measure.metrics import rank_metrics
from recommender.measure.splits import Split, make_splits
from recommender.model.parameters import Parameters
from recommender.model.recommender import HybridRecommender

SETS = ("online-retail", "complete-journey", "stackexchange-beer")
SEEDS = (0, 1)
# LightFM with fewer numbers than by default, so that the benchmark takes minutes.
PARAMETERS = Parameters(components=32, epochs=5, lightfm_seeds=1)
MOST_USERS, _BLOCK = 1_000, 100


def annotated(items: Entities) -> tuple[Entities, float]:
    """The items with their labels as attributes, and the share that has any."""
    tags = Tagger(shared_encoder()).tag(list(items.descriptions))
    found = [[f"{PREFIX}{'price_band' if tag.group == 'price' else tag.group}={tag.label}" for tag in row]
             for row in tags]  # fmt: skip
    labels = [[*known, *new] for known, new in zip(items.attributes, found, strict=True)]
    return replace(items, attributes=labels), float(np.mean([bool(one) for one in found]))


def ndcg(split: Split, items: Entities, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """(rows,): NDCG@20 of new items, by a recommender that was fitted on the training part."""
    features = replace(items, profiles=split.items.profiles, evidence=split.items.evidence)
    model = HybridRecommender(PARAMETERS).fit(split.train, split.users, features)
    columns = np.flatnonzero(split.cold)
    wanted, known = split.wanted[:, columns], split.excluded[:, columns]
    new, values = features.take(columns), []
    for start in range(0, len(rows), _BLOCK):
        some = rows[start : start + _BLOCK]
        scores = model.score(split.users.take(some), new)
        values.append(rank_metrics(scores, wanted[some].toarray() > 0, known[some].toarray() > 0).ndcg)
    return np.concatenate(values)


def main() -> None:
    """Measure, print, and write the section."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", type=Path)
    given = parser.parse_args()
    rows = []
    for name in make_tables(given.data_dir, SETS):
        data = dataset(name)
        items, share = annotated(data.items)
        values, users, draws = [], [], []
        for seed in SEEDS:
            split = make_splits(
                data.interactions, data.users, data.items, "item_cold", seed=seed, groups=data.groups
            )[0]  # fmt: skip
            asked = split.candidates("cold").users
            asked = asked[np.linspace(0, len(asked) - 1, min(len(asked), MOST_USERS)).astype(np.int64)]
            values.append(np.column_stack([ndcg(split, one, asked) for one in (data.items, items)]))
            users.append(asked)
            draws.append(np.full(len(asked), seed))
            told(f"{name}, seed {seed}: {values[-1].mean(axis=0).round(4).tolist()}")
        found = np.concatenate(values)
        low, high = intervals(
            (found[:, 1] - found[:, 0])[:, None], np.concatenate(users), np.concatenate(draws)
        )[0]  # fmt: skip
        plain, labelled = (np.mean([one[:, column].mean() for one in values]) for column in (0, 1))
        rows.append((
            name, f"{100 * share:.0f} %", f"{plain:.4f}", f"{labelled:.4f}",
            f"{labelled - plain:+.4f} ({low:+.4f} to {high:+.4f})",
        ))  # fmt: skip
    lines = table(("shop", "items with a label", "NDCG@20 without", "with", "difference"), rows)
    print("\n".join(lines))
    about = (
        f"New items (a fifth, by product), {len(SEEDS)} draws, at most {MOST_USERS:,} users each. Intervals are 95 %, "
        "with draws and users as sources of chance."
    )
    text = made_by("make bench-annotation DATA=folder", about, ("numpy", "scikit-learn", "sentence-transformers"))
    page = ROOT / "docs" / "how-to" / "annotate.md"
    write_between(page, "bench-annotation", "\n".join([text, "", *lines]))


if __name__ == "__main__":
    main()
