"""What the texts of a table state, as columns: colour, material, audience, style, occasion, price band.

The columns have names of their own, text_colour and so on, so that it is always seen who says something: a column
`colour` is a person's, `text_colour` was read from the text. A row in which a person has filled in the colour gets no
text_colour. docs/how-to/language-or-encoder.md says how often such labels are right.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow as pa

from coldstart_udfs.console import Report, no_report
from coldstart_udfs.encoder.encoder import Encoder
from coldstart_udfs.errors import ColdStartError
from coldstart_udfs.files import staged
from coldstart_udfs.profile import has_text
from coldstart_udfs.quoting import quote_name, quote_text
from coldstart_udfs.tabular import read_file
from coldstart_udfs.text.tags import PRICE, Tagger
from coldstart_udfs.text.vocabulary import WORDS

PREFIX = "text_"
_PRICE_BAND = f"{PREFIX}price_band"
# A person's column in which each group may stand, in lower case.
_OWN = {group: (group,) for group in WORDS} | {"colour": ("colour", "color"), PRICE: ("price", "price_band")}
_BATCH = 2_048


@dataclass(frozen=True)
class Annotated:
    """A column that was added.

    Attributes:
        name: such as "text_colour".
        rows: number of rows with a value.
        given: number of rows whose value a person has given, in a column of their own.
        labels: number of different labels.
        examples: the most frequent labels, at most three.
    """

    name: str
    rows: int
    given: int
    labels: int
    examples: tuple[str, ...]


def annotate(
    path: Path, output: Path, *, encoder: Encoder, text: str = "description", encoding: str | None = None,
    report: Report = no_report,
) -> list[Annotated]:
    """Write a table with columns that say what its texts state.

    Args:
        path: a file with one of the endings of `coldstart_udfs.tabular.read_file`.
        output: a Parquet file; columns of an earlier run are replaced, all others are kept as they are.
        encoder: of the labels, see `Tagger`.
        text: the column with the texts.
        encoding: of CSV and JSON files, see `read_file`.
        report: called with ("texts", done, total).

    Returns:
        text_colour, text_material, text_audience, text_style and text_occasion, a list of labels each, the likeliest
        first; text_price_band, the band of a price in the text, as `tags()` names it. Without a value they are NULL.

    Raises:
        ColdStartError: the output is no Parquet file, the file has no such column, or one of the new names is that of a
            column of no earlier run.
        FileError: the file cannot be read.
    """
    if output.suffix.lower() != ".parquet":
        raise ColdStartError(f"{output} is no Parquet file; columns of lists need one: name it {output.stem}.parquet")
    with duckdb.connect() as con:
        read_file(con, path, "given", encoding=encoding)
        types = {name: kind for name, kind, *_ in con.execute("DESCRIBE given").fetchall()}
        columns = list(types)
        if text not in columns:
            raise ColdStartError(f"{path} has no column {text!r}; name the column with the texts: {columns}")
        names = [_name(group) for group in _OWN]
        for name, kind in types.items():
            # Of an earlier run, which is replaced, the columns are lists.
            if name.lower() in names and name.lower() != _PRICE_BAND and kind != "VARCHAR[]":
                raise ColdStartError(
                    f"{path} has a column {name!r} ({kind}), which would be replaced: rename it if people fill it in, "
                    "or delete it if an earlier run wrote it"
                )
        rows = con.execute(f"SELECT DISTINCT {quote_name(text)}::VARCHAR FROM given ORDER BY 1").fetchall()
        texts = [value for (value,) in rows if value and has_text(value)]
        con.register("found", _labels(texts, Tagger(encoder), report))
        kept = [name for name in columns if name.lower() not in names]
        own = {group: _filled(kept, others) for group, others in _OWN.items()}
        select = ", ".join([
            *(f"given.{quote_name(name)}" for name in kept),
            *(f"CASE WHEN {own[group]} THEN NULL ELSE found.{_name(group)} END AS {_name(group)}" for group in _OWN),
        ])  # fmt: skip
        con.execute(
            f"CREATE TABLE result AS SELECT {select} "
            "FROM (SELECT *, row_number() OVER () AS _coldstart_place FROM given) AS given "
            f"LEFT JOIN found ON given.{quote_name(text)}::VARCHAR = found.text "
            "ORDER BY given._coldstart_place"
        )
        told = [_told(con, _name(group), own[group]) for group in _OWN]
        with staged(output.parent) as scratch:
            con.execute(f"COPY result TO {quote_text(str(scratch / output.name))} (FORMAT parquet, COMPRESSION zstd)")
    return told


def _name(group: str) -> str:
    return _PRICE_BAND if group == PRICE else f"{PREFIX}{group}"


def _filled(columns: Sequence[str], others: Sequence[str]) -> str:
    """The condition that a person has filled in one of some columns."""
    found = [f"given.{quote_name(name)}::VARCHAR" for name in columns if name.lower() in others]
    return " OR ".join(f"coalesce(trim({name}) NOT IN ('', '[]', '[NULL]'), false)" for name in found) or "false"


def _labels(texts: Sequence[str], tagger: Tagger, report: Report) -> pa.Table:
    columns: dict[str, list[list[str] | None]] = {group: [] for group in _OWN}
    for start in range(0, len(texts), _BATCH):
        for tags in tagger.tag(texts[start : start + _BATCH]):
            for group, values in columns.items():
                values.append([tag.label for tag in tags if tag.group == group] or None)
        report("texts", min(start + _BATCH, len(texts)), len(texts))
    lists = {_name(group): pa.array(values, pa.list_(pa.string())) for group, values in columns.items()}
    bands = pa.array([values and values[0] for values in columns[PRICE]], pa.string())
    return pa.table({"text": pa.array(texts, pa.string()), **lists, _PRICE_BAND: bands})


def _told(con: duckdb.DuckDBPyConnection, name: str, own: str) -> Annotated:
    values = f"SELECT unnest([{name}]) AS label FROM result" if name == _PRICE_BAND else (
        f"SELECT unnest({name}) AS label FROM result"
    )  # fmt: skip
    counted = con.execute(
        f"SELECT label, count(*) FROM ({values}) WHERE label IS NOT NULL GROUP BY 1 ORDER BY 2 DESC, 1"
    ).fetchall()
    rows = con.execute(f"SELECT count({name}) FROM result").fetchall()[0][0]
    given = con.execute(f"SELECT count(*) FROM given WHERE {own}").fetchall()[0][0]
    return Annotated(name, rows, given, len(counted), tuple(label for label, _ in counted[:3]))
