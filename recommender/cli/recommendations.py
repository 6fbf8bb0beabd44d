"""Commands of the recommender: `coldstart train`, `recommend`, `audience` and `explain`."""

from __future__ import annotations

from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from coldstart_udfs.console import console, progress
from coldstart_udfs.errors import ColdStartError
from coldstart_udfs.settings import ENRICHMENT_FILE
from recommender.cli.checks import warn, warn_of_repo
from recommender.cli.events import EVENTS, EventsOption
from recommender.cli.options import (
    BUNDLE,
    DATA,
    REPO,
    BundleOption,
    DataOption,
    PriorOption,
    RepoOption,
    TrackOption,
    parse_date,
)
from recommender.cli.parameters import told, weights_table
from recommender.cli.tracking import tell_training
from recommender.tracking import RUNS, tracked

if TYPE_CHECKING:
    import pandas as pd
    from feast import FeatureStore

    from recommender.model.recommender import HybridRecommender

CountOption = Annotated[int, typer.Option("-k", min=1, help="The number of rows to show.")]
UserText = Annotated[str | None, typer.Option(help="What is known of the user, in words.")]
UserId = Annotated[str | None, typer.Option(help="The id of the user. Default: a new user.")]

AsOfOption = Annotated[
    datetime | None,
    typer.Option(
        metavar="YYYY-MM-DD", parser=parse_date,
        help="Measure the age of items at this moment (UTC; YYYY-MM-DDTHH:MM:SS works too), and leave out those that "
        "came later. Default: the last interaction of the training.",
    ),
]

_NUMBERS = ("score", "popularity", "lightfm", "history", "text", "activity")


def train(
    data: DataOption = DATA,
    repo: RepoOption = REPO,
    bundle: BundleOption = BUNDLE,
    cutoff: Annotated[
        datetime | None,
        typer.Option(
            metavar="YYYY-MM-DD", parser=parse_date,
            help="Learn from interactions before this date (UTC; YYYY-MM-DDTHH:MM:SS works too). Default: the last "
            "snapshot of the profiles with a tenth of the interactions after it; interactions without time are divided "
            "by chance.",
        ),
    ] = None,
    search: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Search LightFM's settings too, in this many trials (needs the extra `search`). A larger number "
            "continues an earlier search.",
        ),
    ] = None,
    prior: PriorOption = "none",
    track: TrackOption = None,
) -> None:
    """Train the recommender and save it as a bundle.

    Features are read through Feast. Parameters are chosen on held-out interactions, and alpha is written to
    enrichment.json. In a shop with few users, a prior decides most of what the parts of a score weigh, if one is given.
    `coldstart runs` shows the record of the run, in the folder `runs` beside the bundle.

    Examples:
        coldstart train
        coldstart train --cutoff 2011-08-01 --search 20 --prior public
    """
    from recommender.model.bundle import read_manifest
    from recommender.pipeline.training import train as run
    from recommender.tuning.prior import Prior

    chosen_prior = Prior.named(prior)
    with tracked("train", track, bundle.parent / RUNS.name) as tracker:
        tracker.parameters({
            "data": data, "repo": repo, "bundle": bundle, "cutoff": cutoff, "search": search, "prior": prior
        })  # fmt: skip
        with progress() as report:
            model = run(
                data, repo, bundle, cutoff=cutoff and cutoff.replace(tzinfo=UTC), search=search, prior=chosen_prior,
                report=report, on_step=lambda step, values: tracker.metrics(values, step),
            )  # fmt: skip
        manifest = read_manifest(bundle)
        tell_training(tracker, manifest)
    chosen = model.parameters
    for name, value, how in told(chosen):
        if name in chosen.source:
            console.print(f"{name:<22}{value:<10}{how}", markup=False, soft_wrap=True)
    console.print(weights_table(chosen.weights))
    if manifest["cutoff"] is None:
        count = manifest["held_out"]
        console.print(
            f"the interactions have no time, so parameters are chosen on {count:,} of them that were drawn by chance",
            soft_wrap=True,
        )
    console.print(f"bundle → {bundle}, alpha → {repo / ENRICHMENT_FILE}; next: feast -c {repo} apply")


