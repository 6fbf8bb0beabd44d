"""Measure the recommender: ranking, speed, growth, robustness, leakage. `make bench-recommender`.

Writes its sections of docs/explanation/quality.md. An interrupted run keeps its results in data/bench-recommender, and
the same command resumes it. A complete run deletes them, so that the next run measures everything again. It ends with
the measure for defaults: one table over all data sets and splits, and the mean rank of every method.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import bench_recommender_growth as growth
import bench_recommender_leakage as leakage
import bench_recommender_ranking as ranking
import bench_recommender_robustness as robustness
import bench_recommender_speed as speed
import bench_recommender_tables as tables
import bench_recommender_updates as updates
from bench_recommender_setup import forget, kept, make_tables, told
from common import EXPLANATION, HEAD, made_by, table, write_between
from real_data import NAMES

from recommender.evaluation.tuned import TUNING

PAGE = EXPLANATION / "quality.md"
COMMAND = "make bench-recommender"
_PACKAGES = ("duckdb", "lightfm-next", "numpy", "scikit-learn", "scipy", "sentence-transformers", "torch")


@dataclass(frozen=True)
class Asked:
    """What the ranking section measures: data sets, number of seeds, and `tuning` of `evaluate`."""

    names: Sequence[str]
    seeds: int
    tuning: float


def main() -> None:
    """Measure the requested sections, and write each as soon as it is finished."""
    parser = argparse.ArgumentParser(description="Measure the recommender and write docs/explanation/quality.md.")
    parser.add_argument("--data-dir", type=Path, help="folder with the folders of the other data sets")
    parser.add_argument("--sets", nargs="+", choices=NAMES, help="data sets of the ranking section; default: all found")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--tuning", type=float, default=TUNING, help="as in `coldstart evaluate`")
    parser.add_argument("--only", choices=_SECTIONS, help="one section")
    given = parser.parse_args()
    asked = Asked(make_tables(given.data_dir, given.sets), given.seeds, given.tuning)
    sections = [given.only] if given.only else list(_SECTIONS)
    for section in sections:
        about, lines = _SECTIONS[section](asked)
        write_between(PAGE, section, "\n".join([made_by(COMMAND, about, _PACKAGES), "", *lines]))
        told(f"wrote {section} to {PAGE}")
    for section in sections:
        forget(section)


def _ranking(asked: Asked) -> tuple[str, list[str]]:
    about = (
        f"Seeds: {asked.seeds}. Values are means over users. Intervals are those of `coldstart evaluate`, of "
        "coldstart minus the method. coldstart chooses all its parameters within the training part; the other methods "
        f"are tuned there too, within {asked.tuning:g} times its processor seconds, and get a constant for cold items. "
        "Fits and scores are in processor seconds too."
    )
    results = ranking.measure(asked.names, asked.seeds, asked.tuning)
    print("\n".join(tables.standing(results)))
    return about, tables.markdown(results)


def _speed(asked: Asked) -> tuple[str, list[str]]:
    measured = kept("speed", speed.measure)
    about = (
        "Online Retail. One thread, except that coldstart fits LightFM's seeds on a thread each. Values are medians of "
        "three interleaved rounds; choosing parameters runs once. The loop and implicit return numbers; `recommend` "
        "returns a table with texts, scores and their parts."
    )
    return about, table(HEAD, speed.rows(measured))


def _growth(asked: Asked) -> tuple[str, list[str]]:
    measured = kept("growth", growth.measure)
    about = (
        f"Generated interactions with latent tastes: one user per {growth.PER_USER} and one item per {growth.PER_ITEM} "
        f"interactions, vectors of {growth.DIMENSIONS} numbers, texts of five words. One fit with given parameters, "
        f"{growth.EPOCHS} epochs, one seed and one thread, in a separate process. Memory is the peak of that process."
    )
    return about, growth.markdown(measured)


def _updates(asked: Asked) -> tuple[str, list[str]]:
    about = (
        f"Made-up shops of {updates.ITEMS:,} items, {updates.PER_USER} interactions a user, vectors of "
        f"{growth.DIMENSIONS} numbers; each size in a process of its own, one thread. Medians, after one request "
        "that computes what is derived from the fit."
    )
    return about, updates.markdown(kept("updates", updates.measure))


def _robustness(asked: Asked) -> tuple[str, list[str]]:
    return "Online Retail, one seed.", robustness.markdown(kept("robustness", robustness.measure))


def _leakage(asked: Asked) -> tuple[str, list[str]]:
    measured = kept("leakage", leakage.measure)
    about = "Two controls: the advantage of a method must disappear when the information behind it is shuffled."
    return about, leakage.markdown(measured)


_SECTIONS: dict[str, Callable[[Asked], tuple[str, list[str]]]] = {
    "speed": _speed, "growth": _growth, "updates": _updates, "robustness": _robustness, "leakage": _leakage,
    "ranking": _ranking,
}  # fmt: skip


if __name__ == "__main__":
    main()
