"""The ranking section of docs/explanation/quality.md: one table over all data sets and splits, then every table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from common import table
from scipy.stats import rankdata

from recommender.evaluation.baselines import OURS

# With fewer, ranks are chance.
LEAST_USERS = 20

Result = dict[str, Any]
Row = dict[str, Any]

TITLES = {
    "online-retail": "Online Retail", "complete-journey": "Complete Journey",
    "stackexchange-quantum": "Stack Exchange (quantum computing)", "stackexchange-beer": "Stack Exchange (beer)",
    "polis-vtaiwan": "Polis (Taiwan, Chinese)", "polis-austria": "Polis (Austria, German)",
}  # fmt: skip
_SPLITS = {
    "item_cold": "new items", "temporal": "after the cut-off", "user_cold": "new users",
    "k_shot": "new users, {} of their interactions given", "warm": "held-out pairs",
}  # fmt: skip
# The candidates whose tables are shown, by split; for the other splits, "overall" contains all information.
_CANDIDATES = {"item_cold": ("cold", "warm", "overall"), "temporal": ("cold", "warm", "overall")}


def markdown(results: Sequence[Result]) -> list[str]:
    """The section, from the evaluations of all data sets and splits."""
    lines = standing(results)
    for result in results:
        for shots, candidates in tables_of(result):
            rows = pick(result, candidates, shots)
            lines += ["", f"### {title(result, shots)}, candidates {candidates}", "", *full(rows, result["seeds"])]
    notes = sorted({note for result in results for note in result["notes"]})
    return [*lines, *(line for note in notes for line in ("", note + "."))]


def standing(results: Sequence[Result]) -> list[str]:
    """The measure for defaults: coldstart minus the best other method in every table, and the ranks of all methods."""
    head = ("data", "candidates", "users", "best other method", "its NDCG@20", "coldstart", "coldstart − it",
            "95 %", "coldstart is", "its rank")  # fmt: skip
    rank_head = ("method", "mean rank", "new items", "known items", "all items", "best in")
    return [
        "### Summary", "", *table(head, summary(results)), "", "### Mean ranks", "",
        "Rank 1 is the highest NDCG@20 of a row's table; equal methods share the mean of their ranks. Tables with "
        f"fewer than {LEAST_USERS} users are left out.", "",
        *table(rank_head, mean_ranks(results)),
    ]  # fmt: skip


def summary(results: Iterable[Result]) -> Iterable[Sequence[str]]:
    """coldstart beside the best other method; one row for each table."""
    for result in results:
        for shots, candidates in tables_of(result):
            rows = pick(result, candidates, shots)
            other, ours = strongest(rows), mine(rows)
            yield (
                title(result, shots), candidates, f"{ours['users']:,.0f}", other["method"], f"{other['ndcg@20']:.3f}",
                f"{ours['ndcg@20']:.3f}", f"{ours['ndcg@20'] - other['ndcg@20']:+.3f}", interval(other), verdict(other),
                f"{ranks(rows)[OURS]:g}",
            )  # fmt: skip


def mean_ranks(results: Iterable[Result]) -> list[Sequence[str]]:
    """Each method's mean rank: over all tables, and over those of cold, warm and all items; the best method first."""
    found: dict[str, list[tuple[str, float]]] = {}
    for result in results:
        for shots, candidates in tables_of(result):
            rows = pick(result, candidates, shots)
            if mine(rows)["users"] < LEAST_USERS:
                continue
            for method, rank in ranks(rows).items():
                found.setdefault(method, []).append((candidates, rank))

    def mean(method: str, *kinds: str) -> str:
        values = [rank for candidates, rank in found[method] if candidates in kinds]
        return f"{np.mean(values):.1f}" if values else ""

    order = sorted(found, key=lambda method: float(np.mean([rank for _, rank in found[method]])))
    return [
        (
            f"**{method}**" if method == OURS else method, mean(method, "cold", "warm", "overall"),
            mean(method, "cold"), mean(method, "warm"), mean(method, "overall"),
            f"{sum(rank < 2 for _, rank in found[method])} of {len(found[method])}",
        )
        for method in order
    ]  # fmt: skip


def ranks(rows: Sequence[Row]) -> dict[str, float]:
    """Return the rank of each method in one table."""
    values = rankdata([-row["ndcg@20"] for row in rows])
    return dict(zip((row["method"] for row in rows), values.tolist(), strict=True))


def full(rows: Sequence[Row], seeds: int) -> list[str]:
    """Return the table of one data set, split and kind of candidates: one row for each method."""
    head = ("method", "NDCG@20", "± seeds", "coldstart − it, 95 %", "Recall@20", "Precision@10", "AUC", "coverage",
            "cold in top 20", "fit", "score")  # fmt: skip
    best = max(row["ndcg@20"] for row in rows)
    cells = [
        (
            row["method"], ("**{:.3f}**" if row["ndcg@20"] == best else "{:.3f}").format(row["ndcg@20"]),
            "" if row["ndcg@20_std"] is None else f"{row['ndcg@20_std']:.3f}", interval(row),
            f"{row['recall@20']:.3f}", f"{row['precision@10']:.3f}", f"{row['auc']:.3f}", f"{row['coverage']:.2f}",
            f"{row['cold_share']:.2f}", f"{row['fit_s']:,.1f} s", f"{row['score_s']:,.1f} s",
        )
        for row in rows
    ]  # fmt: skip
    seeded = "1 seed" if seeds == 1 else f"{seeds} seeds"
    return [f"{rows[0]['users']:,.0f} users, {seeded}.", "", *table(head, cells)]


def tables_of(result: Result) -> list[tuple[int | None, str]]:
    """Return the shots and candidates of the tables that are shown for one evaluation."""
    wanted = _CANDIDATES.get(result["split"], ("overall",))
    available = {(row.get("shots"), row["candidates"]): None for row in result["rows"]}
    return [(shots, candidates) for shots, candidates in available if candidates in wanted]


def pick(result: Result, candidates: str, shots: int | None = None) -> list[Row]:
    """Return the rows of one table."""
    return [row for row in result["rows"] if (row.get("shots"), row["candidates"]) == (shots, candidates)]


def strongest(rows: Sequence[Row]) -> Row:
    """Return the row of the best method other than coldstart."""
    return max((row for row in rows if row["method"] != OURS), key=lambda row: row["ndcg@20"])


def mine(rows: Sequence[Row]) -> Row:
    """Return the row of coldstart."""
    return next(row for row in rows if row["method"] == OURS)


def title(result: Result, shots: int | None = None) -> str:
    """Name the data set and what is held out."""
    return f"{TITLES[result['dataset']]}, {_SPLITS[result['split']].format(shots)}"


def interval(row: Row) -> str:
    """Format the interval of coldstart minus this method."""
    return "" if row["ci_low"] is None else f"{row['ci_low']:+.3f} … {row['ci_high']:+.3f}"


def verdict(row: Row) -> str:
    """Return above, level or below: what the interval says about coldstart compared with this method."""
    if row["ci_low"] > 0:
        return "above"
    return "**below**" if row["ci_high"] < 0 else "level"