def recommend(
    description: UserText = None,
    user_id: UserId = None,
    k: CountOption = 10,
    explain: Annotated[bool, typer.Option("--explain", help="Add a sentence of explanation to each row.")] = False,
    as_of: AsOfOption = None,
    repo: RepoOption = REPO,
    bundle: BundleOption = BUNDLE,
    events: EventsOption = EVENTS,
) -> None:
    """Show the best items for a user.

    The user is given by id, in words, or both. Features are read from Feast's online store. Items that were put since
    the training are in the list.

    Examples:
        coldstart recommend --description "vintage enamel for a garden cafe"
        coldstart recommend --user-id 17850 -k 5 --explain
    """
    if not description and not user_id:
        raise ColdStartError("no user is given; give --description TEXT, --user-id ID, or both")
    from recommender.model.linked import LinkedRecommender
    from recommender.model.recommender import HybridRecommender
    from recommender.pipeline.online import NEW, online_user, open_store

    model = HybridRecommender.load(bundle)
    with console.status("features through Feast …"):
        store = open_store(repo)
        user = online_user(store, model, user_id or NEW, description)
    warn_of_repo(repo, bundle, store)
    if find_spec("sqlalchemy") is not None:
        model = _with_put_items(model, store, bundle, events)
    linked = LinkedRecommender.of(model, repo)
    if as_of is not None and linked is not None:
        raise ColdStartError(f"--as-of is for shops without a link, and {repo} has one; leave it out")
    if as_of is not None:
        moment = as_of.replace(tzinfo=UTC)
        ranking = model.as_of(moment).recommend(user, k, explain=explain, without=model.came_after(moment))
    else:
        ranking = (linked or model).recommend(user, k, explain=explain)
    _show_ranking(ranking, f"for user {user_id or NEW}", "user_id", description)


def audience(
    description: Annotated[str | None, typer.Option(help="The text of the item.")] = None,
    item_id: Annotated[str | None, typer.Option(help="The id of the item. Default: a new item.")] = None,
    k: CountOption = 10,
    repo: RepoOption = REPO,
    bundle: BundleOption = BUNDLE,
) -> None:
    """Show the users who would value an item most.

    The item is given by id, in words, or both. Features are read from Feast's online store. For an item without buyers
    their number is predicted, with an interval in which nine of ten new items lie. Where campaigns have been sent
    before, `coldstart campaign audience` says who responds, and spends a budget.

    Examples:
        coldstart audience --description "set of 6 herb garden tin pots"
        coldstart audience --item-id 22430 -k 20
    """
    if not description and not item_id:
        raise ColdStartError("no item is given; give --description TEXT, --item-id ID, or both")
    from recommender.model.recommender import HybridRecommender
    from recommender.pipeline.online import NEW, online_item, open_store

    model = HybridRecommender.load(bundle)
    with console.status("features through Feast …"):
        store = open_store(repo)
        item = online_item(store, model, item_id or NEW, description)
    warn_of_repo(repo, bundle, store)
    _show_ranking(model.audience(item, k), f"for item {item_id or NEW}", "item_id", description)
    _show_demand(model.expected_demand(item, unknown="popularity").iloc[0])


