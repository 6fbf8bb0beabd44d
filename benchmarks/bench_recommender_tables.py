"""The ranking section of docs/quality.md: what must be shown, and below it every table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from common import table

from recommender.evaluation.baselines import OURS

Result = dict[str, Any]
Row = dict[str, Any]

TITLES = {
    "online-retail": "Online Retail", "complete-journey": "Complete Journey",
    "stackexchange-quantum": "Stack Exchange (quantum computing)",
}  # fmt: skip
_SPLITS = {
    "item_cold": "new items", "temporal": "first sold after the cut-off", "user_cold": "new users",
    "k_shot": "new users, {} of their interactions given", "warm": "held-out pairs",
}  # fmt: skip
# By what is held out, the candidates whose tables are shown: what else could be asked would be the same or nothing.
_CANDIDATES = {"item_cold": ("cold", "overall"), "temporal": ("cold", "warm", "overall")}
# Data, split: the best other method and the lead of the trials that the goals come from, and the goal.
GOALS = {
    ("online-retail", "item_cold"): (0.290, 0.378, 0.40), ("online-retail", "temporal"): (0.168, 0.195, 0.215),
    ("complete-journey", "item_cold"): (0.022, 0.023, 0.028),
    ("stackexchange-quantum", "item_cold"): (0.228, 0.265, 0.28),
}  # fmt: skip
_NEW_USERS = "not below popularity; above it where users have words or attributes", ("popularity",)
# By what is held out, else by candidates: what must hold, and against whom (none named: against all).
_CLAIMS: dict[str, tuple[str, tuple[str, ...]]] = {
    "cold": ("new items: above all others", ()), "overall": ("new and old on one scale: not below others", ()),
    "warm": ("not below LightFM ids+tokens, EASE and ALS", ("LightFM ids+tokens", "EASE", "implicit ALS")),
    "user_cold": _NEW_USERS, "k_shot": _NEW_USERS,
}  # fmt: skip


def markdown(results: Sequence[Result]) -> list[str]:
    """The section, from the evaluations of all data sets and splits."""
    lines = ["### New items, against the goals", "", *table(
        ("data", "users", "best other in trials", "lead", "goal", "best other here", "ours", "ours − best other, 95 %",
         ""),
        goals(results),
    ), "", "### What else must hold", "", *table(
        ("what", "data", "against", "theirs", "ours", "ours − theirs, 95 %", "ours is"), claims(results),
    )]  # fmt: skip
    for result in results:
        for shots, candidates in tables_of(result):
            rows = pick(result, candidates, shots)
            lines += ["", f"### {title(result, shots)}, candidates {candidates}", "", *full(rows, result["seeds"])]
    notes = sorted({note for result in results for note in result["notes"]})
    return [*lines, *(line for note in notes for line in ("", note + "."))]


def goals(results: Iterable[Result]) -> Iterable[Sequence[str]]:
    """NDCG@20 on cold items, beside what was wanted."""
    for result in results:
        if wanted := GOALS.get((result["dataset"], result["split"])):
            best, lead, goal = wanted
            rows = pick(result, "cold")
            other, ours = strongest(rows), mine(rows)
            reached = ours["ndcg@20"] >= goal
            yield (
                title(result), f"{ours['users']:,.0f}", f"{best:.3f}", f"{lead:.3f}", f"≥ {goal:.3f}",
                f"{other['method']} {other['ndcg@20']:.3f}", f"**{ours['ndcg@20']:.4f}**", interval(other),
                "reached" if reached else "**missed**",
            )  # fmt: skip


def claims(results: Iterable[Result]) -> Iterable[Sequence[str]]:
    """Where ours must be above, or not below; one row for each data set and split."""
    for result in results:
        for shots, candidates in tables_of(result):
            rows = pick(result, candidates, shots)
            what, rivals = _CLAIMS[result["split"] if result["split"] in _CLAIMS else candidates]
            other, ours = strongest(rows, rivals), mine(rows)
            yield (
                what, title(result, shots), other["method"], f"{other['ndcg@20']:.3f}", f"{ours['ndcg@20']:.3f}",
                interval(other), verdict(other),
            )  # fmt: skip


def full(rows: Sequence[Row], seeds: int) -> list[str]:
    """Every method of one table."""
    head = ("method", "NDCG@20", "± seeds", "ours − it, 95 %", "Recall@20", "Precision@10", "AUC", "coverage",
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
    return [f"{rows[0]['users']:,.0f} users asked, {seeded}.", "", *table(head, cells)]


def tables_of(result: Result) -> list[tuple[int | None, str]]:
    """Shots and candidates of the tables that are shown of one evaluation."""
    wanted = _CANDIDATES.get(result["split"], ("overall",))
    there = {(row.get("shots"), row["candidates"]): None for row in result["rows"]}
    return [(shots, candidates) for shots, candidates in there if candidates in wanted]


def pick(result: Result, candidates: str, shots: int | None = None) -> list[Row]:
    """The rows of one table."""
    return [row for row in result["rows"] if (row.get("shots"), row["candidates"]) == (shots, candidates)]


def strongest(rows: Sequence[Row], rivals: Sequence[str] = ()) -> Row:
    """The best of the other methods, or of these."""
    others = [row for row in rows if row["method"] != OURS and (not rivals or row["method"] in rivals)]
    return max(others, key=lambda row: row["ndcg@20"])


def mine(rows: Sequence[Row]) -> Row:
    """Our row."""
    return next(row for row in rows if row["method"] == OURS)


def title(result: Result, shots: int | None = None) -> str:
    """The data set, and what is new in it."""
    return f"{TITLES[result['dataset']]}, {_SPLITS[result['split']].format(shots)}"


def interval(row: Row) -> str:
    """Of ours minus this method."""
    return "" if row["ci_low"] is None else f"{row['ci_low']:+.3f} … {row['ci_high']:+.3f}"


def verdict(row: Row) -> str:
    """What the interval says of ours beside this method."""
    if row["ci_low"] > 0:
        return "above"
    return "**below**" if row["ci_high"] < 0 else "level"
