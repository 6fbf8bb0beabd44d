"""Facts beside ordinary attributes, on new items; `make bench-facts DATA=folder`.

Writes its sections of docs/explanation/facts.md. The same splits are fitted three times in turn: with the attributes of
the items alone, with what `coldstart facts` adds, and with the added values of another item, drawn by chance.

DATA contains the raw files of Complete Journey. Every other folder in it that has a table facts is measured too: its
files are those of the data contract.
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
from bench_recommender_setup import SCRATCH, forget, kept, told
from common import EXPLANATION, made_by, table, write_between
from numpy.typing import NDArray
from real_data import prepare

from coldstart_udfs.files import staged
from coldstart_udfs.quoting import quote_text
from recommender.data.dataset import Dataset, files_in, read_dataset
from recommender.data.entities import Entities
from recommender.data.events import EventWeights
from recommender.data.facts import fact_columns
from recommender.data.raw_files import tables_of
from recommender.data.tables import ingest
from recommender.evaluation.baselines import scorer_of
from recommender.evaluation.comparison import measure
from recommender.measure.intervals import ByItem, intervals
from recommender.measure.splits import make_splits
from recommender.model.fitting import fit
from recommender.model.parameters import Parameters
from recommender.model.recommender import HybridRecommender
from recommender.pipeline.facts import add_facts
from recommender.tuning.validation import fit_tuned

JOURNEY = "complete-journey"
LEVELS = ("department", "product_category", "product_type", "package_size")
FLAT, FACTS, SHUFFLED = "attributes alone", "with facts", "with shuffled facts"
# LightFM with fewer numbers than by default, so that the benchmark takes minutes.
PARAMETERS = Parameters(components=32, epochs=5, lightfm_seeds=1)
# Where all parameters are chosen within the training part; in a large set the defaults stay.
TUNED = ("movielens",)


def main() -> None:
    """Measure the data sets one by one; the section of each is written when it is done."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", type=Path, required=True, help="contains the folders of the raw files")
    parser.add_argument("--sets", nargs="*", help="names of folders; by default all that have facts")
    parser.add_argument("--seeds", type=int, default=2)
    given = parser.parse_args()
    folders = sorted(path for path in given.data_dir.iterdir() if path.is_dir())
    found = [path for path in folders if path.name == JOURNEY or "facts" in tables_of(path)]
    for folder in [path for path in found if given.sets is None or path.name in given.sets]:
        data, columns = with_facts(folder)
        runs = [kept_draw(data, columns, seed) for seed in range(given.seeds)]
        lines = section(runs, data, columns)
        print("\n".join([folder.name, *lines]), flush=True)
        about = (
            f"{given.seeds} seeds; NDCG@20 among the new items. Intervals are 95 %, with draws, users and items as "
            "sources of chance. LightFM has 32 components and 5 epochs; the other parameters are "
            f"{'chosen within the training part' if folder.name in TUNED else 'the defaults'}."
        )
        head = made_by("make bench-facts DATA=folder", about, ("lightfm-next", "numpy", "scikit-learn", "scipy"))
        write_between(EXPLANATION / "facts.md", f"bench-facts {folder.name}", "\n".join([head, "", *lines]))
        forget(f"facts-{folder.name}")


def with_facts(folder: Path) -> tuple[Dataset, list[str]]:
    """A data set with the columns that `coldstart facts` adds, and their names."""
    out = SCRATCH / "facts" / folder.name
    raw, levels = folder, tuple[str, ...]()
    if folder.name == JOURNEY:
        raw, levels = out / "raw", LEVELS
        prepare(JOURNEY, folder, raw)
        products = quote_text(str(folder / "products.parquet"))
        with duckdb.connect() as con, staged(raw) as scratch:
            con.execute(
                f"COPY (SELECT items.*, product_category, product_type, package_size "
                f"FROM {quote_text(str(raw / 'items.parquet'))} AS items "
                f"JOIN {products} AS products ON products.product_id::VARCHAR = item_id) "
                f"TO {quote_text(str(scratch / 'items.parquet'))} (FORMAT parquet)"
            )
    told(f"{folder.name}: tables")
    ingest(raw, out)
    for column in add_facts(out, Path("feature_repo"), levels=levels):
        told(f"  {column.name}: {column.values:,} values, {column.items:,} items")
    return read_dataset(*files_in(out)), fact_columns(out / "items.parquet")


