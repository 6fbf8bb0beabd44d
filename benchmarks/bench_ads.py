"""Who redeems coupons of a campaign: `make bench-ads DATA=folder`.

Writes its section and the plot of docs/explanation/advertising.md, from Complete Journey. Campaigns that start from
2017-10-04 on are held out; what to use and how was chosen on those from 2017-05-08 on (`--validation`). Each campaign
is predicted from those that had ended when it started, by all methods alike.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import duckdb
import numpy as np
import pandas as pd
from bench_ads_tables import write_tables
from common import EXPLANATION, made_by, table, write_between
from numpy.typing import NDArray

from coldstart_udfs import connect
from coldstart_udfs.settings import ENRICHMENT_FILE, Enrichment
from recommender.data.campaigns import Campaign
from recommender.measure.intervals import intervals
from recommender.pipeline.campaign_rows import DAYS, Behaviour, CampaignRows
from recommender.pipeline.campaigns import ResponseModel, read_behaviour

VALIDATION, TEST = np.datetime64("2017-05-08"), np.datetime64("2017-10-04")
FIRST = np.datetime64("2017-03-03")
# Nothing is known of redemptions from then on.
END = np.datetime64("2018-01-01")
# Of fewer redemptions, the AUC of one campaign says nothing.
FEWEST = 10
BUDGET = 500
OURS, STRONG = "coldstart campaign", "demographics, frequency, spend and redemptions: logistic regression"
PLOT = EXPLANATION / "advertising.png"

Numbers: TypeAlias = NDArray[np.float64]
# Trained on earlier campaigns, it gives scores for the rows of one.
Method: TypeAlias = Callable[[Sequence[CampaignRows], CampaignRows], Numbers]


def main() -> None:
    """Measure all methods on the held-out campaigns and write the section."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", type=Path, required=True, help="contains the folder complete-journey")
    parser.add_argument("--validation", action="store_true", help="the earlier campaigns; write nothing")
    given = parser.parse_args()
    source = given.data_dir / "complete-journey"
    with tempfile.TemporaryDirectory() as folder:
        shop = Path(folder)
        write_tables(source, shop)
        settings = Enrichment()
        replace(settings, event_weights={**settings.event_weights, "coupon": 1.0}).write(shop / ENRICHMENT_FILE)
        behaviour = read_behaviour(shop, shop, shop / "campaigns")
    first, last = (VALIDATION, TEST) if given.validation else (TEST, None)
    held_out = [one for one in behaviour.campaigns if one.starts >= first and (last is None or one.starts < last)]
    known = Known(behaviour, source)
    found = {name: predicted(known, held_out, method) for name, method in methods(known).items()}
    lines = section(held_out, found)
    print("\n".join(lines), flush=True)
    if given.validation:
        return
    plot(held_out, found)
    text = made_by("make bench-ads DATA=folder", about(held_out), ("duckdb", "numpy", "scikit-learn", "scipy"))
    write_between(EXPLANATION / "advertising.md", "bench-ads", "\n".join([text, "", *lines]))


@dataclass(frozen=True)
class Known:
    """The shop, and what the baselines read of it."""

    behaviour: Behaviour
    source: Path

    def demographics(self) -> pd.DataFrame:
        """One column for each value of each attribute, one row a household; without any for two thirds of them."""
        with duckdb.connect() as con:
            frame = con.execute(f"FROM read_parquet('{self.source / 'demographics.parquet'}')").df()
        return pd.get_dummies(frame.set_index("household_id").fillna("unknown")).astype(float)

    def spend(self) -> pd.DataFrame:
        """household_id, moment, value of each line."""
        with duckdb.connect() as con:
            return con.execute(f"""
                SELECT household_id, transaction_timestamp AS moment, sales_value
                FROM read_parquet('{self.source / 'transactions_sample.parquet'}')
            """).df()


def predicted(known: Known, held_out: Sequence[Campaign], method: tuple[Method, np.datetime64 | None]) -> list[Numbers]:
    """The scores of each held-out campaign's contacts, learned from campaigns that had ended.

    Args:
        known: the shop.
        held_out: the campaigns.
        method: with the moment at which what is known of users ends, for all campaigns, if it does.
    """
    score, as_of = method
    found = []
    for campaign in held_out:
        ended = [one for one in known.behaviour.campaigns if one.ends <= campaign.starts]
        rows = [known.behaviour.rows(one, as_of=as_of) for one in [*ended, campaign]]
        found.append(score(rows[:-1], rows[-1]))
    return found


