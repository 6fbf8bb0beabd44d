"""The HTML report of an evaluation: one self-contained file."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from coldstart_udfs.encoder.encoder import shared_encoder
from coldstart_udfs.files import write_text
from coldstart_udfs.text.languages import frequent_languages, written_in
from coldstart_udfs.text.tags import Tagger
from recommender.evaluation.baselines import OURS
from recommender.evaluation.report import figures
from recommender.evaluation.report.examples import new_items, new_users
from recommender.evaluation.report.figures import require_matplotlib
from recommender.evaluation.report.measures import (
    LEAST_ITEMS,
    LEAST_USERS,
    Bin,
    Mean,
    bins_of,
    calibration_of,
    influence_of,
)
from recommender.measure.metrics import K

if TYPE_CHECKING:
    from recommender.evaluation.comparison import Details, Evaluation

__all__ = ["require_matplotlib", "write_report"]

Row: TypeAlias = Mapping[str, Any]

NDCG = f"ndcg@{K}"
_OTHERS_BESIDE = 2
# Number of item texts that tell in which language most of the shop's texts are.
_LANGUAGE_SAMPLE = 500
# Column of the result → heading, meaning, format.
COLUMNS = {
    NDCG: ("NDCG@20", "quality of the first 20 places; early places count more, and 1 is perfect. After ±: the "
           "standard deviation over seeds", "{:.3f}"),
    "ci": ("coldstart − method", "95 % interval of the difference in NDCG@20, which counts users, items and seeds; "
           "if it contains 0, the data cannot distinguish the two", ""),
    "recall@20": ("Recall@20", "share of the user's test items that are in the first 20 places", "{:.3f}"),
    "precision@10": ("Prec@10", "share of the first 10 places that are test items of the user", "{:.3f}"),
    "auc": ("AUC", "share of pairs of a test item and another item in the right order; 0.5 is chance", "{:.3f}"),
    "coverage": ("coverage", "share of the candidates in the first 20 places of any user", "{:.0%}"),
    "cold_share": ("cold in 20", "share of items without history in the first 20 places", "{:.0%}"),
    "fit_s": ("fit, s", "seconds to fit, mean over seeds", "{:,.1f}"),
    "score_s": ("score, s", "seconds to score all tested users, mean over seeds", "{:,.1f}"),
}  # fmt: skip
_SPLITS = {
    "item_cold": ("new items", "A fifth of the items is held out with all their interactions, and a tenth of the pairs "
                  "of the other items. New items are ranked by their text and attributes only."),
    "user_cold": ("new users", "A fifth of the users is held out with all their interactions. Each method ranks items "
                  "for them by their text and attributes only."),
    "both_cold": ("new users, new items", "A fifth of the users and a fifth of the items are held out with "
                  "all their interactions. Each method ranks new and known items for the new users."),
    "warm": ("known users, known items", "A random fifth of the pairs of user and item is held out. Their users "
             "and items keep other pairs."),
    "temporal": ("after a cut-off date", "All interactions after a cut-off date are held out."),
    "k_shot": ("users with a few interactions", "A fifth of the users is held out except for their first few "
               "interactions, the shots."),
}  # fmt: skip


def write_report(evaluation: Evaluation, path: Path) -> None:
    """Write the report. If an error occurs, nothing is written.

    Args:
        evaluation: the comparison; its `details` are the data of plots and examples.
        path: the HTML file.

    Raises:
        ColdStartError: matplotlib is not installed.
    """
    require_matplotlib()
    write_text(path, page_of(evaluation.result, evaluation.details))


def page_of(result: Mapping[str, Any], details: Details) -> str:
    """Return the report as HTML. Texts of users and items are escaped, so scripts in them do not run."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    model, split = details.model, details.split
    groups = _groups(result["rows"])
    influence = influence_of(model)
    calibration = calibration_of(model, split, Tagger(shared_encoder()))
    drawings = {
        "lift": figures.lift(*_lifts(groups)),
        "history": figures.by_history(_histories(details)),
        "influence": figures.influence(influence) if influence else "",
        "calibration": figures.calibration(calibration),
        "coverage": figures.coverage(_shares(groups)),
    }
    usual = next(iter(frequent_languages(split.items.descriptions[:_LANGUAGE_SAMPLE])), None)
    title, explained = _SPLITS.get(str(result["split"]), (str(result["split"]), ""))
    page = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True, lstrip_blocks=True,
        undefined=StrictUndefined,
    ).get_template("page.html.jinja")  # fmt: skip
    return page.render(
        result=result, title=title, explained=explained, ours=OURS, columns=COLUMNS, cells=_cells, signed=_signed,
        groups={name: sorted(rows, key=lambda row: -row[NDCG]) for name, rows in groups.items()},
        verdicts=[_verdict(name, rows) for name, rows in groups.items()], seeds=_count(result["seeds"]),
        drawings=drawings, influence=influence, parameters=model.parameters, calibration=calibration,
        price=figures.price_band, least_items=LEAST_ITEMS, least_users=LEAST_USERS, split=split,
        new_items=new_items(model, split), new_users=new_users(model, split), inf=math.inf,
        language=lambda text: written_in(text, usual),
    )  # fmt: skip


