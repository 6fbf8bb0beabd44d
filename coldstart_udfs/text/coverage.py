"""Coverage of a table's descriptions for an encoder: missing, repeated, short, cut, or in another language."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from coldstart_udfs.console import Report, no_report
from coldstart_udfs.encoder.encoder import Encoder
from coldstart_udfs.errors import ColdStartError
from coldstart_udfs.quoting import quote_name
from coldstart_udfs.tabular import read_file
from coldstart_udfs.text.languages import SMALLEST_SHARE, Detector, encoder_advice, script

# Problems of a row's text; fields of `Counts`.
PROBLEMS = ("without_text", "repeated", "short", "truncated", "other_language")

MIN_WORDS = 3
MAX_CATEGORIES = 20
# Fewer texts than this share in other languages may be false alarms.
_FEW_TEXTS = 0.01
_EXAMPLES = 3
_EXAMPLE_LENGTH = 200

# No spaces between words; two letters make about one.
_SPACELESS = frozenset(("CJK", "HIRAGANA", "KATAKANA", "KHMER", "LAO", "MYANMAR", "THAI", "TIBETAN"))
# Number of distinct texts in Python's memory at a time.
_BATCH = 8_192
# The characters that Python's `strip` removes, so that blank means the same as in `profile.has_text`.
_BLANK = "".join(chr(code) for code in range(0x3001) if chr(code).isspace())

_PIECE = re.compile(r"\S+")


@dataclass(frozen=True)
class Counts:
    """Number of rows of a table or a category, and of rows with each problem; a row may have several.

    Attributes:
        rows: all rows.
        without_text: NULL, or only white space.
        repeated: the text, without white space at its ends, is also in another row of the table.
        short: fewer than three words.
        truncated: longer than the encoder reads.
        other_language: not in a language of the encoder; None if its model names no languages.
    """

    rows: int
    without_text: int
    repeated: int
    short: int
    truncated: int
    other_language: int | None

    def share(self, problem: str) -> float | None:
        """The share of rows with a problem, 0 to 1; None if unknown.

        >>> Counts(8, without_text=2, repeated=0, short=0, truncated=0, other_language=None).share("without_text")
        0.25
        """
        count: int | None = getattr(self, problem)
        return None if count is None else count / self.rows


@dataclass(frozen=True)
class Example:
    """A text with a problem.

    Attributes:
        text: its beginning; None for rows without text.
        row: its first row, counted from 1.
        rows: number of rows with this text.
    """

    text: str | None
    row: int
    rows: int


@dataclass(frozen=True)
class Coverage:
    """The result of `coverage`.

    Attributes:
        path: the file.
        text: the column with the texts.
        encoder: the model's name.
        max_tokens: number of tokens at which texts are cut; None if the model does not say.
        languages: codes of the model's languages; empty if it names none, or none that can be detected.
        text_languages: number of rows by the language of their text, the most frequent first. Texts that do not tell
            their language are left out, and languages of the encoder that fewer than a twentieth of the texts have.
        total: counts of all rows.
        by: the column of the categories, if any.
        categories: counts of the largest categories; the key None stands for rows without a category.
        others: counts of all other categories together; None if there are no others.
        other_categories: number of other categories.
        examples: up to three examples for each problem, those with most rows first.
    """

    path: str
    text: str
    encoder: str
    max_tokens: int | None
    languages: tuple[str, ...]
    text_languages: dict[str, int]
    total: Counts
    by: str | None
    categories: dict[str | None, Counts]
    others: Counts | None
    other_categories: int
    examples: dict[str, tuple[Example, ...]]

    @property
    def language_shares(self) -> dict[str, float]:
        """The share of the texts by language, 0 to 1, the most frequent first."""
        texts = self.total.rows - self.total.without_text
        return {code: rows / texts for code, rows in self.text_languages.items()}

    @property
    def advice(self) -> str | None:
        """Which encoder suits texts that this one does not know; None for less than a hundredth of the texts."""
        foreign = {code: share for code, share in self.language_shares.items() if code not in self.languages}
        if not self.languages or sum(foreign.values()) < _FEW_TEXTS:
            return None
        return encoder_advice(self.encoder, foreign)

    def as_dict(self) -> dict[str, Any]:
        """The result as plain values for JSON, each count with its share."""
        categories = [{"category": name, **_with_shares(counts)} for name, counts in self.categories.items()]
        return {
            "path": self.path, "text": self.text, "encoder": self.encoder, "max_tokens": self.max_tokens,
            "languages": list(self.languages) or None, "total": _with_shares(self.total),
            "text_languages": {
                code: {"rows": self.text_languages[code], "share_of_texts": share}
                for code, share in self.language_shares.items()
            },
            "advice": self.advice,
            "by": self.by, "categories": categories,
            "others": {"categories": self.other_categories, **_with_shares(self.others)} if self.others else None,
            "examples": {problem: [asdict(one) for one in found] for problem, found in self.examples.items()},
        }  # fmt: skip


def coverage(
    path: str | Path,
    *,
    text: str = "description",
    by: str | None = None,
    encoder: Encoder,
    encoding: str | None = None,
    report: Report = no_report,
) -> Coverage:
    """Measure the descriptions of a table.

    Nothing is encoded. Rows are read into a scratch database on disk, and distinct texts into Python in batches.

    Args:
        path: a file with one of the endings of `coldstart_udfs.tabular.read_file`.
        text: the column with the texts.
        by: a column to count by: the 20 largest categories, and the others together.
        encoder: the encoder whose token limit and languages (from its model card) texts are compared with.
        encoding: of CSV and JSON files, see `read_file`.
        report: called with the distinct texts read so far.

    Raises:
        ColdStartError: the file does not exist, cannot be read or has no rows, a column does not exist, or the texts
            are not text.
    """
    path = Path(path)
    # The scratch folder is removed last, after the database in it is closed.
    with tempfile.TemporaryDirectory(prefix="coldstart-") as scratch, duckdb.connect(f"{scratch}/rows.duckdb") as con:
        _read(con, path, text, by, encoding)
        detector = Detector(encoder.files.languages)
        _judge(con, encoder, detector, report)
        total, categories, others, other_categories = _count(con, bool(detector.own))
        return Coverage(
            path=str(path), text=text, encoder=encoder.name, max_tokens=encoder.max_tokens,
            languages=tuple(sorted(detector.own)), text_languages=_languages(con, detector), total=total, by=by,
            categories=categories if by else {}, others=others, other_categories=other_categories,
            examples={problem: tuple(_examples(con, problem)) for problem in PROBLEMS},
        )  # fmt: skip


def is_short(text: str) -> bool:
    """Whether a text has fewer than three words; two letters of a script without spaces make about one.

    >>> is_short("red lamp"), is_short("red table lamp"), is_short("红色台灯")
    (True, False, True)
    """
    words = 0.0
    for match in _PIECE.finditer(text):
        piece = match[0]
        if any(map(str.isalnum, piece)):
            spaceless = 0 if piece.isascii() else sum(script(char) in _SPACELESS for char in piece if char.isalpha())
            words += max(1.0, spaceless / 2)
            if words >= MIN_WORDS:
                return False
    return True


def _read(con: duckdb.DuckDBPyConnection, path: Path, text: str, by: str | None, encoding: str | None) -> None:
    """Make the tables `given` (text, category) of all rows in their order, and `texts` (id, text, rows, row)."""
    read_file(con, path, "source_rows", encoding=encoding)
    relation = con.table("source_rows")
    kinds = dict(zip(relation.columns, map(str, relation.types), strict=True))
    for name in filter(None, (text, by)):
        if name not in kinds:
            raise ColdStartError(f"{path} has no column {name!r}; it has {list(kinds)}")
    if kinds[text] != "VARCHAR" and not kinds[text].startswith("ENUM"):
        texts = [name for name, kind in kinds.items() if kind == "VARCHAR"]
        raise ColdStartError(f"{path}: column {text!r} is {kinds[text]}, not text; columns of text are {texts}")
    category = f"{quote_name(by)}::VARCHAR" if by else "NULL::VARCHAR"
    con.execute(
        f"CREATE TABLE given AS SELECT nullif(trim({quote_name(text)}::VARCHAR, ?), '') AS text, "
        f"{category} AS category FROM source_rows",
        [_BLANK],
    )
    con.execute("DROP TABLE source_rows")
    if not _value(con, "SELECT count(*) FROM given"):
        raise ColdStartError(f"{path} has no rows, so there is nothing to measure")
    con.execute("""
        CREATE TABLE texts AS SELECT row_number() OVER () - 1 AS id, * FROM (
            SELECT text, count(*) AS rows, min(rowid) + 1 AS row FROM given WHERE text IS NOT NULL GROUP BY text
        )
    """)


def _judge(
    con: duckdb.DuckDBPyConnection, encoder: Encoder, detector: Detector, report: Report
) -> None:
    """Make the table `judged`: `texts` with the language and the problems of each."""
    total = int(_value(con, "SELECT count(*) FROM texts"))
    found: dict[str, NDArray[np.bool_]] = {
        name: np.zeros(total, dtype=bool) for name in ("short", "truncated", "other_language")
    }
    languages: list[str | None] = []
    for start in range(0, total, _BATCH):
        rows = con.execute(
            "SELECT text FROM texts WHERE id >= ? AND id < ? ORDER BY id", [start, start + _BATCH]
        ).fetchall()
        texts = [row[0] for row in rows]
        these = slice(start, start + len(texts))
        found["short"][these] = [is_short(text) for text in texts]
        found["truncated"][these] = encoder.truncated(texts)
        codes = [detector.language(text) for text in texts]
        found["other_language"][these] = [detector.is_foreign(code) for code in codes]
        languages += codes
        report("different texts", these.stop, total)
    con.register("found", pa.table({"id": np.arange(total), "language": pa.array(languages, pa.string()), **found}))
    con.execute("CREATE TABLE judged AS SELECT * EXCLUDE (id), rows > 1 AS repeated FROM texts JOIN found USING (id)")
    con.unregister("found")


def _count(
    con: duckdb.DuckDBPyConnection, knows_languages: bool
) -> tuple[Counts, dict[str | None, Counts], Counts | None, int]:
    """Counts of all rows, the largest categories and the others together, and the number of others."""
    flags = ", ".join(f"count(*) FILTER ({name}) AS {name}" for name in PROBLEMS[1:])
    con.execute(f"""
        CREATE TABLE counted AS
        SELECT *, row_number() OVER (ORDER BY rows DESC, category NULLS LAST) AS place FROM (
            SELECT category, count(*) AS rows, count(*) FILTER (text IS NULL) AS without_text, {flags}
            FROM given LEFT JOIN (SELECT * EXCLUDE (rows, row, language) FROM judged) USING (text) GROUP BY category
        )
    """)
    names = ("rows", *PROBLEMS)
    sums = ", ".join(f"sum({name})::BIGINT" for name in names)

    def counts(values: Sequence[Any]) -> Counts:
        given = dict(zip(names, values, strict=True))
        return Counts(**given if knows_languages else {**given, "other_language": None})

    total = con.execute(f"SELECT {sums} FROM counted").fetchall()[0]
    largest = con.execute(
        f"SELECT category, {', '.join(names)} FROM counted WHERE place <= {MAX_CATEGORIES} ORDER BY place"
    ).fetchall()
    number, *others = con.execute(f"SELECT count(*), {sums} FROM counted WHERE place > {MAX_CATEGORIES}").fetchall()[0]
    categories = {row[0]: counts(row[1:]) for row in largest}
    return counts(total), categories, counts(others) if number else None, number


def _languages(con: duckdb.DuckDBPyConnection, detector: Detector) -> dict[str, int]:
    found = con.execute("""
        SELECT language, sum(rows)::BIGINT AS texts, texts >= ? * (SELECT sum(rows) FROM judged) FROM judged
        WHERE language IS NOT NULL GROUP BY language ORDER BY texts DESC, language
    """, [SMALLEST_SHARE]).fetchall()  # fmt: skip
    return {code: texts for code, texts, frequent in found if frequent or detector.is_foreign(code)}


def _examples(con: duckdb.DuckDBPyConnection, problem: str) -> Iterator[Example]:
    if problem == "without_text":
        query = "SELECT NULL, rowid + 1, 1 FROM given WHERE text IS NULL ORDER BY rowid"
    else:
        query = f"SELECT left(text, {_EXAMPLE_LENGTH}), row, rows FROM judged WHERE {problem} ORDER BY rows DESC, row"
    for row in con.execute(f"{query} LIMIT {_EXAMPLES}").fetchall():
        yield Example(*row)


def _with_shares(counts: Counts) -> dict[str, Any]:
    problems = {name: {"rows": getattr(counts, name), "share": counts.share(name)} for name in PROBLEMS}
    return {"rows": counts.rows, **problems}


def _value(con: duckdb.DuckDBPyConnection, query: str) -> Any:
    return con.execute(query).fetchall()[0][0]
