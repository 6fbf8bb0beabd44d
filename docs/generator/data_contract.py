"""docs/reference/data-contract.md: tables, columns, attributes, events, returns and searches."""

from __future__ import annotations

from coldstart_udfs.settings import EVENT_WEIGHTS
from recommender.data.contract import FACTS, INTERACTION, TABLES, Table
from recommender.data.searches import MAX_SEARCHES

from .markdown import table

_ID_RULE = "text; a number is read as text. No two rows share an id, and none is blank"
# What each column of each table holds; the tables of the contract say which there are.
_COLUMNS = {
    ("items", "item_id"): _ID_RULE,
    ("items", "description"): "text, or a list of texts; NULL or blank for an item without one",
    ("items", "event_timestamp"): "timestamp from which the item is known; default: its first interaction",
    ("users", "user_id"): _ID_RULE,
    ("users", "description"): "text, or a list of texts; NULL or blank for a user without one",
    ("users", "event_timestamp"): "timestamp from which the user is known; default: their first interaction",
    ("users", "share"): "true for a user who lets [linked shops](../how-to/link-two-shops.md) know their profile; it is no attribute",
    ("interactions", "user_id"): "an id of the table users",
    ("interactions", "item_id"): "an id of the table items; NULL or blank only for a search",
    ("interactions", "event_timestamp"): "timestamp, never NULL; without the column all are of one moment",
    ("interactions", "event_type"): f"one of the [types](#events); NULL or blank counts as `{INTERACTION}`",
    ("interactions", "weight"): "positive number, a factor on the weight of the event type; default: 1",
    ("interactions", "query"): "text that the user searched for; lower case and single spaces are made",
    ("facts", "subject"): "text: an `item_id`, or the object of another fact",
    ("facts", "predicate"): "text: how subject and object belong together; `implies` and `excludes` make a "
    "[rule](../how-to/facts.md#write-rules)",
    ("facts", "object"): "text: a value, or the subject of other facts",
}
_INTRODUCTION = """\
# Data contract

Three tables, items, users and interactions, and facts if there are any, as files named after them.
`coldstart ingest FOLDER` reads them, checks them, and writes them as Parquet. Files of other names or shapes can be turned into the tables by a script `ingest.sql`
in the same folder: each file is a DuckDB table named after it, and the script creates the tables. What to do about
encodings, dates and other formats: [Import your files](../how-to/import-your-files.md).
"""
_FILES = """\
## Files

| ending | read as |
|---|---|
| `.parquet` | its own types; a binary column of UTF-8 is text |
| `.csv`, `.tsv` | text. The separator is that of the header: comma, semicolon, tab or bar. Empty fields are NULL |
| `.jsonl`, `.ndjson`, `.json` | text, numbers, booleans, lists and objects; one object on each line, or one list |
| `.ttl`, `.nt`, `.rdf`, `.owl` | facts: RDF as Turtle, N-Triples or RDF/XML (needs the extra `rdf`). An IRI becomes what stands after its last `#` or `/`; IRIs that would become one name stay whole |
| `.xlsx` | text. The only sheet is the table of the file; of several sheets each is a table of its own name |

CSV and JSON may be compressed (`.csv.gz`). They are UTF-8, or UTF-16 and UTF-32 with a byte order mark, unless
`--encoding` names another encoding. Endings may be in capital letters. A row that does not fit the header is an error
with its line. With `ingest.sql`, a file that cannot be read is an error only if the script does not read it itself.
"""
_RULES = """\
## Rules

- Ids are text, with every character that the file has: leading zeros stay.
- Columns of the contract may be written in capital letters.
- Timestamps are DuckDB timestamps or dates, or text or numbers in one format for the whole column: ISO 8601; year,
  month and day with or without separators; day, month and year in any order, if only one order fits all dates or
  `--date-order` names it; months by their English names; 年, 月 and 日; seconds, milliseconds, microseconds or nanoseconds since 1970.
  Years of two digits are 1969 to 2068. Without a time zone timestamps are UTC.
- Timestamps before 1990 or after tomorrow are counted in the report; years below 1000 are an error.
- The ids in interactions stand in users and items.
- A table has at least one row.
- Facts have no blank field. A fact that is there twice counts once.
- Input that breaks a rule is rejected. The error has one line for each breach: file, column, number of rows and the
  first three. Nothing is written.
"""
_ATTRIBUTES = """\
## Attributes

Every other column of items and users is an attribute, whatever its name. It becomes labels `column=value`, which the
recommender learns from:

| type of the column | labels | example |
|---|---|---|
| text, boolean, enum, UUID | one label; NULL and blank give none | `country=France` |
| number | its band between powers of 2; zero and below share a band; NaN and infinity have none | 3.5: `price=2^1` (2 to 4); -1: `price<=0` |
| list of texts, whole numbers, booleans or UUIDs | one label for each element | `tags=oak`, `tags=outdoor` |
| struct | those of each field | `size.colour=red`, `size.width=2^1` |
| map to texts or whole numbers | one label for each key | `specs.colour=red` |
| JSON | those of its texts or of its lists | `tags=oak` |

Dates, times, binary data, lists of other types, lists within lists and JSON objects stay in the tables and give no
label; the report of `coldstart ingest` names them.

A column of text is taken for what all of its values are:

- Numbers, if nine tenths of the values are numbers and the column holds quantities: more than a tenth of them have a
  fraction, or a word of the column's name is one such as `price`, `weight` or `age`. Currency signs, thousands
  separators and decimal commas are understood, the same for the whole column; marks that leave it open are read as in
  English, and the report says so. The other values have no band and are counted in the report.
- Codes, one label for each, if they are whole numbers otherwise, such as `department` or `zip`, or begin with zeros. To
  make a quantity of them, cast them in `ingest.sql`: `stock::DOUBLE AS stock`.
- Lists, if all values are such as `[oak, outdoor]` or `["oak", "outdoor"]`.

Bands do not depend on the data, so they do not shift as the data grow. `coldstart put --attribute price=3.5` and a
filter `attribute="price=2^1"` use the same bands.
"""
_EVENTS = """\
## Events

`event_type` says what happened. Each type has a weight, in purchases; a weight of 0 leaves the type out. The weights
are in [enrichment.json](settings.md#enrichment-json); `coldstart weigh` fits them to your data. The defaults:
"""
_NAMES = """\
Names of RetailRocket, REES46, Shopify, Magento, Google Analytics 4, Segment and others become these types, in any case
and with spaces, underscores, hyphens or none: `addtocart`, `Product Added` and `add_to_cart` are carts. Common
words in Chinese, Japanese, German, Spanish and French become these types too: `购买`,
`購入`, `Kauf`, `compra` and `achat` are purchases. `coldstart ingest` says what became what. An impression is an item in a list that nobody clicked on: it is no evidence, and the
item can still be recommended. A page of search results is a search if the row has no item, otherwise an impression.

A type that is not known is an error with the number of its rows and the line that helps: its weight under
`event_weights` in enrichment.json, such as `"vote": 0.5`. A type with a weight of its own there keeps its name. If it
is another name for a purchase or a return, rename it in `ingest.sql` instead.
"""
_RETURNS = """\
## Returns and removals

An event of type `return` (a refund, a cancelled order) takes back the last purchase of the same user and item that is
not taken back yet. If no purchase of the item is left then, the views, carts and searches before it are taken back too.
A return without a purchase changes nothing. Types that you name yourself count as purchases here.

`cart_removal` takes back the last cart of the same user and item since their last purchase of it, and
`wishlist_removal` the last wishlist entry. They never take back a purchase, and without such an event they change
nothing.

The weight of `return` is the share that a return or a removal takes back, at most 1.
"""
_SEARCHES = f"""\
## Searches

An event of type `search` has its words in `query`, and an `item_id` only if the search led to an item; then it also
counts as an event of that item. The words become part of the user's description: the last {MAX_SEARCHES} different
searches, newest first. Other events may have a `query` too.
"""


def page() -> str:
    """The page."""
    weights = [(f"`{name}`", f"{weight:g}") for name, weight in EVENT_WEIGHTS.items()]
    parts = [
        _INTRODUCTION,
        _FILES,
        *(_table(one) for one in (*TABLES, FACTS)),
        _RULES, _ATTRIBUTES, _EVENTS,
        table(("event type", "weight"), weights),
        _NAMES, _RETURNS, _SEARCHES,
    ]  # fmt: skip
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _table(one: Table) -> str:
    columns = [(name, "required") for name in one.required] + [(name, "optional") for name in one.optional]
    rows = [(f"`{name}`", needed, _COLUMNS[one.name, name]) for name, needed in columns]
    if one.key:
        rows.append(("any other", "optional", "an [attribute](#attributes)"))
    return f"## {one.name}\n\n{table(('column', '', 'content'), rows)}"
