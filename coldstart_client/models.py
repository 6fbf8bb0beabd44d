"""The requests and answers of the service, as they stand in its OpenAPI description: service and client share them."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, FiniteFloat, StrictBool, model_validator

LONGEST_TEXT = 10_000
MOST_ROWS = 500
# A sentence takes some milliseconds.
MOST_EXPLAINED = 50
MOST_EVENTS = 1_000
_EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)

# No control characters: ids and labels end up in logs, tables and terminals.
_PRINTED = r"[^\x00-\x1f\x7f-\x9f]"


def _number(value: Any) -> Any:
    if isinstance(value, str | bool):
        raise ValueError("Input should be a number, without quotes")
    return value


def _moment(value: Any) -> Any:
    if not (value is None or isinstance(value, datetime) or (isinstance(value, str) and _DATE.match(value))):
        raise ValueError("Input should be a date and time of ISO 8601, such as 2026-01-31T12:00:00Z")
    return value


_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ]")
# pydantic would convert what JSON Schema does not allow: "5" and true to numbers, numbers to moments.
_Number, _Moment = BeforeValidator(_number), BeforeValidator(_moment)
Id = Annotated[str, Field(min_length=1, max_length=256, pattern=f"^{_PRINTED}+$")]
Text = Annotated[str, Field(max_length=LONGEST_TEXT)]
Label = Annotated[str, Field(max_length=256, pattern="^[^=]+=")]
NewLabel = Annotated[str, Field(max_length=256, pattern=rf"^[^=\x00-\x1f\x7f-\x9f]+={_PRINTED}*$")]
Ids = Annotated[list[Id], Field(max_length=10_000)]
Count = Annotated[int, Field(ge=1, le=MOST_ROWS, description="How many rows at most."), _Number]
Tier = Literal["warm", "linked", "cold", "unknown"]
Reason = Literal["model", "pinned", "boosted", "exploration"]
OtherLanguage = Annotated[
    str | None, Field(description="The language of the text (ISO 639-1), if it was asked for, is certain, and is one "
    "that the encoder does not know.")
]  # fmt: skip
# Those of the data contract, and ratings.
EventType = Literal[
    "impression", "view", "search", "wishlist", "wishlist_removal", "cart", "cart_removal", "checkout", "interaction",
    "purchase", "return", "rating",
]  # fmt: skip


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid")


class SessionEvent(_Request):
    """What a user did a moment ago, which no event of the log tells."""

    item_id: Id
    event_type: Literal["view", "cart", "purchase"] = "view"


class Asker(_Request):
    """The user of a request: an id, a description, events of the session, or several of them."""

    user_id: Id | None = Field(None, description="The user. They may be unknown.")
    description: Text | None = Field(
        None, description="What the user says of themselves; it replaces the stored description. Private data in it "
        "are replaced before anything else is done."
    )  # fmt: skip
    session: Annotated[list[SessionEvent], Field(max_length=200)] = Field(
        default=[], description="Events that count in this answer alone, such as those of a guest without an account."
    )


class RecommendRequest(Asker):
    """The best items for a user; without a user, the most popular ones."""

    model_config = ConfigDict(json_schema_extra={"examples": [
        {"user_id": "17850", "k": 5, "explain": True},
        {"description": "vintage enamel for a garden cafe", "k": 5, "without": ["22423"]},
        {"session": [{"item_id": "22430", "event_type": "cart"}], "pin": ["21137"], "diversity": 0.3},
    ]})  # fmt: skip

    k: Count = 10
    exclude_seen: StrictBool = Field(True, description="Leave out what the user has interacted with.")
    among: Ids | None = Field(None, description="The items that may be recommended.")
    without: Ids = Field(default=[], description="Items that may not be recommended, such as those out of stock.")
    attribute: Label | None = Field(None, description='"column=value" that an item must have.')
    pin: Annotated[list[Id], Field(max_length=100)] = Field(default=[], description="Items that come first.")
    boost: Annotated[dict[str, Annotated[float, Field(ge=-1e6, le=1e6), _Number]], Field(max_length=100)] = Field(
        default={}, description='What is added to scores, by item or "column=value".'
    )
    diversity: Annotated[float, Field(ge=0, le=1), _Number] = Field(
        0.0, description="The cost of likeness to the items above."
    )
    explain: StrictBool = Field(False, description=f"Add a sentence to each item; k is at most {MOST_EXPLAINED} then.")
    explore: StrictBool = Field(
        True, description="Whether new items may fill the places that the service reserves for them. Give false for a "
        "list that nobody sees."
    )  # fmt: skip

    @model_validator(mode="after")
    def _not_all_explained(self) -> RecommendRequest:
        if self.explain and self.k > MOST_EXPLAINED:
            raise ValueError(f"explain takes k up to {MOST_EXPLAINED}; ask for the others without it")
        return self


class AudienceRequest(_Request):
    """The users to whom an item matters most."""

    model_config = ConfigDict(json_schema_extra={"examples": [
        {"item_id": "22430", "k": 5}, {"description": "set of 6 herb garden tin pots"},
    ]})  # fmt: skip

    item_id: Id | None = Field(None, description="The item. It may be unknown.")
    description: Text | None = Field(None, description="The text of the item; it replaces the stored one.")
    k: Count = 10
    exclude_seen: StrictBool = Field(True, description="Leave out users who have interacted with the item.")
    explain: StrictBool = Field(False, description="Add what the item's text says: `tags`, and `other_language`.")

    @model_validator(mode="after")
    def _some_item(self) -> AudienceRequest:
        if not self.item_id and not (self.description or "").strip():
            raise ValueError("no item is given; give item_id, description, or both")
        return self


class EnrichRequest(Asker):
    """The profile of a text, or of a user and what they do, and the items nearest to it."""

    model_config = ConfigDict(json_schema_extra={"examples": [
        {"description": "vintage enamel for a garden cafe"},
        {"description": "vintage enamel for a garden cafe", "session": [{"item_id": "22430"}], "explain": True},
    ]})  # fmt: skip

    description: Text | None = Field(
        None, description="A text with at least one character that is no space. Private data in it are replaced before "
        "anything else is done.", pattern=r"\S",
    )  # fmt: skip
    k: Count = 10
    explain: StrictBool = Field(False, description="Add `other_language`.")

    @model_validator(mode="after")
    def _somebody(self) -> EnrichRequest:
        if self.user_id is None and self.description is None and not self.session:
            raise ValueError("nobody is given; give description, user_id, session, or several of them")
        return self


class ExplainRequest(Asker):
    """The terms of one score."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"user_id": "17850", "item_id": "22430"}]})

    item_id: Id


