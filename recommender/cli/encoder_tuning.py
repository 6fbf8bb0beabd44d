"""Commands of tuned encoders: `coldstart encoder tune` and `coldstart encoder accept`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from coldstart_udfs.console import console, progress
from coldstart_udfs.locks import writing
from coldstart_udfs.settings import Enrichment
from recommender.cli.failures import INTERRUPTED
from recommender.cli.options import DATA, DataOption, ModelOption, TrackOption, encoder_of_shop, parse_date
from recommender.tracking import tracked

if TYPE_CHECKING:
    from recommender.evaluation.encoder_tuning.tuning import Tuned


def tune(
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="The folder to write; it must not exist.")],
    data: DataOption = DATA,
    model: ModelOption = None,
    static: Annotated[
        bool,
        typer.Option("--static", help="Tune the table of token vectors of the backend static: seconds, lower quality."),
    ] = False,
    group_column: Annotated[
        str | None,
        typer.Option(metavar="COLUMN", help="A column of the items. Items with the same value are set aside together."),
    ] = None,
    cutoff: Annotated[
        datetime | None,
        typer.Option(
            metavar="YYYY-MM-DD", parser=parse_date,
            help="Learn from interactions before this date (UTC), and judge by the later ones too. Default: the latest "
            "15 % are the later ones.",
        ),
    ] = None,
    learning_rate: Annotated[float, typer.Option("--lr", help="The highest learning rate.")] = 3e-4,
    layers: Annotated[int, typer.Option(min=1, help="The number of top layers that learn.")] = 2,
    adapters: Annotated[
        int, typer.Option(metavar="RANK", min=0, help="Let adapters of this rank learn in place of the layers.")
    ] = 0,
    steps: Annotated[
        int | None, typer.Option(min=1, help="The number of steps. Default: 140, or 30 for less than 2,000 items.")
    ] = None,
    batch: Annotated[int, typer.Option(min=2, help="The number of items in a step.")] = 512,
    warm_up: Annotated[
        float, typer.Option(metavar="SHARE", help="The share of the steps in which the learning rate rises.")
    ] = 0.1,
    arithmetic: Annotated[
        str,
        typer.Option(help="float32, bfloat16, or auto: bfloat16 where this processor is faster with it."),
    ] = "auto",
    seed: Annotated[int, typer.Option(min=0, help="Of the items that are set aside, and of the steps.")] = 0,
    track: TrackOption = None,
) -> None:
    """Tune the encoder by what users take together.

    Three fifths of the items are learned from. A fifth tells when to stop, and a fifth judges: the recommender is
    fitted with both encoders, and unless it ranks these items better with the tuned one, by an interval that excludes
    0, and later interactions no worse, the tuned one is refused for recommending. SQL and search can use it all the
    same. After an interruption the same command continues where it stopped.

    Examples:
        coldstart encoder tune --out models/shop
        coldstart encoder tune --out models/static --static --track tensorboard:runs
    """
    from coldstart_udfs.encoder.tuning.settings import TuningSettings
    from coldstart_udfs.made_from import data_hash
    from recommender.cli.options import REPO, settings_of_shop
    from recommender.data.dataset import files_in, read_dataset, settings_of
    from recommender.data.events import EventWeights
    from recommender.evaluation.encoder_tuning.tuning import tune_for_shop

    settings = TuningSettings(
        layers=layers, adapters=adapters, learning_rate=learning_rate, steps=steps, batch=batch, warm_up=warm_up,
        arithmetic=arithmetic, seed=seed,
    )  # fmt: skip
    shop = settings_of(REPO) if settings_of_shop() else Enrichment()
    parent, _ = encoder_of_shop(model)
    sha256 = data_hash(data) if data.is_dir() else ""
    with writing(out, command="coldstart encoder tune"), tracked("encoder tune", track) as tracker:
        try:
            with progress(remaining=True) as report:
                tables = read_dataset(
                    *files_in(data), model=parent, group_column=group_column, weights=shop.event_weights, embed=False,
                    report=report,
                )  # fmt: skip
                told = settings.as_json() | {"parent": parent, "static": static, "data_sha256": sha256, "data": data}
                tracker.parameters(told)

                def on_step(step: int, values: Mapping[str, float]) -> None:
                    tracker.metrics({f"tuning/{name}": value for name, value in values.items()}, step)

                found = tune_for_shop(
                    tables, parent, out, static=static, settings=settings, weights=EventWeights.of_settings(shop),
                    cutoff=cutoff, data_sha256=sha256, on_step=on_step, report=report,
                )  # fmt: skip
        except KeyboardInterrupt:
            console.print("stopped; the same command continues from the last checkpoint")
            raise typer.Exit(INTERRUPTED) from None
        tracker.figures(found.manifest.figures)
        tracker.artifact(out / "tuned.json", "tuned.json")
    _show(found, out)


def accept(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A folder of `coldstart encoder tune`.")],
) -> None:
    """Recommend with a tuned encoder that the guard refused.

    The figures of the guard stay in the folder, with the date of this decision.

    Examples:
        coldstart encoder accept models/shop
        coldstart encoder accept models/static
    """
    from coldstart_udfs.encoder.tuning.manifests import accept as run

    manifest = run(folder)
    what = "recommends by the guard's own figures" if manifest.recommends else "is accepted against the guard's figures"
    console.print(f"{folder} {what}: {manifest.verdict}", markup=False, soft_wrap=True)


def _show(found: Tuned, out: Path) -> None:
    """Print what was measured, and what the encoder can be used for."""
    table = Table("NDCG@20")
    for name in ("before", "after", "difference, 95 %"):
        table.add_column(name, justify="right")
    figures = found.manifest.figures
    for name in ("cosine", "ridge"):
        before, after = figures[f"stopping: {name} before"], figures[f"stopping: {name} after"]
        table.add_row(f"items for stopping, {name}", f"{before:.4f}", f"{after:.4f}", f"{after - before:+.4f}")
    for one in found.verdict.compared:
        gain = f"{one.after - one.before:+.4f} ({one.low:+.4f} … {one.high:+.4f})"
        table.add_row(f"{one.name}, recommender", f"{one.before:.4f}", f"{one.after:.4f}", gain)
    console.print(table)
    vectors, manifest = found.vectors, found.manifest
    console.print(
        f"{vectors.steps} of {vectors.planned} steps, {vectors.seconds:,.0f} s, {vectors.arithmetic} → {out}\n"
        f"encoder {manifest.fingerprint}", markup=False, soft_wrap=True,
    )  # fmt: skip
    if manifest.recommends:
        console.print(
            f"the recommender ranks better with it; next: set \"model\" to \"{out.absolute()}\" and \"backend\" to "
            "null in enrichment.json, then coldstart profiles", markup=False, soft_wrap=True,
        )  # fmt: skip
    else:
        console.print(f"refused for recommending: {manifest.verdict}", markup=False, soft_wrap=True)
        console.print("SQL and search can use it; in them, similar means bought by the same people", soft_wrap=True)
