"""Measure the recommender: ranking, speed, growth, robustness, leakage. `make bench-recommender`.

Writes its sections of docs/explanation/quality.md. An interrupted run keeps its results in data/bench-recommender, and
the same command resumes it. A complete run deletes them, so that the next run measures everything again.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
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

PAGE = EXPLANATION / "quality.md"
COMMAND = "make bench-recommender"
_PACKAGES = ("duckdb", "lightfm-next", "numpy", "scikit-learn", "scipy", "sentence-transformers", "torch")


def main() -> None:
    """Measure the requested sections, and write each as soon as it is finished."""
    parser = argparse.ArgumentParser(description="Measure the recommender and write docs/explanation/quality.md.")
    parser.add_argument("--data-dir", type=Path, help="folder with complete-journey and stackexchange-quantum")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--only", choices=_SECTIONS, help="one section")
    asked = parser.parse_args()
    names = make_tables(asked.data_dir)
    sections = [asked.only] if asked.only else list(_SECTIONS)
    for section in sections:
        about, lines = _SECTIONS[section](names, asked.seeds)
        write_between(PAGE, section, "\n".join([made_by(COMMAND, about, _PACKAGES), "", *lines]))
        told(f"wrote {section} to {PAGE}")
    for section in sections:
        forget(section)


def _ranking(names: list[str], seeds: int) -> tuple[str, list[str]]:
    about = (
        f"Seeds: {seeds}. Values are means over users. Intervals are 95 % paired bootstrap intervals over users, of "
        "coldstart minus the method. coldstart chooses all its parameters within the training part. Fits and scores "
        "were timed while another evaluation ran on each other processor; each used one thread, except that coldstart "
        "fits LightFM's seeds on a thread each."
    )
    return about, tables.markdown(ranking.measure(names, seeds))


def _speed(names: list[str], seeds: int) -> tuple[str, list[str]]:
    measured = kept("speed", speed.measure)
    about = (
        "Online Retail. One thread, except that coldstart fits LightFM's seeds on a thread each. Values are medians of "
        "three interleaved rounds; choosing parameters runs once. The loop and implicit return numbers; `recommend` "
        "returns a table with texts, scores and their parts."
    )
    return about, table(HEAD, speed.rows(measured))


def _growth(names: list[str], seeds: int) -> tuple[str, list[str]]:
    measured = kept("growth", growth.measure)
    about = (
        f"Generated interactions with latent tastes: one user per {growth.PER_USER} and one item per {growth.PER_ITEM} "
        f"interactions, vectors of {growth.DIMENSIONS} numbers, texts of five words. One fit with given parameters, "
        f"{growth.EPOCHS} epochs, one seed and one thread, in a separate process. Memory is the peak of that process."
    )
    return about, growth.markdown(measured)


def _updates(names: list[str], seeds: int) -> tuple[str, list[str]]:
    about = (
        f"Made-up shops of {updates.ITEMS:,} items, {updates.PER_USER} interactions a user, vectors of "
        f"{growth.DIMENSIONS} numbers; each size in a process of its own, one thread. Medians, after one request "
        "that computes what is derived from the fit."
    )
    return about, updates.markdown(kept("updates", updates.measure))


def _robustness(names: list[str], seeds: int) -> tuple[str, list[str]]:
    return "Online Retail, one seed.", robustness.markdown(kept("robustness", robustness.measure))


def _leakage(names: list[str], seeds: int) -> tuple[str, list[str]]:
    measured = kept("leakage", leakage.measure)
    about = "Two controls: the advantage of a method must disappear when the information behind it is shuffled."
    return about, leakage.markdown(measured)


_SECTIONS: dict[str, Callable[[list[str], int], tuple[str, list[str]]]] = {
    "ranking": _ranking, "speed": _speed, "growth": _growth, "updates": _updates, "robustness": _robustness,
    "leakage": _leakage,
}  # fmt: skip


if __name__ == "__main__":
    main()