class _Answer(BaseModel):
    pass


class Parts(_Answer):
    """The parts of a score, which add up to it, boosts apart."""

    popularity: float
    lightfm: float
    history: float
    text: float


class RecommendedItem(_Answer):
    """One place of a list."""

    rank: int
    item_id: str
    description: str
    score: float
    parts: Parts
    reason: Reason = Field(description="What put the item on the list.")
    because: str | None = Field(None, description="A sentence for people, if it was asked for.")


class Answer(_Answer):
    """What all answers about users and items say."""

    recommendation_id: str = Field(description="Events can cite it.")
    bundle: str = Field(description="The id of the trained recommender.")
    tier: Tier = Field(description="What is known of the user or item.")
    degraded: str | None = Field(
        None, description="Why the answer is not made from the online store as it should be; null if it is."
    )


class Recommendations(Answer):
    """The best items for a user."""

    unknown_items: list[str] = Field(default=[], description="Items of the session that the recommender does not know.")
    experiments: dict[str, str] = Field(default={}, description="The arm of each experiment that the user is in.")
    items: list[RecommendedItem]


class AudienceMember(_Answer):
    """One place of an audience."""

    rank: int
    user_id: str
    bought_alike: str = Field(description="The description nearest to the item's, of those in the user's history.")
    score: float = Field(description="By which users are ranked: the sum of the parts and of `activity`.")
    parts: Parts = Field(description="The parts of the score of this user and item.")
    activity: float = Field(description="How much the user does, and how much of it is like the item.")


class Tag(_Answer):
    """What a text says of an item."""

    label: str = Field(description='"red", "metal" …; of a price its band, such as "2^3" for 8 up to 16.')
    group: str = Field(description="colour, material, audience, style, occasion or price.")
    score: float = Field(description="The estimated probability that the label is right, 0.5 to 1.")


class Audience(Answer):
    """The users to whom an item matters most."""

    tags: list[Tag] | None = Field(default=None, description="What the item's text says, if it was asked for.")
    other_language: OtherLanguage = None
    users: list[AudienceMember]


class KnownUser(_Answer):
    """A user with history."""

    user_id: str
    evidence: float = Field(description="n, the number of interactions behind their profile.")


class KnownUsers(_Answer):
    """Some users with history."""

    bundle: str = Field(description="The id of the trained recommender.")
    users: list[KnownUser]


