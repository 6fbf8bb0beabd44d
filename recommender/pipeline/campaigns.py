"""Who responds to a campaign: a response model of ended campaigns, its replay in time, and a budgeted audience."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from coldstart_udfs import connect
from coldstart_udfs.console import Report, no_report
from coldstart_udfs.encoder.encoder import shared_encoder
from coldstart_udfs.errors import ColdStartError
from coldstart_udfs.files import staged
from recommender.data.campaigns import TABLES as CAMPAIGN_TABLES
from recommender.data.campaigns import Campaign, read_campaigns
from recommender.data.contract import TABLES
from recommender.data.dataset import settings_of
from recommender.data.raw_files import tables_of
from recommender.data.tables import load
from recommender.pipeline.campaign_rows import Behaviour, CampaignRows, Numbers

# Chosen on campaigns of Complete Journey before those that docs/explanation/advertising.md reports on.
RIDGE = 100.0
FEWEST_RESPONSES = 20
# No user gets as many contacts; SQL has no larger numbers.
MOST = 1_000_000_000


@dataclass(frozen=True)
class ResponseModel:
    """A logistic regression of responses on features of unit variance.

    Attributes:
        names: (m,) of the features.
        low: (m,) the smallest value of each feature in the campaigns that it learned from, and
        high: (m,) the largest; others count as the nearest of the two, for a few campaigns do not tell how to go on.
        mean: (m,) of each feature in these campaigns, and
        scale: (m,) its standard deviation.
        weights: (m,) of the scaled features.
        intercept: the log odds at the mean.
    """

    names: tuple[str, ...]
    low: Numbers
    high: Numbers
    mean: Numbers
    scale: Numbers
    weights: Numbers
    intercept: float

    @classmethod
    def fit(cls, campaigns: Sequence[CampaignRows], ridge: float = RIDGE) -> ResponseModel:
        """Fit on campaigns with known responses.

        Args:
            campaigns: rows of ended campaigns.
            ridge: the penalty of squared weights.

        Raises:
            ColdStartError: there are fewer than FEWEST_RESPONSES responses, or everybody responded.
        """
        from sklearn.linear_model import LogisticRegression

        responded = np.concatenate([rows.responded for rows in campaigns]) if campaigns else np.zeros(0, bool)
        if responded.sum() < FEWEST_RESPONSES or responded.all():
            raise ColdStartError(
                f"{len(campaigns):,} campaigns have ended before, with {responded.sum():,} responses of "
                f"{len(responded):,} contacts; at least {FEWEST_RESPONSES} responses are needed, and some contacts "
                "without one. Until then, `coldstart audience` ranks users for an item or a text"
            )
        features = np.concatenate([rows.features for rows in campaigns])
        mean, scale = features.mean(axis=0), features.std(axis=0)
        scale[scale < 1e-9] = 1
        fitted = LogisticRegression(C=1 / ridge, max_iter=1_000).fit((features - mean) / scale, responded)
        return cls(
            campaigns[0].names, features.min(axis=0), features.max(axis=0), mean, scale, fitted.coef_[0],
            float(fitted.intercept_[0]),
        )  # fmt: skip

    def probabilities(self, rows: CampaignRows) -> Numbers:
        """(n,) the probability that each user responds."""
        from scipy.special import expit

        known = np.clip(rows.features, self.low, self.high)
        odds = (known - self.mean) / self.scale @ self.weights + self.intercept
        return np.asarray(expit(odds), np.float64)


@dataclass(frozen=True)
class Replayed:
    """A campaign as it would have been predicted when it started.

    Attributes:
        rows: its contacts.
        probabilities: (n,) by the model of the campaigns that had ended.
    """

    rows: CampaignRows
    probabilities: Numbers

    @property
    def auc(self) -> float:
        """The probability that a user who responded ranks above one who did not; both must exist."""
        from sklearn.metrics import roc_auc_score

        return float(roc_auc_score(self.rows.responded, self.probabilities))

    @property
    def best_tenth(self) -> float:
        """The share of users who responded, of the tenth (rounded up) with the highest probabilities."""
        count = -(-len(self.probabilities) // 10)
        best = np.argsort(-self.probabilities, kind="stable")[:count]
        return float(self.rows.responded[best].mean())


def read_behaviour(data: Path, repo: Path, folder: Path, *, report: Report = no_report) -> Behaviour:
    """Read a shop and its campaigns.

    Args:
        data: the tables of the data contract.
        repo: the Feast repository, for the encoder and the event types.
        folder: the tables of `read_campaigns`.
        report: called with (stage, done, total).

    Raises:
        ContractError: tables break their rules.
        ColdStartError: there is no such repository.
    """
    settings = settings_of(repo)
    with connect(enrichment=settings) as con:
        load(con, data, settings.event_weights)
        campaigns = read_campaigns(con, folder)
        encoder = shared_encoder(settings.model, backend=settings.backend)
        return Behaviour.read(con, campaigns, encoder, settings.event_weights, report=report)


def fit_before(behaviour: Behaviour, moment: np.datetime64) -> ResponseModel:
    """Fit on the campaigns that had ended at a moment.

    Raises:
        ColdStartError: as `ResponseModel.fit`.
    """
    ended = [one for one in behaviour.campaigns if one.ends <= moment and one.users]
    return ResponseModel.fit([behaviour.rows(one) for one in ended])


def replay(behaviour: Behaviour, *, report: Report = no_report) -> Iterator[Replayed]:
    """Predict each campaign, in the order of their starts, from those that had ended; the first ones are left out."""
    asked = [one for one in behaviour.campaigns if one.users]
    for done, campaign in enumerate(asked):
        report("campaigns", done, len(asked))
        try:
            model = fit_before(behaviour, campaign.starts)
        except ColdStartError:
            continue
        rows = behaviour.rows(campaign)
        yield Replayed(rows, model.probabilities(rows))
    report("campaigns", len(asked), len(asked))


def campaign_of(behaviour: Behaviour, campaign_id: str) -> Campaign:
    """The campaign with an id.

    Raises:
        ColdStartError: there is none.
    """
    for one in behaviour.campaigns:
        if one.campaign_id == campaign_id:
            return one
    latest = ", ".join(one.campaign_id for one in behaviour.campaigns[-5:]) or "none"
    raise ColdStartError(
        f"there is no campaign {campaign_id!r} among the {len(behaviour.campaigns):,}; the latest are {latest}"
    )


def audience(
    behaviour: Behaviour, campaign_id: str, *, budget: float | None = None, cost: float = 1.0,
    value: float | None = None, cap: int | None = None, days: int = 28,
) -> pd.DataFrame:  # fmt: skip
    """Choose whom to contact, so that the expected number of responses is largest within a budget.

    The choice is that of the SQL function `campaign_audience`.

    Args:
        behaviour: the shop and its campaigns.
        campaign_id: its contacts are the candidates; without contacts, all users are.
        budget: the most to spend on contacts.
        cost: of a contact, in the unit of the budget.
        value: of a response, in the same unit; who is not worth a contact is left out.
        cap: the most contacts of a user in `days` days, this one among them.
        days: before the start.

    Returns:
        One row for each candidate, those who are contacted first: campaign_id, user_id, probability, contacts (in the
        days before the start), rank (from 1; NULL if not contacted), spent (up to this row).

    Raises:
        ColdStartError: there is no such campaign, too few responses came before it, or a number is out of range.
    """
    if not 0 < cost < math.inf:
        raise ColdStartError(f"the cost of a contact is {cost:g}; it must be above 0, and is 1 unless given")
    for name, limit in (("budget", budget), ("value of a response", value), ("cap", cap)):
        if limit is not None and not 0 <= limit < math.inf:
            raise ColdStartError(f"the {name} is {limit:g}; it must be 0 or more, or not given, which is no limit")
    cap = None if cap is None else min(cap, MOST)
    campaign = campaign_of(behaviour, campaign_id)
    model = fit_before(behaviour, campaign.starts)
    rows = behaviour.rows(campaign, campaign.users or behaviour.user_ids)
    lately = behaviour.contacts(campaign.starts - np.timedelta64(days, "D"), campaign.starts)
    contacts = dict(zip(behaviour.user_ids, lately.tolist(), strict=True))
    candidates = pd.DataFrame({
        "campaign_id": campaign_id, "user_id": rows.users, "probability": model.probabilities(rows),
        "contacts": [contacts[name] for name in rows.users],
    })  # fmt: skip
    with connect() as con:
        con.register("candidates", candidates)
        return con.execute(
            """
            WITH chosen AS (
                SELECT user_id, rank, spent
                FROM campaign_audience('candidates', budget := $budget, cost := $cost, value := $value, cap := $cap)
            )
            SELECT candidates.*, rank, spent FROM candidates LEFT JOIN chosen USING (user_id)
            ORDER BY rank NULLS LAST, probability DESC, user_id
            """,
            {"budget": budget, "cost": cost, "value": value, "cap": cap},
        ).df()  # fmt: skip


def check_file(path: Path, data: Path, folder: Path) -> None:
    """Refuse a file that `write_candidates` cannot write, or that `read_behaviour` reads.

    Raises:
        ColdStartError: the name does not end in .parquet, there is no such folder, or it is one of the tables.
    """
    if path.suffix != ".parquet" or path.is_dir() or not path.absolute().parent.is_dir():
        raise ColdStartError(f"{path} is not a .parquet file in a folder that exists; give one, such as chosen.parquet")
    for place, names in ((data, [table.name for table in TABLES]), (folder, CAMPAIGN_TABLES)):
        tables = tables_of(place) if place.is_dir() else {}
        if path.exists() and any(path.samefile(file) for name, file in tables.items() if name in names):
            raise ColdStartError(f"{path} is a table of {place}; give another file, such as chosen.parquet")


def write_candidates(candidates: pd.DataFrame, path: Path) -> None:
    """Write the table of `audience` as Parquet, to a file of `check_file`."""
    with staged(path.absolute().parent) as scratch:
        candidates.to_parquet(scratch / path.name, index=False)