def methods(known: Known) -> dict[str, tuple[Method, np.datetime64 | None]]:
    """All methods; `coldstart campaign` first."""
    demographics, spend = known.demographics(), known.spend()
    households = {name: row for row, name in enumerate(demographics.index)}
    values = np.vstack([demographics.to_numpy(), np.zeros(demographics.shape[1])])

    def of_household(rows: CampaignRows) -> Numbers:
        found = np.array([households.get(user, len(households)) for user in rows.users])
        return np.column_stack([values[found], found < len(households)])

    def bought(measure: str, rows: CampaignRows) -> Numbers:
        before = spend[spend["moment"] < pd.Timestamp(rows.campaign.starts)].groupby("household_id")["sales_value"]
        found = before.agg(measure).reindex(list(rows.users)).fillna(0)
        return np.asarray(np.log1p(found.clip(lower=0).to_numpy(np.float64)))[:, None]

    def frequency(rows: CampaignRows) -> Numbers:
        return bought("count", rows)

    def spent(rows: CampaignRows) -> Numbers:
        return bought("sum", rows)

    def column(*names: str) -> Callable[[CampaignRows], Numbers]:
        return lambda rows: rows.features[:, [rows.names.index(name) for name in names]]

    campaign = column("promoted texts", "share of events alike")
    past = column("responses", "response rate", "days since a response")
    blocks = (of_household, frequency, column("events"), spent, past, campaign)

    def strong(rows: CampaignRows) -> Numbers:
        return np.column_stack([block(rows) for block in blocks])

    def with_coupons(rows: CampaignRows) -> Numbers:
        return np.column_stack([strong(rows), column("coupon events")(rows)])

    def without(*names: str) -> Method:
        return regression(lambda rows: column(*[name for name in rows.names if name not in names])(rows))

    def alone(block: Callable[[CampaignRows], Numbers]) -> Method:
        return lambda _, rows: block(rows)[:, 0]

    def ours(earlier: Sequence[CampaignRows], rows: CampaignRows) -> Numbers:
        return ResponseModel.fit(earlier).probabilities(rows)

    def ours_before_all(_: Sequence[CampaignRows], rows: CampaignRows) -> Numbers:
        ended = [known.behaviour.rows(one) for one in known.behaviour.campaigns if one.ends <= TEST]
        return ResponseModel.fit(ended).probabilities(rows)

    now: dict[str, Method] = {
        OURS: ours,
        "purchase frequency": alone(frequency),
        f"purchase frequency of {DAYS} days": alone(column("events")),
        "spend": alone(spent),
        "past redemption rate": alone(column("response rate")),
        "demographics: logistic regression": regression(
            lambda rows: np.column_stack([of_household(rows), campaign(rows)])
        ),
        STRONG: regression(strong, ridge=300),
        "the same: random forest": forest(strong),
        "the same and coupons used: logistic regression": regression(with_coupons, ridge=300),
        "ours without texts": without("events alike", "share of events alike"),
        "ours without coupons used": without("coupon events"),
        "ours without earlier campaigns": without("responses", "response rate", "days since a response"),
        "ours with demographics": regression(lambda rows: np.column_stack([rows.features, of_household(rows)])),
    }
    return {name: (method, None) for name, method in now.items()} | {
        "ours, users and model as of 2017-10-04": (ours_before_all, TEST),
        "ours, users as of 2017-03-03": (ours, FIRST),
    }


def regression(block: Callable[[CampaignRows], Numbers], ridge: float = 100.0) -> Method:
    """Logistic regression on features of unit variance."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return _learned(block, lambda: make_pipeline(StandardScaler(), LogisticRegression(C=1 / ridge, max_iter=1_000)))


def forest(block: Callable[[CampaignRows], Numbers]) -> Method:
    """A random forest."""
    from sklearn.ensemble import RandomForestClassifier

    return _learned(block, lambda: RandomForestClassifier(500, min_samples_leaf=10, random_state=0))


def _learned(block: Callable[[CampaignRows], Numbers], make: Callable[[], Any]) -> Method:
    def score(earlier: Sequence[CampaignRows], rows: CampaignRows) -> Numbers:
        learned = np.concatenate([block(one) for one in earlier])
        responded = np.concatenate([one.responded for one in earlier])
        return np.asarray(make().fit(learned, responded).predict_proba(block(rows))[:, 1], np.float64)

    return score


def auc_parts(responded: NDArray[np.bool_], scores: Numbers) -> Numbers:
    """(n,) values whose mean is the AUC and whose deviations are each user's influence on it (DeLong et al. 1988)."""
    positive, negative = scores[responded], scores[~responded]
    wins = (positive[:, None] > negative) + 0.5 * (positive[:, None] == negative)
    found = np.empty(len(scores))
    found[responded], found[~responded] = wins.mean(axis=1), wins.mean(axis=0)
    share = np.where(responded, responded.mean(), 1 - responded.mean())
    return np.asarray(wins.mean() + (found - wins.mean()) / share)