class NearestItem(_Answer):
    """An item near a text."""

    rank: int
    item_id: str
    description: str
    cosine: float


class Enriched(Answer):
    """The profile of a text, or of a user and what they do: P' = P + α(n)·M(d)."""

    description: str | None = Field(None, description="The text of the request without private data.")
    other_language: OtherLanguage = None
    fingerprint: str = Field(description="Of the encoder.")
    evidence: float = Field(description="n, the number of interactions behind P.")
    alpha: float = Field(description="α(n), the weight of a description beside n interactions.")
    words: float = Field(description="The length of α(n)·M(d): α(n), or 0 without a description.")
    behaviour: float = Field(description="The length of P; 0 without history.")
    profile: list[float] = Field(description="P'; without history α·M(d).")
    items: list[NearestItem]


class Term(_Answer):
    """One term of a score."""

    term: str
    kind: str
    value: float


class Explanation(Answer):
    """The terms of one score, the largest first; they add up to it."""

    item_id: str
    score: float
    because: str
    terms: list[Term]


class FeedbackEvent(_Request):
    """What a user did."""

    user_id: Id
    item_id: Id | None = Field(None, description="Every event but a search has one.")
    event_type: EventType
    event_timestamp: Annotated[datetime | None, _Moment] = Field(
        None, description="With a time zone; the time of arrival if it is absent."
    )
    weight: Annotated[float, Field(ge=1e-6, le=1e6), _Number] | None = None
    rating: Annotated[FiniteFloat, _Number] | None = None
    position: Annotated[int, Field(ge=1, le=100_000), _Number] | None = Field(
        None, description="From 1; of an impression."
    )
    query: Annotated[str, Field(max_length=1_000)] | None = Field(None, description="The words of a search.")
    recommendation_id: Annotated[str, Field(max_length=64, pattern=f"^{_PRINTED}+$")] | None = Field(
        None, description="The answer that showed the item."
    )

    @model_validator(mode="after")
    def _whole(self) -> FeedbackEvent:
        if self.event_type == "search" and not (self.query or "").strip():
            raise ValueError("a search needs its query")
        if self.event_type != "search" and self.item_id is None:
            raise ValueError(f"an event of the type {self.event_type} needs an item_id")
        if self.event_type == "rating" and self.rating is None:
            raise ValueError("an event of the type rating needs a rating")
        if self.event_timestamp is not None and self.event_timestamp.tzinfo is None:
            raise ValueError("event_timestamp has no time zone; add one, such as 2026-01-31T12:00:00Z")
        if self.event_timestamp is not None and self.event_timestamp < _EARLIEST:
            raise ValueError(
                f"event_timestamp is {self.event_timestamp.isoformat()}; give a moment from {_EARLIEST:%Y} on, UTC"
            )
        return self


class EventsRequest(_Request):
    """A batch of events, which is stored as a whole or not at all."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"events": [
        {"user_id": "17850", "item_id": "22430", "event_type": "purchase"},
        {"user_id": "17850", "item_id": "21137", "event_type": "impression", "position": 1},
    ]}]})  # fmt: skip

    events: Annotated[list[FeedbackEvent], Field(min_length=1, max_length=MOST_EVENTS)]


class Accepted(_Answer):
    """Events that are on disk."""

    accepted: int
    ids: list[int] = Field(description="Of the events in the log.")
    replayed: bool = Field(description="The idempotency key was used before with these events; nothing was stored.")


class EntityRequest(_Request):
    """A user or an item, in words and attributes."""

    model_config = ConfigDict(json_schema_extra={"examples": [
        {"description": "set of 6 herb garden tin pots", "attributes": ["category=garden"]},
    ]})  # fmt: skip

    description: Text = ""
    attributes: Annotated[list[NewLabel], Field(max_length=100)] = []


class Stored(_Answer):
    """A user or an item that can be recommended, or recommended to, from the next request on."""

    id: str
    description: str


class Erased(_Answer):
    """The receipt of an erasure."""

    removed: dict[str, int] = Field(description="How much was removed, by kind.")
    remains: list[str] = Field(description="Sentences on what remains, and until when.")


class Health(_Answer):
    """What the service does at this moment."""

    status: Literal["ok"]
    bundle: str
    degraded: str | None
    pending_events: int = Field(description="Events that are not in the bundle yet.")
    set_aside: int = Field(description="Entries of the event log that cannot be taken in; the rest is followed.")


class Problem(BaseModel):
    """An error (RFC 9457)."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    request_id: str
    errors: list[dict[str, Any]] | None = None
