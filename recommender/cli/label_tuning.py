"""`coldstart encoder tune-labels`: an encoder that tells the labels of classify() apart."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from coldstart_udfs.console import console, progress
from coldstart_udfs.errors import ColdStartError
from coldstart_udfs.locks import writing
from recommender.cli.failures import INTERRUPTED
from recommender.cli.options import EncodingOption, ModelOption, encoder_of_shop


def tune_labels(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", help="Examples: a Parquet, CSV, JSON lines or Excel file with a text and a label a row."
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="The folder to write; it must not exist.")],
    text: Annotated[str, typer.Option(metavar="COLUMN", help="The column with the texts.")] = "text",
    label: Annotated[str, typer.Option(metavar="COLUMN", help="The column with the labels.")] = "label",
    encoding: EncodingOption = None,
    model: ModelOption = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="The number of steps. Default: 140, or 30 for less than 2,000 examples.")
    ] = None,
    learning_rate: Annotated[float, typer.Option("--lr", help="The highest learning rate.")] = 5e-4,
    layers: Annotated[int, typer.Option(min=1, help="The number of top layers that learn.")] = 1,
    seed: Annotated[int, typer.Option(min=0, help="Of the examples that are held out, and of the steps.")] = 0,
) -> None:
    """Tune the encoder to tell labels apart, for classify().

    Of a label with five examples or more, a fifth is held out, and tells what is gained. After an interruption the
    same command continues where it stopped. The encoder is for classify(): in it, similar means of one label.

    Examples:
        coldstart encoder tune-labels examples.csv --out models/intents
        coldstart encoder tune-labels tickets.parquet --text body --out m2
    """
    import duckdb

    from coldstart_udfs.quoting import quote_name
    from coldstart_udfs.tabular.read import read_file
    from coldstart_udfs.text.label_tuning import LABEL_SETTINGS, tune_for_labels

    settings = replace(LABEL_SETTINGS, layers=layers, learning_rate=learning_rate, steps=steps, seed=seed)
    parent, _ = encoder_of_shop(model)
    with duckdb.connect() as con:
        read_file(con, source, "examples", encoding=encoding)
        columns = [name for name, *_ in con.execute("DESCRIBE examples").fetchall()]
        for option, name in (("--text", text), ("--label", label)):
            if name not in columns:
                raise ColdStartError(
                    f"{source} has no column {name!r}; it has {', '.join(columns)}. Name one with {option}"
                )
        rows = con.execute(
            f"SELECT CAST({quote_name(text)} AS VARCHAR), CAST({quote_name(label)} AS VARCHAR) FROM examples"
        ).fetchall()
    with writing(out, command="coldstart encoder tune-labels"):
        try:
            with progress(remaining=True) as report:
                found = tune_for_labels(
                    parent, [one for one, _ in rows], [one for _, one in rows], out, settings=settings, report=report
                )
        except KeyboardInterrupt:
            console.print("stopped; the same command continues from the last checkpoint")
            raise typer.Exit(INTERRUPTED) from None
    split = found.manifest.split
    console.print(
        f"{split['labels']:,} labels, {split['learned from']:,} examples learned from, {found.held_out:,} held out, "
        f"{found.manifest.steps} steps, {found.seconds:,.0f} s → {out}", markup=False, soft_wrap=True,
    )  # fmt: skip
    if found.held_out:
        console.print(f"held-out examples with the right label: {found.before:.3f} before, {found.after:.3f} after")
    else:
        console.print("no label has five examples, so nothing was held out, and the gain is not known", soft_wrap=True)
    console.print(
        f"encoder {found.manifest.fingerprint}\nnext: coldstart sql --model {out}, and in it classify(text, "
        "'examples')", markup=False, soft_wrap=True,
    )  # fmt: skip
