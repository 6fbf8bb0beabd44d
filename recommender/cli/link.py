"""`coldstart link`: one profile in two shops."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from coldstart_udfs.console import console, progress
from coldstart_udfs.errors import ColdStartError


def link(
    source: Annotated[Path, typer.Argument(metavar="SHOP_A", help="The shop that has the profiles.")],
    target: Annotated[
        Path | None, typer.Argument(metavar="SHOP_B", help="The shop that shall know its users.", show_default=False)
    ] = None,
    assume_consent: Annotated[
        bool,
        typer.Option("--assume-consent", help="All users of SHOP_A have agreed, although its table does not say so."),
    ] = False,
    remove: Annotated[
        bool, typer.Option("--remove", help="Remove what SHOP_A, given alone, has of other shops.")
    ] = False,
) -> None:
    """Let users of one shop be known in another.

    A shop is a folder with feature_repo and data. Only users whose column share in the users of SHOP_A is true are
    linked. Run it again when profiles or consent have changed.

    Examples:
        coldstart link grocery drugstore
        coldstart link drugstore --remove
    """
    from recommender.pipeline.linking import link as run
    from recommender.pipeline.linking import unlink

    if remove:
        if target is not None:
            raise ColdStartError("--remove takes one shop, the one that was linked to others as SHOP_B")
        there = unlink(source)
        console.print(
            f"the link of {source} is removed; next: feast -c {source / 'feature_repo'} apply"
            if there else f"{source} has no link", markup=False, soft_wrap=True,
        )  # fmt: skip
        return
    if target is None:
        raise ColdStartError("SHOP_B is missing; give two shops, or one with --remove")
    with progress() as report:
        done = run(source, target, assume_consent=assume_consent, report=report)
    about, repo = done.about, target / "feature_repo"
    console.print(
        f"{done.agreed:,} of {done.users:,} users with history in {source} are linked, {about.shared_users:,} of them "
        f"are in both shops", markup=False, soft_wrap=True,
    )  # fmt: skip
    if done.withdrawn:
        console.print(f"{done.withdrawn:,} users do not agree any more, and are removed from {target}", soft_wrap=True)
    console.print(f"the map is learned from {_learned_from(about.method)}; {_told(about.figures)}", soft_wrap=True)
    if not about.strength:
        console.print(
            "the map ranks no better than popularity, so rankings stay as they are; the profiles can be read",
            soft_wrap=True,
        )
    console.print(f"next: feast -c {repo} apply && feast -c {repo} materialize …", markup=False, soft_wrap=True)


def _learned_from(method: str) -> str:
    return "users of both shops" if method == "shared users" else "users of the second shop alone"


def _told(figures: dict[str, float]) -> str:
    if not figures:
        return "too few users to measure it"
    interval = ""
    if "low" in figures:
        gained = figures["with"] - figures["without"]
        interval = f", difference {gained:+.4f} ({figures['low']:+.4f} to {figures['high']:+.4f})"
    return (
        f"NDCG@20 of {figures['users']:,.0f} held-out users {figures['without']:.4f} by popularity, "
        f"{figures['with']:.4f} with the map{interval}"
    )