def _groups(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Group the rows by candidates ("new items", "known items", "all items") and number of shots, if any."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        title = _title(row["candidates"])
        if row.get("shots") is not None:
            title += f", {row['shots']} shot{'s' if row['shots'] != 1 else ''}"
        groups.setdefault(title, []).append(row)
    return groups


def _title(candidates: str) -> str:
    return {"cold": "new items", "warm": "known items", "overall": "all items"}.get(candidates, candidates)


def _best_first(groups: Mapping[str, Sequence[Row]]) -> list[str]:
    """Return the other methods, ordered by NDCG@20 in the first group that contains them."""
    ordered = [row["method"] for rows in groups.values() for row in sorted(rows, key=lambda row: -row[NDCG])]
    return [method for method in dict.fromkeys(ordered) if method != OURS]


def _own(rows: Sequence[Row]) -> Row | None:
    return next((row for row in rows if row["method"] == OURS), None)


def _lifts(groups: Mapping[str, Sequence[Row]]) -> tuple[dict[str, list[dict[str, Any]]], list[str]]:
    panels = {}
    for title, rows in groups.items():
        if own := _own(rows):
            panels[title] = [{**row, "lift": own[NDCG] - row[NDCG]} for row in rows if row["method"] != OURS]
    return panels, _best_first(groups)


def _verdict(title: str, rows: Sequence[Row]) -> str:
    """Summarise one group in one or two sentences."""
    own = _own(rows)
    others = [row for row in rows if row["method"] != OURS]
    if own is None or not others:
        return f"{title[0].upper()}{title[1:]}: there is no other method to compare with."
    best = max(others, key=lambda row: float(row[NDCG]))
    said = (
        f"For {title}, {OURS} has an NDCG@20 of {own[NDCG]:.3f}; the best other method, {best['method']}, has "
        f"{best[NDCG]:.3f}."
    )
    low, high = best["ci_low"], best["ci_high"]
    if low is None or high is None:
        return f"{said} No interval of the difference was measured."
    told = f"{OURS} is better" if low > 0 else f"{OURS} is worse" if high < 0 else "the data cannot distinguish them"
    return f"{said} The difference is between {_signed(low)} and {_signed(high)} (95 % interval): {told}."


def _cells(row: Row) -> dict[str, str]:
    """Format the cells of a row."""
    shown = {}
    for name, (_, _, how) in COLUMNS.items():
        value = row.get(name)
        shown[name] = "–" if value is None else how.format(value)
    if row.get(f"{NDCG}_std") is not None:
        shown[NDCG] += f" ± {row[f'{NDCG}_std']:.3f}"
    if row["ci_low"] is not None and row["ci_high"] is not None:
        shown["ci"] = f"{_signed(row['ci_low'])} to {_signed(row['ci_high'])}"
    return shown


def _signed(value: float, how: str = "+.3f") -> str:
    return format(value, how).replace("-", "−")


def _histories(details: Details) -> dict[str, tuple[list[Bin], dict[str, list[Mean]]]]:
    """Quality by the length of the user's history: coldstart and the two other methods with the best mean."""
    panels = {}
    for candidates, history in details.history.items():
        values = {method: array for (method, kind), array in details.per_user.items() if kind == candidates}
        others = sorted((name for name in values if name != OURS), key=lambda name: -float(values[name].mean()))
        shown = [name for name in (OURS, *others[:_OTHERS_BESIDE]) if name in values]
        bins, users, draws = bins_of(history), details.users[candidates], details.draws[candidates]
        panels[_title(candidates)] = bins, {
            name: [Mean.of_rankings(values[name][each.rows], users[each.rows], draws[each.rows]) for each in bins]
            for name in shown
        }
    return panels


def _shares(groups: Mapping[str, Sequence[Row]]) -> dict[tuple[str, str], dict[str, float]]:
    """Coverage by group and method, coldstart first; and the share of new items where all items are candidates."""
    methods = [OURS, *_best_first(groups)]
    labels = {"coverage": "candidates shown to any user, %", "cold_share": "new items among the first 20, %"}
    panels = {}
    for title, rows in groups.items():
        found = {row["method"]: row for row in rows}
        for column, label in labels.items():
            shares = {m: float(found[m][column]) for m in methods if m in found and found[m].get(column) is not None}
            if shares and (column == "coverage" or rows[0]["candidates"] == "overall"):
                panels[title, label] = shares
    return panels


def _count(seeds: int | Sequence[int]) -> int:
    return seeds if isinstance(seeds, int) else len(seeds)
