"""What `coldstart ingest` understood of each table and column."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import duckdb

from coldstart_udfs.encoder.multilingual import MULTILINGUAL, model_files
from coldstart_udfs.quoting import quote_text
from coldstart_udfs.text.languages import Detector, encoder_advice, frequent_languages
from recommender.data.attributes import Attribute
from recommender.data.contract import (
    ATTRIBUTES,
    DESCRIPTION,
    EVENT_TYPE,
    FACTS,
    QUERY,
    TIMESTAMP,
    Prepared,
    count,
)

# Descriptions whose language is looked at.
_SAMPLE = 500
# A note says so if the encoder does not know the language of more than this share of them.
_MANY = 0.1


@dataclass(frozen=True)
class Column:
    """A column, and what is made of it.

    Attributes:
        table: items, users, interactions or facts.
        name: the column; of a struct's field, "column.field".
        meaning: in words: "number, 8 bands", "date, not used" …
        note: what to look at, such as values that are not numbers; "" for nothing.
    """

    table: str
    name: str
    meaning: str
    note: str = ""


@dataclass(frozen=True)
class Understood:
    """What was understood of raw files.

    Attributes:
        rows: the number of rows by table.
        columns: the columns, in the order of the tables.
        event_types: the types of interactions with their numbers and weights, the most frequent first; "" without any.
        first_event: time of the first interaction, UTC.
        last_event: time of the last interaction, UTC.
        languages: the share of descriptions by language, of a sample; the most frequent first.
        notes: sentences about what is plausible only in part, or was filled in.
    """

    rows: dict[str, int]
    columns: tuple[Column, ...]
    event_types: str
    first_event: str
    last_event: str
    languages: dict[str, float]
    notes: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """The same as plain values for JSON."""
        return asdict(self)

    def lines(self) -> list[str]:
        """The same as text, one line for each table, column and note."""
        said = []
        for table, rows in self.rows.items():
            said.append(f"{table}: {rows:,} rows")
            for column in self.columns:
                if column.table == table:
                    note = f" ({column.note})" if column.note else ""
                    said.append(f"  {column.name}: {column.meaning}{note}")
        if self.event_types:
            said.append(f"event types: {self.event_types}")
        said.append(f"events: {self.first_event} to {self.last_event} UTC")
        if self.languages:
            shares = ", ".join(f"{language} {share:.0%}" for language, share in self.languages.items())
            said.append(f"languages of descriptions: {shares}")
        return [*said, *(f"note: {note}" for note in self.notes)]


def understand(
    con: duckdb.DuckDBPyConnection, tables: Mapping[str, Prepared], attributes: Mapping[str, list[Attribute]],
    event_types: str, notes: Sequence[str], model: str | None = None,
) -> Understood:
    """Describe normalised tables.

    Args:
        con: a connection with the normalised tables.
        tables: the tables as they were prepared.
        attributes: the attributes of items and of users.
        event_types: the types of interactions in words.
        notes: what `load` has to say.
        model: the encoder of the repository, as in enrichment.json; a note says so if it does not know the languages.
    """
    rows = {name: count(con, f"SELECT count(*) FROM {name}") for name in tables}
    columns = [one for name, prepared in tables.items() for one in _columns(con, prepared, attributes.get(name, []))]
    first, last = (f"strftime({which}({TIMESTAMP}), '%Y-%m-%d %H:%M:%S')" for which in ("min", "max"))
    span = f"SELECT {first}, {last} FROM interactions"
    row: Any = con.execute(span).fetchall()[0]
    texts = _sample(con)
    notes = [*notes, *_unknown_languages(texts, model)]
    return Understood(rows, tuple(columns), event_types, row[0], row[1], frequent_languages(texts), tuple(notes))


def _columns(con: duckdb.DuckDBPyConnection, prepared: Prepared, attributes: list[Attribute]) -> list[Column]:
    table, present = prepared.table, prepared.columns
    said = []
    for name in (*table.required, *table.optional):
        if name not in present:
            continue
        if name == TIMESTAMP:
            read = prepared.moments.format if prepared.moments and prepared.moments.format else present[name].lower()
            said.append(Column(table.name, name, f"time, {read}"))
        elif name in (DESCRIPTION, QUERY):
            given = count(con, f"SELECT count(*) FROM {table.name} WHERE trim({name}) <> ''")
            said.append(Column(table.name, name, f"text, {given:,} given"))
        elif table is FACTS:
            values = count(con, f"SELECT count(DISTINCT {name}) FROM {table.name}")
            said.append(Column(table.name, name, f"text, {values:,} different"))
        elif name == EVENT_TYPE:
            said.append(Column(table.name, name, "event type"))
        else:
            said.append(Column(table.name, name, "id" if name.endswith("_id") else "number"))
    if table.key is None:
        said += [Column(table.name, name, "not used") for name in prepared.extra]
    for attribute in attributes:
        said.append(Column(table.name, attribute.name, _meaning(con, table.name, attribute), attribute.note))
    return said


def _meaning(con: duckdb.DuckDBPyConnection, table: str, attribute: Attribute) -> str:
    if not attribute.used:
        return f"{attribute.kind}, not used"
    starts = [f"{attribute.name}="] + ([f"{attribute.name}<="] if attribute.kind == "number" else [])
    if attribute.kind == "map":
        starts = [f"{attribute.name}."]
    ours = " OR ".join(f"starts_with(label, {quote_text(start)})" for start in starts)
    every = f"SELECT unnest({ATTRIBUTES}) AS label FROM {table}"
    labels = count(con, f"SELECT count(DISTINCT label) FROM ({every}) WHERE {ours}")
    what = "band" if attribute.kind == "number" else "label"
    return f"{attribute.kind}, {labels:,} {what}{'' if labels == 1 else 's'}"


def _sample(con: duckdb.DuckDBPyConnection) -> list[str]:
    texts = con.execute(
        f"SELECT {DESCRIPTION} FROM (SELECT {DESCRIPTION} FROM items UNION ALL SELECT {DESCRIPTION} FROM users) "
        f"WHERE trim({DESCRIPTION}) <> '' ORDER BY hash({DESCRIPTION}) LIMIT {_SAMPLE}"
    ).fetchall()
    return [text for (text,) in texts]


def _unknown_languages(texts: Sequence[str], model: str | None) -> list[str]:
    """A sentence if more than a tenth of the texts are in languages that the encoder does not know."""
    # A model by its name may have to be downloaded before it tells its languages.
    if not texts or (model not in (None, MULTILINGUAL) and not Path(str(model)).is_dir()):
        return []
    files = model_files(model)
    detector = Detector(files.languages)
    found = Counter(code for text in texts if detector.is_foreign(code := detector.language(text)) and code)
    if sum(found.values()) <= _MANY * len(texts):
        return []
    return [encoder_advice(files.name, {code: times / len(texts) for code, times in found.most_common()})]
