"""Event types: the contract's type of each name that shops use, and the types that are not known.

A name is recognised in any case, with spaces, underscores, hyphens or none: "Add to cart", `add_to_cart`, `addToCart`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import duckdb

from coldstart_udfs.quoting import quote_text
from coldstart_udfs.settings import ENRICHMENT_FILE, EVENT_WEIGHTS
from recommender.data.contract import (
    CART_REMOVAL,
    EVENT_TYPE,
    IMPRESSION,
    INTERACTION,
    ITEM_ID,
    RETURN,
    SEARCH,
    TAKE_BACK,
    WISHLIST_REMOVAL,
)
from recommender.data.event_words import AGAINST, NAMES_BY_LANGUAGE

_SHOWN = 20
_SEPARATORS = r"[\s_./:-]+"

# Names of the contract's types in exports of RetailRocket, REES46, Shopify, Magento, GA4, Segment and their kin.
_NAMES = {
    "view": """
        views, viewed, pv, detail, click, clicks, page view, page viewed, detail view, detail page view, product view,
        product viewed, product page view, product detail, product detail viewed, view product, view item, item view,
        item viewed, view content, content view, catalog product view, catalog controller product view,
        product click, product clicked, item click, select item, select content, select promotion, promotion clicked,
        promotion click, recs item click, search product click, catalog product compare add product
    """,
    "cart": """
        add, carts, basket, add to cart, added to cart, cart add, cart added, cart addition, add to basket, add to bag,
        added to bag, product added, product added to cart, item added, item added to cart, carts create,
        checkout cart add product, checkout cart add product complete, checkout cart product add after,
        recs item add to cart click, wishlist product added to cart
    """,
    CART_REMOVAL: """
        remove, remove from cart, removed from cart, cart remove, cart removed, cart delete, delete from cart,
        remove from basket, remove from bag, product removed, product removed from cart, item removed,
        item removed from cart, sales quote remove item
    """,
    "checkout": """
        checkouts, begin checkout, checkout begin, checkout started, checkout start, start checkout, initiate checkout,
        initiated checkout, checkouts create, checkouts update, checkout progress, checkout option,
        set checkout option, checkout step viewed, checkout step completed, checkout contact info submitted,
        checkout address info submitted, checkout shipping info submitted, payment info submitted,
        payment info entered, payment info added, add payment info, add shipping info
    """,
    "purchase": """
        purchases, purchased, transaction, transactions, buy, buys, bought, sale, sales, sold, order, orders, ordered,
        conversion, order placed, place order, order created, order create, order completed, order complete,
        order paid, order success, orders create, orders paid, checkout completed, checkout complete,
        checkout success, purchase complete, purchase completed, product purchased, item purchased,
        ecommerce purchase, in app purchase, sales order place after, checkout onepage controller success action
    """,
    RETURN: """
        returns, returned, refund, refunds, refunded, cancel, cancels, cancelled, canceled, cancellation, chargeback,
        credit memo, creditmemo, rma, product returned, item returned, product refunded, item refunded, order returned,
        order refunded, order refund, order cancelled, order canceled, order cancel, cancel order, purchase refund,
        partial refund, partially refunded, refund created, refunds create, orders cancelled, order cancel after,
        sales order creditmemo refund, sales order creditmemo save after
    """,
    "wishlist": """
        favorite, favourite, fav, add to wishlist, added to wishlist, wishlist add, wishlist add product,
        product added to wishlist, item added to wishlist, add to favorites, add to favourites
    """,
    WISHLIST_REMOVAL: """
        unfavorite, unfavourite, remove from wishlist, removed from wishlist, wishlist remove, product removed from
        wishlist, item removed from wishlist, remove from favorites, remove from favourites
    """,
    SEARCH: """
        searches, searched, query, products searched, product search, search submitted, site search, search request sent
    """,
    IMPRESSION: """
        impressions, imp, display, displayed, shown, view item list, item list view, list view, list viewed,
        product list viewed, product list filtered, product impression, product impressions, item impression,
        collection viewed, category view, category viewed, view category, view promotion, promotion viewed,
        promotion view, promotion impression, present offer, recs unit view, recs unit impression render,
        view cart, cart view, cart viewed, shopping cart view, shopping cart page view
    """,
}
# A page of results: a search if the row names no item, otherwise the impression of one.
_RESULTS = ("view search results", "search results viewed", "search results view", "search response received")
# In an unknown name these speak against the item; the proposed line leaves such a type out.
_AGAINST = re.compile(
    r"^(un|dis|down|de)|\b(no|not|never)\b|remov|delet|cancel|refund|return|hid|skip|abandon|fail|reject|declin|block|"
    rf"report|revers|revok|negativ|expir|{AGAINST}"
)


def _squashed(name: str) -> str:
    return re.sub(_SEPARATORS, "", name.strip().lower())


_TYPES = {
    _squashed(name): kind
    for table in (_NAMES, NAMES_BY_LANGUAGE) for kind, names in table.items() for name in names.split(",")
}  # fmt: skip
_TYPES |= {_squashed(kind): kind for kind in (*EVENT_WEIGHTS, *TAKE_BACK)}
_TYPES |= dict.fromkeys(map(_squashed, _RESULTS), SEARCH)
_OF_RESULTS = frozenset(map(_squashed, _RESULTS))


@dataclass(frozen=True)
class EventType:
    """One event type of a table.

    Attributes:
        raw: its name in the table, in lower case; "" for rows without a type.
        count: its number of rows.
        name: the contract's type, or `raw` if the settings name a weight for it; None if it is not known.
    """

    raw: str
    count: int
    name: str | None


def kind_of(name: str, own: Iterable[str] = ()) -> str | None:
    """Return the contract's type of a name, or None.

    Args:
        name: the name in any case, with any separators.
        own: types that the settings name. They stay as they are, unless they take something back.

    >>> kind_of("Product Added"), kind_of("remove_from_cart"), kind_of("vote"), kind_of("Vote", own=["vote"])
    ('cart', 'cart_removal', None, 'vote')
    >>> kind_of("购买"), kind_of("In den Warenkorb gelegt"), kind_of("Achat")
    ('purchase', 'cart', 'purchase')
    """
    plain = name.strip().lower()
    if not plain:
        return INTERACTION
    kind = _TYPES.get(_squashed(plain))
    return plain if plain in own and kind not in TAKE_BACK else kind


def read_event_types(con: duckdb.DuckDBPyConnection, weights: Mapping[str, float]) -> list[EventType]:
    """Return the event types of the table `interactions`, the most frequent first; none without such a column.

    Args:
        con: a connection with the table as it was read.
        weights: `event_weights` of the settings.
    """
    if EVENT_TYPE not in _columns(con):
        return []
    rows = con.execute(
        f"SELECT coalesce(lower(trim({EVENT_TYPE}::VARCHAR)), ''), count(*) FROM interactions GROUP BY 1 "
        "ORDER BY 2 DESC, 1"
    ).fetchall()
    return [EventType(raw, count, kind_of(raw, weights)) for raw, count in rows]


def rename(con: duckdb.DuckDBPyConnection, types: Sequence[EventType]) -> None:
    """Write the contract's types into the table `interactions` in place of other names for them."""
    others = [one for one in types if one.name not in (None, one.raw) and one.raw]
    if not others:
        return
    no_item = f"coalesce(trim({ITEM_ID}::VARCHAR), '') = ''" if ITEM_ID in _columns(con) else "true"
    cases = " ".join(
        f"WHEN {quote_text(one.raw)} THEN " + (
            f"CASE WHEN {no_item} THEN '{SEARCH}' ELSE '{IMPRESSION}' END"
            if _squashed(one.raw) in _OF_RESULTS else quote_text(str(one.name))
        ) for one in others
    )  # fmt: skip
    con.execute(f"ALTER TABLE interactions ALTER {EVENT_TYPE} TYPE VARCHAR")
    con.execute(
        f"UPDATE interactions SET {EVENT_TYPE} = CASE lower(trim({EVENT_TYPE})) {cases} ELSE {EVENT_TYPE} END "
        f"WHERE lower(trim({EVENT_TYPE})) IN ({', '.join(quote_text(one.raw) for one in others)})"
    )


