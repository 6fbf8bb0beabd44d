"""`coldstart campaign …`: who responds to campaigns, and whom to contact."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from coldstart_udfs.console import console, progress
from coldstart_udfs.errors import ColdStartError
from recommender.cli.command import Command, Group
from recommender.cli.options import DATA, REPO, DataOption, RepoOption

campaign_app = typer.Typer(
    name="campaign", cls=Group, no_args_is_help=True, help="Choose whom a campaign contacts, within a budget."
)

CAMPAIGNS = Path("campaigns")
CampaignsOption = Annotated[
    Path,
    typer.Option("--campaigns", metavar="FOLDER", help="The tables campaigns, contacts and campaign_items."),
]
_FEW = 5


@campaign_app.command(cls=Command)
def replay(campaigns: CampaignsOption = CAMPAIGNS, data: DataOption = DATA, repo: RepoOption = REPO) -> None:
    """Predict each past campaign as of its start.

    The model of a campaign learns from those that had ended, and sees of users what happened before the start. AUC is
    the probability that a user who responded is ranked above one who did not; the best tenth are the users with the
    highest probabilities.

    Examples:
        coldstart campaign replay
        coldstart campaign replay --campaigns mailings --data shop/data
    """
    from recommender.pipeline.campaigns import FEWEST_RESPONSES, read_behaviour
    from recommender.pipeline.campaigns import replay as run

    with progress() as report:
        behaviour = read_behaviour(data, repo, campaigns, report=report)
        replayed = list(run(behaviour, report=report))
    if not replayed:
        raise ColdStartError(
            f"no campaign started after others had ended with {FEWEST_RESPONSES} responses; add earlier campaigns to "
            f"{campaigns}"
        )
    table = Table("campaign", "starts")
    for name in ("contacts", "responded", "expected", "AUC", "best tenth"):
        table.add_column(name, justify="right")
    for one in replayed:
        responded = one.rows.responded
        auc = f"{one.auc:.2f}" if min(responded.sum(), (~responded).sum()) >= _FEW else ""
        table.add_row(
            escape(one.rows.campaign.campaign_id), f"{one.rows.campaign.starts.item():%Y-%m-%d}",
            f"{len(responded):,}", f"{responded.sum():,}", f"{one.probabilities.sum():,.0f}", auc,
            f"{100 * one.best_tenth:.0f} %",
        )  # fmt: skip
    console.print(table)
    done, expected = sum(one.rows.responded.sum() for one in replayed), sum(one.probabilities.sum() for one in replayed)
    console.print(
        f"{len(behaviour.campaigns):,} campaigns, {len(replayed):,} of them predicted: {done:,} responses, "
        f"{expected:,.0f} expected", soft_wrap=True,
    )  # fmt: skip


@campaign_app.command(cls=Command)
def audience(
    campaign_id: Annotated[
        str, typer.Argument(metavar="CAMPAIGN", help="Its contacts are the candidates; without any, all users are.")
    ],
    budget: Annotated[float | None, typer.Option(min=0, help="The most to spend. Default: no limit.")] = None,
    cost: Annotated[float, typer.Option(help="Of a contact. Default: a budget is a number of contacts.")] = 1.0,
    value: Annotated[
        float | None, typer.Option(help="Of a response; users who are not worth a contact are left out.")
    ] = None,
    cap: Annotated[
        int | None, typer.Option(min=1, help="The most contacts of a user in --days, this one among them.")
    ] = None,
    days: Annotated[int, typer.Option(min=1, help="Before the start; see --cap.")] = 28,
    k: Annotated[int, typer.Option("-k", min=1, help="The number of rows to show.")] = 10,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write all candidates to this Parquet file; those with a rank are chosen."),
    ] = None,
    campaigns: CampaignsOption = CAMPAIGNS,
    data: DataOption = DATA,
    repo: RepoOption = REPO,
) -> None:
    """Choose whom to contact, so that most respond.

    The model learns from the campaigns that end before this one starts. The SQL function campaign_audience() chooses in
    the same way from any table of probabilities; `coldstart audience` ranks users for one item, without past campaigns.

    Examples:
        coldstart campaign audience 26 --budget 500
        coldstart campaign audience 26 --budget 500 --cost 0.4 --value 6 --cap 2
    """
    from recommender.pipeline.campaigns import audience as run
    from recommender.pipeline.campaigns import check_file, read_behaviour, write_candidates

    if out is not None:
        check_file(out, data, campaigns)
    with progress() as report:
        behaviour = read_behaviour(data, repo, campaigns, report=report)
    found = run(behaviour, campaign_id, budget=budget, cost=cost, value=value, cap=cap, days=days)
    chosen = found[found["rank"].notna()]
    if out is not None:
        write_candidates(found, out)
    table = Table("rank", "user_id", "probability", "contacts", "spent")
    for row in chosen.head(k).itertuples(index=False):
        table.add_row(f"{row.rank}", escape(str(row.user_id)), f"{row.probability:.3f}", f"{row.contacts}",
                      f"{row.spent:g}")  # fmt: skip
    console.print(table)
    spent = float(chosen["spent"].max()) if len(chosen) else 0.0
    console.print(
        f"campaign {campaign_id}: {len(chosen):,} of {len(found):,} candidates for {spent:g}; expected responses "
        f"{chosen['probability'].sum():.1f}, of all candidates {found['probability'].sum():.1f}"
        + (f" → {out}" if out else ""),
        markup=False, soft_wrap=True,
    )  # fmt: skip