def best_parts(responded: NDArray[np.bool_], scores: Numbers) -> Numbers:
    """(n,) the same of the precision at 10 %, at a given threshold."""
    chosen = np.zeros(len(scores), np.bool_)
    chosen[np.argsort(-scores, kind="stable")[: -(-len(scores) // 10)]] = True
    precision = responded[chosen].mean()
    return np.asarray(precision + np.where(chosen, responded - precision, 0) / chosen.mean())


def section(held_out: Sequence[Campaign], found: dict[str, list[Numbers]]) -> list[str]:
    """The tables."""
    responded = [~np.isnat(one.responded) for one in held_out]
    rated = [row for row, one in enumerate(responded) if one.sum() >= FEWEST]
    users = np.unique(np.concatenate([held_out[row].users for row in rated]), return_inverse=True)[1]
    draws = np.repeat(rated, [len(responded[row]) for row in rated])
    rows = []
    parts = {
        name: [np.concatenate([part(responded[row], scores[row]) for row in rated]) for part in (auc_parts, best_parts)]
        for name, scores in found.items()
    }
    for name, measured in parts.items():
        cells = [name]
        for place, values in enumerate(measured):
            mean = np.mean([values[draws == row].mean() for row in rated])
            cells.append(f"{mean:.3f}")
            if name != OURS:
                low, high = intervals((parts[OURS][place] - values)[:, None], users, draws)[0]
                gain = np.mean([(parts[OURS][place] - values)[draws == row].mean() for row in rated])
                cells.append(f"{gain:+.3f} ({low:+.3f} to {high:+.3f})")
            else:
                cells.append("")
        rows.append(cells)
    head = ("method", "AUC", "ours minus this", "precision at 10 %", "ours minus this")
    others = [*_calibrated(held_out, responded, found), "", *_budgeted(held_out, responded, found)]
    return [*table(head, rows), "", *others]


def _calibrated(
    held_out: Sequence[Campaign], responded: Sequence[NDArray[np.bool_]], found: dict[str, list[Numbers]]
) -> list[str]:
    ended = [row for row, one in enumerate(held_out) if one.ends <= END]
    rows = []
    for title, places in (("all", range(len(held_out))), ("ended in the data", ended)):
        outcomes = np.concatenate([responded[row] for row in places])
        for name in (OURS, STRONG, "the same: random forest"):
            scores = np.concatenate([found[name][row] for row in places])
            rows.append((name, title, f"{len(scores):,}", f"{scores.sum():.0f}", f"{outcomes.sum()}",
                         f"{((scores - outcomes) ** 2).mean():.4f}", f"{_error(scores, outcomes):.4f}"))  # fmt: skip
        rows.append(("the rate of these campaigns for everybody, known afterwards", title, f"{len(outcomes):,}",
                     f"{outcomes.sum()}", f"{outcomes.sum()}",
                     f"{outcomes.mean() * (1 - outcomes.mean()):.4f}", "0"))  # fmt: skip
    each = []
    for one, done, scores in zip(held_out, responded, found[OURS], strict=True):
        last = one.ends - np.timedelta64(1, "D")
        each.append((one.campaign_id, f"{one.starts.item():%Y-%m-%d}", f"{last.item():%Y-%m-%d}", f"{len(done):,}",
                     f"{done.sum()}", f"{scores.sum():.0f}"))  # fmt: skip
    head = ("method", "campaigns", "contacts", "expected", "redeemed", "Brier score", "calibration error")
    return [
        "Probabilities; the calibration error is the mean distance of expected and redeemed shares over ten groups of "
        "equal size:", "",
        *table(head, rows), "",
        "By campaign:", "", *table(("campaign", "starts", "ends", "contacts", "redeemed", "expected"), each),
    ]  # fmt: skip


def _error(scores: Numbers, outcomes: NDArray[np.bool_]) -> float:
    """The expected calibration error over ten groups of equal size."""
    groups = np.array_split(np.argsort(scores, kind="stable"), 10)
    return float(sum(abs(scores[rows].sum() - outcomes[rows].sum()) for rows in groups) / len(scores))


def _budgeted(
    held_out: Sequence[Campaign], responded: Sequence[NDArray[np.bool_]], found: dict[str, list[Numbers]]
) -> list[str]:
    """Whom a budget for all held-out campaigns reaches."""
    rows = []
    ended = [row for row, one in enumerate(held_out) if one.ends <= END]
    for title, places in (("all", list(range(len(held_out)))), ("ended in the data", ended)):
        users = np.concatenate([held_out[row].users for row in places])
        outcomes = np.concatenate([responded[row] for row in places])
        told = (title, f"{outcomes.sum()}")
        for name, cap in ((OURS, None), (OURS, 1), (OURS, 2), (STRONG, None), ("the same: random forest", None),
                          ("purchase frequency", None)):  # fmt: skip
            scores = np.concatenate([found[name][row] for row in places])
            expected, done = _reached(users, scores, outcomes, cap)
            shown = "" if name == "purchase frequency" else f"{expected:.0f}"
            rows.append((name, f"{cap or 'none'}", *told, shown, f"{done}"))
        rows.append(("at random", "none", *told, "", f"{BUDGET * outcomes.mean():.0f}"))
    head = ("method", "cap a household", "campaigns", "redemptions", "expected of the chosen", "redeemed")
    return [f"A budget of {BUDGET} contacts for all of them together:", "", *table(head, rows)]


def _reached(
    users: NDArray[np.str_], scores: Numbers, outcomes: NDArray[np.bool_], cap: int | None
) -> tuple[float, int]:
    """The expected and the actual redemptions of those whom the budget reaches."""
    candidates = pd.DataFrame({
        "user_id": users, "probability": scores / max(scores.max(), 1), "scores": scores, "redeemed": outcomes,
    })  # fmt: skip
    with connect() as con:
        con.register("candidates", candidates)
        expected, done = con.execute(f"""
            SELECT sum(scores), sum(redeemed::INTEGER)
            FROM campaign_audience('candidates', budget := {BUDGET}, cap := {cap or "NULL"})
        """).fetchall()[0]
        con.unregister("candidates")
    return float(expected), int(done)


def about(held_out: Sequence[Campaign]) -> str:
    """How it was measured."""
    return (
        f"{len(held_out)} campaigns from {TEST} on, with {sum(len(one.users) for one in held_out):,} contacts. AUC and "
        f"precision are means over campaigns with at least {FEWEST} redemptions, of the ranking within each campaign. "
        "Intervals are 95 %, with campaigns and households as sources of chance. All methods learn from the campaigns "
        "that had ended when a campaign started."
    )


def plot(held_out: Sequence[Campaign], found: dict[str, list[Numbers]]) -> None:
    """Draw how often households redeemed at each expected probability, in campaigns that ended in the data."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    ended = [row for row, one in enumerate(held_out) if one.ends <= END]
    outcomes = np.concatenate([~np.isnat(held_out[row].responded) for row in ended])
    figure, axes = pyplot.subplots(figsize=(5.2, 4.6), layout="constrained")
    axes.plot([0, 1], [0, 1], color="0.6", linewidth=1)
    for name, colour, marker in ((OURS, "#0072B2", "o"), (STRONG, "#E69F00", "s")):
        scores = np.concatenate([found[name][row] for row in ended])
        groups = np.array_split(np.argsort(scores, kind="stable"), 10)
        at = [scores[rows].mean() for rows in groups]
        share = np.array([outcomes[rows].mean() for rows in groups])
        error = 1.96 * np.sqrt(share * (1 - share) / [len(rows) for rows in groups])
        axes.errorbar(at, share, error, color=colour, marker=marker, capsize=3, linewidth=1,
                      label=name if name == OURS else "demographics, frequency,\nspend and redemptions")  # fmt: skip
    axes.set(xlabel="expected probability of a redemption", ylabel="share that redeemed", xlim=(0, 0.8), ylim=(0, 0.8))
    axes.legend(frameon=False)
    figure.savefig(PLOT, dpi=110)
    pyplot.close(figure)


if __name__ == "__main__":
    main()