def variants(items: Entities, columns: Sequence[str], seed: int) -> dict[str, Entities]:
    """The same items with different attributes."""
    starts = tuple(f"{name}=" for name in columns)
    own = [[label for label in labels if not label.startswith(starts)] for labels in items.attributes]
    added = [[label for label in labels if label.startswith(starts)] for labels in items.attributes]
    order = np.random.default_rng(seed).permutation(len(items))
    shuffled = [labels + added[other] for labels, other in zip(own, order.tolist(), strict=True)]
    return {FLAT: replace(items, attributes=own), FACTS: items, SHUFFLED: replace(items, attributes=shuffled)}


def kept_draw(data: Dataset, columns: Sequence[str], seed: int) -> dict[str, Any]:
    """`draw`, or what an interrupted run has found."""
    tables = hashlib.sha256()
    for path in sorted((SCRATCH / "facts" / data.name).glob("*.parquet")):
        tables.update(path.read_bytes())
    found: dict[str, Any] = kept(
        f"facts-{data.name}-{seed}", lambda: draw(data, columns, seed), [PARAMETERS, tables.hexdigest()]
    )
    return found


def draw(data: Dataset, columns: Sequence[str], seed: int) -> dict[str, Any]:
    """One seed: users, cold items with their expected shares, and NDCG@20 by user and by item of each variant."""
    found: dict[str, Any] = {}
    for name, items in variants(data.items, columns, seed).items():
        (split,) = make_splits(data.interactions, data.users, items, "item_cold", seed=seed)
        if data.name in TUNED:
            model = fit_tuned(
                split.train, split.users, split.items, kind=split.kind, groups=split.groups, seed=seed,
                parameters=PARAMETERS, weights=EventWeights(),
            )  # fmt: skip
        else:
            fitted = fit(replace(PARAMETERS, seed=seed), split.train, split.users, split.items)
            model = HybridRecommender.of(fitted)
        metrics = measure(split, scorer_of(model))["cold"]
        told(f"{data.name}, seed {seed}, {name}: {metrics.ndcg.mean():.4f}")
        cold = split.candidates("cold")
        wanted = cold.wanted[cold.users][:, np.flatnonzero(cold.items)]
        counts = np.diff(wanted.indptr)
        shares = np.bincount(wanted.indices, np.repeat(1 / counts, counts), minlength=wanted.shape[1])
        found |= {"users": cold.users.tolist(), "items": np.flatnonzero(cold.items).tolist(), "shares": shares.tolist()}
        found[name] = {"ndcg": metrics.ndcg.tolist(), "credit": metrics.credit.tolist()}
    return found


def section(runs: Sequence[dict[str, Any]], data: Dataset, columns: Sequence[str]) -> list[str]:
    """The tables of one data set."""
    means = {name: [float(np.mean(run[name]["ndcg"])) for run in runs] for name in (FLAT, FACTS, SHUFFLED)}
    plain = float(np.mean(means[FLAT]))
    rows = [(FLAT, f"{plain:.4f}", "", "")]
    for name in (FACTS, SHUFFLED):
        low, high = bounds(runs, name) / plain * 100
        change = (np.mean(means[name]) / plain - 1) * 100
        each = ", ".join(f"{(own / flat - 1) * 100:+.1f} %" for own, flat in zip(means[name], means[FLAT], strict=True))
        rows.append((name, f"{np.mean(means[name]):.4f}", f"{change:+.1f} % ({low:+.1f} to {high:+.1f})", each))
    size = f"{len(data.items):,} items, {len(data.users):,} users, {len(data.interactions):,} interactions"
    return [
        f"{size}; columns of facts: {', '.join(f'`{name}`' for name in columns)}.", "",
        *table(("attributes of items", "NDCG@20", "change", "by seed"), rows),
    ]  # fmt: skip


def bounds(runs: Sequence[dict[str, Any]], name: str) -> NDArray[np.float64]:
    """(2,), the interval of the difference to attributes alone."""

    def pooled(values: Sequence[Any]) -> NDArray[Any]:
        return np.concatenate([np.asarray(value) for value in values])

    def difference(kind: str) -> NDArray[np.float64]:
        return pooled([np.subtract(run[name][kind], run[FLAT][kind]) for run in runs])

    def draws(kind: str) -> NDArray[np.int64]:
        return pooled([np.full(len(run[kind]), seed) for seed, run in enumerate(runs)])

    def of(kind: str) -> NDArray[Any]:
        return pooled([run[kind] for run in runs])

    by_item = ByItem(difference("credit")[:, None], of("shares"), of("items"), draws("items"))
    found = intervals(difference("ndcg")[:, None], of("users"), draws("users"), by_item)
    return np.asarray(found[0])


if __name__ == "__main__":
    main()