def explain(
    item_id: Annotated[str, typer.Option(help="The id of an item in the online store or the bundle.")],
    description: UserText = None,
    user_id: UserId = None,
    repo: RepoOption = REPO,
    bundle: BundleOption = BUNDLE,
    events: EventsOption = EVENTS,
) -> None:
    """Show the terms that add up to the score of one item.

    Examples:
        coldstart explain --item-id 22430 --user-id 17850
        coldstart explain --item-id 22430 --description "vintage enamel"
    """
    if not description and not user_id:
        raise ColdStartError("no user is given; give --description TEXT, --user-id ID, or both")
    from recommender.model.linked import LinkedRecommender
    from recommender.model.recommender import HybridRecommender
    from recommender.model.requests import UnknownIdError
    from recommender.pipeline.online import NEW, online_item, online_user, open_store, request_encoder

    model = HybridRecommender.load(bundle)
    with console.status("features through Feast …"):
        store = open_store(repo)
        user = online_user(store, model, user_id or NEW, description)
        item = online_item(store, model, item_id)
        if find_spec("sqlalchemy") is not None:
            model = _with_put_items(model, store, bundle, events)
        if model.fitted.items.row(item_id) < 0 and not item.descriptions[0] and not item.attributes[0]:
            raise UnknownIdError(f"item {item_id} is neither in {bundle} nor in the online store; give one that is")
        terms = (LinkedRecommender.of(model, repo) or model).explain(user, item, encoder=request_encoder(store))
    warn_of_repo(repo, bundle, store)
    named = f"item {item_id} ({item.descriptions[0]})" if item.descriptions[0] else f"item {item_id}"
    console.print(f"{named} for user {user_id or NEW}{_quoted(description)}", style="bold", markup=False)
    table = Table("term", "kind")
    table.add_column("value", justify="right")
    for term, kind, value in terms[["term", "kind", "value"]].itertuples(index=False):
        table.add_row(escape(term), kind, f"{value:+.3f}")
    table.add_section()
    table.add_row("score", "", f"{terms['value'].sum():+.3f}")
    console.print(table)


def _with_put_items(model: HybridRecommender, store: FeatureStore, bundle: Path, events: str) -> HybridRecommender:
    """The recommender with the items that were put since the training; a shop may be one that can only be read."""
    from recommender.model.recommender import HybridRecommender
    from recommender.pipeline.online import request_encoder
    from recommender.serve.events.log import EventLogError
    from recommender.serve.events.put_items import put_items, with_items

    try:
        put = put_items(bundle, events)
    except EventLogError as error:
        if events != EVENTS:
            raise
        warn(f"items that were put since the training are left out: {error}")
        return model
    return HybridRecommender.of(with_items(model.fitted, put, request_encoder(store))) if put else model


def _show_ranking(ranking: pd.DataFrame, title: str, asked: str, description: str | None) -> None:
    if ranking.empty:
        console.print(f"{title}: nothing is left to rank", markup=False)
        return
    console.print(f"{title} ({ranking['tier'].iloc[0]}){_quoted(description)}", style="bold", markup=False)
    columns = [name for name in ranking.columns if name not in (asked, "tier")]
    table = Table()
    for name in columns:
        table.add_column(name, justify="right" if name in (*_NUMBERS, "rank") else "left")
    for row in ranking[columns].itertuples(index=False):
        cells = zip(columns, row, strict=True)
        # Escaped: Rich would read "[red]" in a text of the shop as a colour.
        table.add_row(*(escape(_cell(name, value)) for name, value in cells))
    console.print(table)


def _cell(name: str, value: Any) -> str:
    """A value; of a long description the beginning, because an article would fill the screen."""
    from recommender.model.explain import shortened

    if name in _NUMBERS:
        return f"{value:+.2f}"
    return shortened(str(value)) if name == "description" else str(value)


def _show_demand(expected: pd.Series) -> None:
    among = f"percentile {expected['percentile']:.0f} of the items with history"
    known = expected["low"] == expected["high"] == expected["buyers"]
    buyers = f"{expected['buyers']:,.0f} buyers" if known else (
        f"about {expected['buyers']:,.0f} buyers expected, 90 % of such items have {expected['low']:,} to "
        f"{expected['high']:,}"
    )  # fmt: skip
    console.print(f"{buyers}; {among}", soft_wrap=True)


def _quoted(description: str | None) -> str:
    return f': "{description}"' if description else ""
