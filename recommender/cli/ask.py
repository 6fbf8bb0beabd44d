"""`coldstart recommend`, `coldstart audience`, `coldstart explain`: the recommender asked, through Feast."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from coldstart_udfs.console import console
from coldstart_udfs.errors import ColdStartError
from recommender.cli.options import BUNDLE, REPO, BundleOption, RepoOption

if TYPE_CHECKING:
    import pandas as pd

CountOption = Annotated[int, typer.Option("-k", min=1, help="How many rows to show.")]

_PARTS = ("score", "popularity", "lightfm", "history", "text")


def recommend(
    description: Annotated[str | None, typer.Option(help="What the user says.")] = None,
    user_id: Annotated[str | None, typer.Option(help="A user who may be known; default: nobody is.")] = None,
    k: CountOption = 10,
    explain: Annotated[bool, typer.Option("--explain", help="Add a sentence to each row.")] = False,
    repo: RepoOption = REPO,
    bundle: BundleOption = BUNDLE,
) -> None:
    """The best items for a user, known or described in words; features come through Feast's online store."""
    if not description and not user_id:
        raise ColdStartError("say who it is for: --description TEXT, --user-id ID, or both")
    from recommender.model.recommender import HybridRecommender
    from recommender.pipeline.online import NEW, online_user, open_store

    model = HybridRecommender.load(bundle)
    with console.status("features through Feast …"):
        user = online_user(open_store(repo), model, user_id or NEW, description)
    ranking = model.recommend(user, k, explain=explain)
    _show_ranking(ranking, f"for user {user_id or NEW}", "user_id", description)


def audience(
    description: Annotated[str | None, typer.Option(help="The item's text.")] = None,
    item_id: Annotated[str | None, typer.Option(help="An item that may be known; default: nobody bought it.")] = None,
    k: CountOption = 10,
    repo: RepoOption = REPO,
    bundle: BundleOption = BUNDLE,
) -> None:
    """The existing users to whom an item, known or described in words, would matter most."""
    if not description and not item_id:
        raise ColdStartError("say what it is: --description TEXT, --item-id ID, or both")
    from recommender.model.recommender import HybridRecommender
    from recommender.pipeline.online import NEW, online_item, open_store

    model = HybridRecommender.load(bundle)
    with console.status("features through Feast …"):
        item = online_item(open_store(repo), model, item_id or NEW, description)
    _show_ranking(model.audience(item, k), f"for item {item_id or NEW}", "item_id", description)


def explain(
    item_id: Annotated[str, typer.Option(help="The item, known to the online store or the bundle.")],
    description: Annotated[str | None, typer.Option(help="What the user says.")] = None,
    user_id: Annotated[str | None, typer.Option(help="A user who may be known; default: nobody is.")] = None,
    repo: RepoOption = REPO,
    bundle: BundleOption = BUNDLE,
) -> None:
    """What one score is made of, term by term; the terms add up to it."""
    if not description and not user_id:
        raise ColdStartError("say for whom: --description TEXT, --user-id ID, or both")
    from recommender.model.recommender import HybridRecommender
    from recommender.model.requests import UnknownIdError
    from recommender.pipeline.online import NEW, online_item, online_user, open_store, request_encoder

    model = HybridRecommender.load(bundle)
    with console.status("features through Feast …"):
        store = open_store(repo)
        user = online_user(store, model, user_id or NEW, description)
        item = online_item(store, model, item_id)
        if model.fitted.items.row(item_id) < 0 and not item.descriptions[0] and not item.attributes[0]:
            raise UnknownIdError(f"item {item_id} is neither in {bundle} nor in the online store; give one that is")
        terms = model.explain(user, item, encoder=request_encoder(store))
    named = f"item {item_id} ({item.descriptions[0]})" if item.descriptions[0] else f"item {item_id}"
    console.print(f"{named} for user {user_id or NEW}{_quoted(description)}", style="bold", markup=False)
    table = Table("term", "kind")
    table.add_column("value", justify="right")
    for term, kind, value in terms[["term", "kind", "value"]].itertuples(index=False):
        table.add_row(_plain(term), kind, f"{value:+.3f}")
    table.add_section()
    table.add_row("score", "", f"{terms['value'].sum():+.3f}")
    console.print(table)


def _show_ranking(ranking: pd.DataFrame, title: str, asked: str, description: str | None) -> None:
    if ranking.empty:
        console.print(f"{title}: nothing is left to rank", markup=False)
        return
    console.print(f"{title} ({ranking['tier'].iloc[0]}){_quoted(description)}", style="bold", markup=False)
    columns = [name for name in ranking.columns if name not in (asked, "tier")]
    table = Table()
    for name in columns:
        table.add_column(name, justify="right" if name in (*_PARTS, "rank") else "left")
    for row in ranking[columns].itertuples(index=False):
        cells = zip(columns, row, strict=True)
        table.add_row(*(f"{value:+.2f}" if name in _PARTS else _plain(str(value)) for name, value in cells))
    console.print(table)


def _plain(text: str) -> str:
    """Text of users as it stands: rich would read [red] as a colour."""
    from rich.markup import escape

    return escape(text)


def _quoted(description: str | None) -> str:
    return f': "{description}"' if description else ""
