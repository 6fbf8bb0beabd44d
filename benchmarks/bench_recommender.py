"""What the recommender is worth: ranking, speed, growth, robustness, leakage. `make bench-recommender`.

It writes its sections of docs/quality.md. What a stopped run has finished is kept in data/bench-recommender, and the
same command goes on from there. What a whole run has measured is forgotten, so that the next one measures anew.
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
from bench_recommender_setup import ONLINE_RETAIL, forget, kept, make_tables, told
from common import ROOT, made_by, table, write_between

PAGE = ROOT / "docs" / "quality.md"
COMMAND = "make bench-recommender"
_PACKAGES = ("duckdb", "lightfm-next", "numpy", "scikit-learn", "scipy", "sentence-transformers", "torch")
_HEAD = ("what", "against", "goal", "measured")


def main() -> None:
    """Measure the sections that are asked for, and write each as soon as it is done."""
    parser = argparse.ArgumentParser(description="Measure the recommender and write docs/quality.md.")
    parser.add_argument("--data-dir", type=Path, help="folder with complete-journey and stackexchange-quantum")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--only", choices=_SECTIONS, help="one section")
    asked = parser.parse_args()
    names = make_tables(asked.data_dir)
    sections = [asked.only] if asked.only else list(_SECTIONS)
    for section in sections:
        about, lines = _SECTIONS[section](names, asked.seeds)
        write_between(PAGE, section, "\n".join([made_by(COMMAND, about, _PACKAGES), "", *lines]))
        told(f"{section} is in {PAGE}")
    for section in sections:
        forget(section)


def _ranking(names: list[str], seeds: int) -> tuple[str, list[str]]:
    about = (
        f"Seeds: {seeds}. Means over users; intervals are paired bootstrap ones over users, of ours minus the "
        "method. Ours chooses all its parameters within the training part. Fits and scores were timed while another "
        "evaluation ran on each other processor, one thread each but for LightFM's seeds in ours."
    )
    return about, tables.markdown(ranking.measure(names, seeds))


def _speed(names: list[str], seeds: int) -> tuple[str, list[str]]:
    measured = kept("speed", speed.measure)
    about = (
        "Online Retail. One thread, but that each of LightFM's seeds has its own in our fit; medians of three "
        "interleaved rounds; choosing parameters is run once. The loop and implicit give numbers; `recommend` gives a "
        "table with texts, scores and their parts."
    )
    return about, table(_HEAD, speed.rows(measured))


def _growth(names: list[str], seeds: int) -> tuple[str, list[str]]:
    measured = kept("growth", growth.measure)
    about = (
        "Made-up interactions with latent tastes; a user for every "
        f"{growth.PER_USER} and an item for every {growth.PER_ITEM} of them, vectors of {growth.DIMENSIONS} numbers, "
        f"texts of five words. One fit with given parameters, {growth.EPOCHS} epochs, one seed, one thread, in a "
        "process of its own. Memory is the peak of that process."
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
    return f"{ONLINE_RETAIL}, one seed.", robustness.markdown(kept("robustness", robustness.measure))


def _leakage(names: list[str], seeds: int) -> tuple[str, list[str]]:
    measured = kept("leakage", leakage.measure)
    return "Two things that must go wrong when what a method lives on is taken away.", leakage.markdown(measured)


_SECTIONS: dict[str, Callable[[list[str], int], tuple[str, list[str]]]] = {
    "ranking": _ranking, "speed": _speed, "growth": _growth, "updates": _updates, "robustness": _robustness,
    "leakage": _leakage,
}  # fmt: skip


if __name__ == "__main__":
    main()
