"""`Event`: something that a user did, or that was shown to them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime

from coldstart_udfs.errors import ColdStartError
from coldstart_udfs.profile import has_text
from recommender.data.contract import INTERACTION, RETURN, SEARCH
from recommender.data.event_types import kind_of

RATING = "rating"
HIGHEST_RATING = 5.0
# A lower rating does not speak for the item.
_LEAST_POSITIVE = 3.0
_LAST_POSITION = 2**31 - 1
# The least and the greatest weight: products of them with a type's weight and an age are numbers of float32.
_WEIGHTS = 1e-6, 1e6
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


def check_text(name: str, text: str | None) -> None:
    """Raise a ColdStartError if a database cannot store a text."""
    if text and (found := _UNSTORABLE.search(text)):
        raise ColdStartError(f"{name} has the character {found[0]!r}, which is no text; leave it out")


@dataclass(frozen=True, slots=True)
class Event:
    """Something that a user did with an item, or a search, validated on construction.

    Attributes:
        user_id: who did it.
        item_id: with what; None for a search without one.
        event_type: impression, view, cart, purchase, return, rating, search, or another type of the data contract.
            Common names become the contract's type (`add_to_cart` is `cart`); others stay, in lower case.
        event_timestamp: when it happened; becomes UTC.
        weight: how much it counts, as in the data contract, from 1e-6 to 1e6; None is 1.
        rating: 1 to 5, of the type `rating`. From 3 on it speaks for the item; a lower one against it (see `rows`).
        position: of an impression, the place in the list, from 1.
        query: of a search, what was searched for.
        recommendation_id: of the answer that led to it.

    Raises:
        ColdStartError: a value is missing, or out of range.

    >>> Event("17850", "22423", "Add to cart", datetime(2026, 1, 1, tzinfo=UTC)).event_type
    'cart'
    """

    user_id: str
    item_id: str | None
    event_type: str
    event_timestamp: datetime
    weight: float | None = None
    rating: float | None = None
    position: int | None = None
    query: str | None = None
    recommendation_id: str | None = None

    def __post_init__(self) -> None:
        if not has_text(self.event_type):
            raise ColdStartError("the event_type is blank; give view, cart, purchase, return, rating, search …")
        plain = self.event_type.strip().lower()
        kind = kind_of(plain) or plain
        object.__setattr__(self, "event_type", kind)
        if not has_text(self.user_id):
            raise ColdStartError(f"the user_id of a {kind} is {self.user_id!r}; ids are not blank")
        if kind == SEARCH and not (self.query and has_text(self.query)):
            raise ColdStartError(f"the query of a {SEARCH} is {self.query!r}; give what was searched for")
        if not (self.item_id and has_text(self.item_id)) and (kind != SEARCH or self.item_id is not None):
            raise ColdStartError(f"the item_id of a {kind} is {self.item_id!r}; only a {SEARCH} may have None")
        if self.event_timestamp.tzinfo is None:
            raise ColdStartError(f"event_timestamp {self.event_timestamp.isoformat()} has no time zone; give UTC")
        try:
            object.__setattr__(self, "event_timestamp", self.event_timestamp.astimezone(UTC))
        except OverflowError:
            raise ColdStartError(
                f"event_timestamp {self.event_timestamp.isoformat()} is in no year from 1 to 9999 of UTC"
            ) from None
        least, greatest = _WEIGHTS
        if self.weight is not None and not least <= self.weight <= greatest:
            raise ColdStartError(f"weight is {self.weight!r}; it must be a number from {least:g} to {greatest:,.0f}")
        if (kind == RATING) != (self.rating is not None):
            raise ColdStartError(f"a {kind} has the rating {self.rating!r}; a {RATING} has one, no other type has")
        if self.rating is not None and not 1 <= self.rating <= HIGHEST_RATING:
            raise ColdStartError(f"rating is {self.rating!r}; it must be a number from 1 to {HIGHEST_RATING:g}")
        if self.position is not None and not 1 <= self.position <= _LAST_POSITION:
            raise ColdStartError(f"position is {self.position!r}; the first place is 1, the last {_LAST_POSITION:,}")
        for name in ("user_id", "item_id", "event_type", "query", "recommendation_id"):
            check_text(name, getattr(self, name))

    @property
    def rows(self) -> tuple[tuple[str, float], ...]:
        """Type and weight of the rows of this event in the table `interactions` of the data contract.

        A rating from 3 on is an `interaction` that weighs its share of the highest one. A lower one is a `view` and a
        `return`: it takes back what spoke for the item, which stays seen and is not recommended again.
        """
        weight = 1.0 if self.weight is None else self.weight
        if self.rating is None:
            return ((self.event_type, weight),)
        if self.rating < _LEAST_POSITIVE:
            return (("view", 1.0), (RETURN, 1.0))
        return ((INTERACTION, weight * self.rating / HIGHEST_RATING),)
