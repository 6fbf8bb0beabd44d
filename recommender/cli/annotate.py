"""`coldstart annotate`: what descriptions state, as columns for people and attributes for the recommender."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from coldstart_udfs.console import console, progress
from coldstart_udfs.errors import ColdStartError
from coldstart_udfs.locks import writing
from recommender.cli.options import EncodingOption, ModelOption, encoder_of_shop


def annotate(
    source: Annotated[Path, typer.Argument(metavar="FILE", help="A Parquet, CSV, JSON lines or Excel file.")],
    output: Annotated[Path, typer.Option(metavar="FILE", help="The Parquet file to write.")],
    text: Annotated[str, typer.Option(metavar="COLUMN", help="The column with the texts.")] = "description",
    encoding: EncodingOption = None,
    model: ModelOption = None,
) -> None:
    """Add columns of what texts state: colour, style …

    The columns are text_colour, text_material, text_audience, text_style, text_occasion and text_price_band. They
    never change a column of yours, and are empty where a column of yours, such as colour, has a value. `coldstart
    ingest` makes them attributes of items. They are for people: on measured shops they did not improve rankings.

    Examples:
        coldstart annotate items.csv --output annotated.parquet
        coldstart annotate items.xlsx --text title --output raw/items.parquet
    """
    from coldstart_udfs.encoder.encoder import Encoder
    from coldstart_udfs.text.annotation import annotate as run

    if output.is_dir():
        raise ColdStartError(f"{output} is a folder; name a file, such as {output / 'items.parquet'}")
    if output.exists() and source.exists() and output.samefile(source):
        raise ColdStartError(f"{output} is the input; choose another file for --output")
    name, backend = encoder_of_shop(model)
    with writing(output, command="coldstart annotate"), progress() as report:
        found = run(source, output, encoder=Encoder(name, backend=backend), text=text, encoding=encoding, report=report)
    table = Table("column", "most frequent")
    for title in ("read from text", "given", "labels"):
        table.add_column(title, justify="right")
    for one in found:
        numbers = f"{one.rows:,}", f"{one.given:,}", f"{one.labels:,}"
        table.add_row(one.name, escape(", ".join(one.examples)), *numbers)
    console.print(table)
    console.print(f"→ {output}", markup=False, soft_wrap=True)
