"""docs/reference/data-contract.md: tables, columns, attributes, events, returns and searches."""

from __future__ import annotations

from coldstart_udfs.settings import EVENT_WEIGHTS
from recommender.data.contract import INTERACTION, TABLES, Table
from recommender.data.searches import MAX_SEARCHES

from .markdown import table

_ID_RULE = "text; a number is read as text. No two rows share an id, and none is blank"
# What each column of each table holds; the tables of the contract say which there are.
_COLUMNS = {
    ("items", "item_id"): _ID_RULE,
    ("items", "description"): "text; NULL or blank for an item without one",
    ("items", "event_timestamp"): "timestamp from which the item is known; default: its first interaction",
    ("users", "user_id"): _ID_RULE,
    ("users", "description"): "text; NULL or blank for a user without one",
    ("users", "event_timestamp"): "timestamp from which the user is known; default: their first interaction",
    ("interactions", "user_id"): "an id of the table users",
    ("interactions", "item_id"): "an id of the table items; NULL or blank only for a search",
    ("interactions", "event_timestamp"): "timestamp, never NULL; without the column all are of one moment",
    ("interactions", "event_type"): f"one of the [types](#events); NULL or blank counts as `{INTERACTION}`",
    ("interactions", "weight"): "positive number, a factor on the weight of the event type; default: 1",
    ("interactions", "query"): "text that the user searched for; lower case and single spaces are made",
}
_INTRODUCTION = """\
# Data contract

Three tables, items, users and interactions, as `.parquet` or `.csv` files named after them. `coldstart ingest FOLDER`
reads them, checks them, and writes them as Parquet. Files of other names or shapes can be turned into the tables by a
script `ingest.sql` in the same folder: each file is a DuckDB table named after it, and the script creates the three.
"""
_RULES = """\
## Rules

- Ids are text: leading zeros stay.
- Timestamps are DuckDB timestamps or dates, or ISO 8601 text. Without a time zone they are UTC.
- The ids in interactions stand in users and items.
- A table has at least one row.
- Columns of a CSV file are read as text. A column that holds only numbers and is not named above becomes a number.
- Input that breaks a rule is rejected. The error has one line for each breach: file, column, number of rows and the
  first three. Nothing is written.
"""
_ATTRIBUTES = """\
## Attributes

Every other column of items and users is an attribute. It becomes labels `column=value`, which the recommender learns
from:

| type of the column | labels | example |
|---|---|---|
| text, boolean, enum | one label; NULL and blank give none | `country=France` |
| list of texts or booleans | one label for each element | `tags=oak`, `tags=outdoor` |
| number | its band between powers of 2; zero and below share a band | 3.5: `price=2^1` (2 to 4); -1: `price<=0` |

Columns of other types, such as dates and structs, stay in the tables and give no label. Bands do not depend on the
data, so they do not shift as the data grow. `coldstart put --attribute price=3.5` and a filter
`attribute="price=2^1"` use the same bands.
"""
_EVENTS = """\
## Events

`event_type` says what happened. Each type has a weight, in purchases; a weight of 0 leaves the type out. The weights
are in [enrichment.json](settings.md#enrichment-json); `coldstart weigh` fits them to your data. The defaults:
"""
_NAMES = """\
Names of RetailRocket, REES46, Shopify, Magento, Google Analytics 4, Segment and others become these types, in any case
and with spaces, underscores, hyphens or none: `addtocart`, `Product Added` and `add_to_cart` are carts. `coldstart
ingest` says what became what. An impression is an item in a list that nobody clicked on: it is no evidence, and the
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
        *(_table(one) for one in TABLES),
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