def unknown_types(types: Sequence[EventType], weights: Mapping[str, float], origin: str) -> list[str]:
    """Return one sentence about the types that are not known, with the line of the settings; none if all are known.

    Args:
        types: the types of the table.
        weights: `event_weights` of the settings.
        origin: the file or script of the table.
    """
    unknown = [one for one in types if one.name is None]
    if not unknown:
        return []
    shown = ", ".join(f"{one.raw!r} ({one.count:,} {_rows(one.count)})" for one in unknown[:_SHOWN])
    more = f" and {len(unknown) - _SHOWN:,} more" if len(unknown) > _SHOWN else ""
    proposed = {one.raw: 0 if _AGAINST.search(one.raw) else 1 for one in unknown[:_SHOWN]}
    line = json.dumps({**weights, **proposed}, ensure_ascii=False)
    which = "1 type is" if len(unknown) == 1 else f"{len(unknown):,} types are"
    return [
        f"{origin}: column {EVENT_TYPE!r}: {which} not known: {shown}{more}. Known are "
        f"{', '.join((*EVENT_WEIGHTS, *TAKE_BACK[1:]))} and common names for them. Give each other type its weight, in "
        f"purchases (0 leaves it out), by this line in the {ENRICHMENT_FILE} of the Feast repository (--repo): "
        f'"event_weights": {line}'
    ]


def told(types: Sequence[EventType], weights: Mapping[str, float]) -> str:
    """Return what was understood: "view 12,031 (0.1), addtocart 3,201 → cart (0.5)".

    Args:
        types: the types of the table, as `read_event_types` returned them.
        weights: `event_weights` of the settings.
    """
    return ", ".join(_told(one, EVENT_WEIGHTS | dict(weights)) for one in types)


def _told(one: EventType, weights: Mapping[str, float]) -> str:
    head = f"{one.raw or '(none)'} {one.count:,}"
    if one.name is None:
        return f"{head} (not known)"
    if one.name != one.raw and _squashed(one.raw) in _OF_RESULTS:
        return f"{head} → {SEARCH} or {IMPRESSION} ({weights[SEARCH]:g} or {weights[IMPRESSION]:g})"
    arrow = "" if one.name == one.raw else f" → {one.name}"
    return f"{head}{arrow} " + ("(takes back)" if one.name in TAKE_BACK else f"({weights[one.name]:g})")


def _columns(con: duckdb.DuckDBPyConnection) -> set[str]:
    return {row[0] for row in con.execute("DESCRIBE interactions").fetchall()}


def _rows(count: int) -> str:
    return "row" if count == 1 else "rows"
