"""`Following`: a bundle's state, and every entry of the event log after the bundle's watermark."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import numpy as np

from coldstart_udfs.errors import ColdStartError
from recommender.data.contract import CART_REMOVAL, FAINT, IMPRESSION, RETURN, TAKE_BACK, WISHLIST_REMOVAL
from recommender.data.entities import Entities, describe
from recommender.data.event_types import kind_of
from recommender.data.events import EventWeights
from recommender.data.interactions import Interactions
from recommender.data.searches import MAX_SEARCHES
from recommender.model.fitted import Fitted
from recommender.model.freshness import utc
from recommender.model.revising import described, taken_back, without_users
from recommender.model.updating import updated
from recommender.serve.events.changes import Changes, Description, Side
from recommender.serve.events.event import Event
from recommender.serve.events.labels import banded, numeric_columns
from recommender.serve.events.log import EventLog
from recommender.serve.events.opening import watermark_of
from recommender.serve.events.undo import kept

if TYPE_CHECKING:
    from coldstart_udfs.encoder.encoder import Encoder

_REMOVALS = {CART_REMOVAL: "cart", WISHLIST_REMOVAL: "wishlist"}
# Ids that are read at once.
_PIECE = 50_000
Pair = tuple[str, str]
Numbered = tuple[int, Event | Description]


@dataclass(slots=True)
class _Counted:
    """An event that counts, as long as nothing takes it back."""

    kind: str
    weight: float
    back: bool = False

    @property
    def faint(self) -> bool:
        return (kind_of(self.kind) or self.kind) in FAINT


@dataclass(slots=True)
class _Reduction:
    """A weight and a number of events that a pair loses."""

    pair: Pair
    weight: float
    events: int


class Following:
    """A state that follows a log. It is changed by one thread at a time; each `fitted` is immutable.

    Events count as in training: with the weights of their types, aged from the same moment, without what was taken
    back. A return or removal takes back exactly what came after the bundle; of what is in the bundle, where a user has
    one weight for each item, a return takes back all. Events with items that nobody described wait for the description.
    An entry that cannot be taken in is set aside, so that the rest is followed; the next bundle tries it again.

    Args:
        fitted: the state in the bundle.
        watermark: of the last entry that the bundle holds.
        weights: by event type, and the half-life.
        moment: from which the bundle's weights are aged; None: events do not age.
        encoder: encodes descriptions and searches; None leaves vectors as they are.

    Attributes:
        fitted: the state now.
        watermark: of the last entry in it.
        pending: number of events after the bundle.
        pending_between: times of the oldest and the newest of them; None if there are none.
        set_aside: ids of the entries that could not be taken in, and why.
        held: the watermark of the bundle.
        erased: ids of users whom the bundle held, and who were erased since.
    """

    def __init__(
        self, fitted: Fitted, watermark: int, weights: EventWeights, moment: datetime | None, encoder: Encoder | None
    ) -> None:
        self.fitted, self.watermark, self.pending = fitted, watermark, 0
        self.pending_between: tuple[datetime, datetime] | None = None
        self.erased: list[str] = []
        self.set_aside: dict[int, str] = {}
        self.held = watermark
        self._moved: set[str] = set()
        self._changed: dict[str, int] = {}
        self._latest: datetime | None = None
        self._bundle, self._weights, self._moment, self._encoder = replace(fitted), weights, moment, encoder
        self._events_of: defaultdict[str, int] = defaultdict(int)
        self._pairs: defaultdict[Pair, list[_Counted]] = defaultdict(list)
        self._bundle_back: set[Pair] = set()
        self._waiting: defaultdict[str, list[Event]] = defaultdict(list)
        self._own_texts: dict[str, str] = {}
        self._queries: defaultdict[str, list[str]] = defaultdict(list)
        self._numeric = {"user": numeric_columns(fitted.user_space), "item": numeric_columns(fitted.item_space)}

    @property
    def bundle(self) -> Fitted:
        """The state in the bundle, without the users who were erased since, and without derived values (100 MB)."""
        return self._bundle

    @property
    def ageing(self) -> float:
        """What makes of a profile here that of the moment after the last event, as `coldstart profiles` has it."""
        if self._moment is None or self._latest is None:
            return 1.0
        last = self._latest.replace(microsecond=0) + timedelta(seconds=1)
        days = (last - self._moment).total_seconds() / 86_400
        return float(0.5 ** (max(days, 0.0) / self._weights.half_life_days))

    def changed_after(self, watermark: int) -> list[tuple[str, int]]:
        """The users whose profiles changed after an entry of the log, and the id of the last entry that changed each.

        The earliest change comes first.
        """
        newest = takewhile(lambda user: self._changed[user] > watermark, reversed(self._changed))
        return [(user, self._changed[user]) for user in newest][::-1]

    def follow(self, log: EventLog, until: int | None = None) -> bool:
        """Take in all that is new in the log, up to an id if it is given; whether anything was."""
        began = self.watermark
        while True:
            left = _PIECE if until is None else min(until - self.watermark, _PIECE)
            changes = log.after(self.watermark, limit=left)
            if changes.watermark > self.watermark:
                self._apply(changes, log)
            if changes.watermark >= (changes.last if until is None else min(until, changes.last)):
                return self.watermark > began

    def _apply(self, changes: Changes, log: EventLog) -> None:
        if changes.erasures:
            self._erase({digest for _, digest in changes.erasures}, log)
        self.set_aside.update(changes.unreadable)
        entries: list[Numbered] = []
        for number, event in changes.events:
            lacking = [kind for kind, _ in event.rows if kind not in self._weights.by_type and kind not in TAKE_BACK]
            if lacking:
                self.set_aside[number] = f"the event type {lacking[0]!r} has no weight in enrichment.json"
            else:
                entries.append((number, event))
        self._take(sorted([*entries, *changes.descriptions], key=itemgetter(0)))
        self.watermark = changes.watermark

    def _take(self, entries: Sequence[Numbered]) -> None:
        """Take in events and descriptions, in the order of their ids, but for those that cannot be taken in.

        Raises:
            MemoryError, OSError: the machine lacks something; a part may have been taken in, so begin from the bundle.
        """
        if not entries:
            return
        events = [one for _, one in entries if isinstance(one, Event)]
        put = [one for _, one in entries if isinstance(one, Description)]
        undo = self._undo(events, put)
        self._moved.clear()
        try:
            came = self._describe(put, events)
            waited = [event for item in came for event in self._waiting.pop(item, ())]
            self._count([*waited, *events])
            for event in events:
                self._events_of[event.user_id] += 1
            self.pending += len(events)
            moments = [*(self.pending_between or ()), *(event.event_timestamp for event in events)]
            self.pending_between = (min(moments), max(moments)) if moments else None
            self._check_finite({event.user_id for event in [*waited, *events]})
        except Exception as error:
            undo()
            if isinstance(error, MemoryError | OSError):
                raise
            if len(entries) == 1:
                self.set_aside[entries[0][0]] = type(error).__name__
                return
            middle = len(entries) // 2
            self._take(entries[:middle])
            self._take(entries[middle:])
            return
        for number, one in entries:
            if isinstance(one, Event) and one.user_id in self._moved:
                self._note(one.user_id, number)
        for user in self._moved - {event.user_id for event in events}:  # whose item was described
            self._note(user, entries[-1][0])

    def _note(self, user: str, number: int) -> None:
        """The profile changed last by an entry, which comes after all others."""
        self._changed.pop(user, None)
        self._changed[user] = number

    def _undo(self, events: Sequence[Event], put: Sequence[Description]) -> Callable[[], None]:
        """What makes the state what it is now, after these were taken in, or a part of them."""
        items = {one.entity_id for one in put if one.side == "item"}
        touching = [*events, *(event for item in items for event in self._waiting.get(item, ()))]
        users = {event.user_id for event in events} | {one.entity_id for one in put if one.side == "user"}
        items |= {event.item_id for event in events if event.item_id is not None}
        pairs = {(event.user_id, event.item_id) for event in touching if event.item_id is not None}
        fitted, latest, back = self.fitted, self._latest, self._bundle_back & pairs
        pending, between = self.pending, self.pending_between
        restore = [
            kept(self._events_of, users), kept(self._own_texts, users), kept(self._queries, users),
            kept(self._waiting, items, list),
            kept(self._pairs, pairs, lambda there: [replace(one) for one in there]),
        ]  # fmt: skip

        def undo() -> None:
            self.fitted, self._latest = fitted, latest
            self.pending, self.pending_between = pending, between
            self._bundle_back = (self._bundle_back - pairs) | back
            for part in restore:
                part()

        return undo

    def _check_finite(self, users: Iterable[str]) -> None:
        """Raise an error if histories or profiles of users have numbers that make every score of theirs NaN."""
        rows = self.fitted.users.rows(users)
        rows = rows[rows >= 0]
        numbers = self.fitted.history.take(rows).data, self.fitted.users.profiles.take(rows)
        if not all(np.isfinite(values).all() for values in numbers):
            raise ColdStartError("the event makes a profile infinite")

    def _erase(self, digests: set[bytes], log: EventLog) -> None:
        known = {*self.fitted.users.ids(np.arange(len(self.fitted.users))), *self._events_of}
        gone = {name for name in known if log.digest_of(name) in digests}
        if not gone:
            return
        reductions = [
            reduction for pair, there in self._pairs.items() if pair[0] in gone
            for reduction in self._taken(pair, [one for one in there if not one.back], share=1.0)
        ]  # fmt: skip
        if reductions:
            self._reduce(reductions)
        self.erased += [name for name in gone if self._bundle.users.row(name) >= 0]
        self.fitted, self._bundle = without_users(self.fitted, gone), without_users(self._bundle, gone)
        self.pending -= sum(self._events_of.pop(name, 0) for name in gone)
        for name in gone:
            self._own_texts.pop(name, None)
            self._queries.pop(name, None)
            self._changed.pop(name, None)
        for pair in [pair for pair in self._pairs if pair[0] in gone]:
            del self._pairs[pair]
        self._bundle_back = {pair for pair in self._bundle_back if pair[0] not in gone}
        for item, events in self._waiting.items():
            self._waiting[item] = [event for event in events if event.user_id not in gone]

    def _describe(self, put: Sequence[Description], events: Sequence[Event]) -> list[str]:
        """Take in descriptions and searches; the ids of the items that were described."""
        latest: dict[tuple[Side, str], Description] = {(one.side, one.entity_id): one for one in put}
        items = {name: told for (side, name), told in latest.items() if side == "item"}
        users: dict[str, Description | None] = {name: told for (side, name), told in latest.items() if side == "user"}
        for event in events:
            if event.query:
                query = " ".join(event.query.lower().split())
                queries = self._queries[event.user_id]
                self._queries[event.user_id] = [query, *(one for one in queries if one != query)][:MAX_SEARCHES]
                users.setdefault(event.user_id, None)
        self._tell("item", {name: told.description for name, told in items.items()}, items)
        self._tell("user", {name: self._text_of(name, told) for name, told in users.items()}, users)
        return list(items)

    def _text_of(self, user: str, put: Description | None) -> str:
        """A user's own text, then what they searched for, newest first."""
        if put is not None:
            self._own_texts[user] = put.description
        elif user not in self._own_texts:
            row = self._bundle.users.rows([user])
            self._own_texts[user] = self._bundle.users.descriptions(row)[0] if row[0] >= 0 else ""
        own = self._own_texts[user]
        known = set(own.split("\n"))
        return "\n".join([*[own] * bool(own), *(query for query in self._queries[user] if query not in known)])

    def _tell(self, side: Side, texts: dict[str, str], put: dict[str, Any]) -> None:
        if not texts:
            return
        known, ids = self.fitted.users if side == "user" else self.fitted.items, list(texts)
        rows, descriptions = known.rows(ids), list(texts.values())
        attributes = [
            [banded(label, self._numeric[side]) for label in put[name].attributes]
            if put[name] is not None and put[name].attributes is not None
            else known.take(rows[[place]]).attributes[0] if rows[place] >= 0 else []
            for place, name in enumerate(ids)
        ]  # fmt: skip
        if self._encoder is not None:
            told = describe(self._encoder, ids, descriptions, attributes)
        else:
            vectors = np.where((rows >= 0)[:, None], known.embeddings.take(np.maximum(rows, 0)), 0).astype(np.float32)
            zeros = np.zeros_like(vectors)
            told = Entities(ids, descriptions, attributes, vectors, zeros, np.zeros(len(ids)), known.fingerprint)
        came = np.array([utc(put[name].event_timestamp) for name in ids]) if side == "item" else None
        self.fitted = described(self.fitted, side, told, came)

    def _count(self, events: Iterable[Event]) -> None:
        """Take in interactions, and what takes them back."""
        added: list[tuple[Event, float]] = []
        reductions: list[_Reduction] = []
        for event in events:
            item = event.item_id
            if item is not None and self.fitted.items.row(item) < 0:
                self._waiting[item].append(event)
                continue
            self._latest = max(self._latest or event.event_timestamp, event.event_timestamp)
            for kind, given in event.rows if item is not None else ():
                pair = (event.user_id, str(item))
                if kind in TAKE_BACK:
                    reductions += self._back(pair, kind)
                    continue
                aged = given * self._ageing(event.event_timestamp)
                weight = float(np.float32(self._weights.by_type.get(kind, 0.0) * aged))
                if weight:
                    self._pairs[pair].append(_Counted(kind, weight))
                if weight or kind != IMPRESSION:
                    added.append((event, weight))
        if added:
            self._add(added)
        if reductions:
            self._reduce(reductions)

    def _ageing(self, moment: datetime) -> float:
        if self._moment is None:
            return 1.0
        days = (moment - self._moment).total_seconds() / 86_400
        # The lower bound is that of training (`Interactions.weighted`); squares of greater weights would be infinite.
        return float(max(2 ** min(days / self._weights.half_life_days, 30.0), 1e-30))

    def _back(self, pair: Pair, kind: str) -> list[_Reduction]:
        """What a return or a removal takes back; see `recommender.data.take_back`."""
        if kind in _REMOVALS:
            # A purchase, returned or not, keeps what led to it.
            after = list(takewhile(lambda one: one.faint, reversed(self._pairs[pair])))
            there = [one for one in after if kind_of(one.kind) == _REMOVALS[kind] and not one.back]
            return self._taken(pair, there[:1])
        there = [one for one in self._pairs[pair] if not one.back]
        purchases = [one for one in there if not one.faint]
        in_bundle = 0.0 if pair in self._bundle_back else self._in_bundle(pair)
        if len(purchases) > 1 or (purchases and in_bundle):
            return self._taken(pair, purchases[-1:])
        found = self._taken(pair, there)
        if not purchases and in_bundle:
            self._bundle_back.add(pair)
            share = self._weights.of(RETURN)
            found.append(_Reduction(pair, in_bundle * share, int(share == 1)))
        return found

    def _taken(self, pair: Pair, taken: Sequence[_Counted], share: float | None = None) -> list[_Reduction]:
        share = self._weights.of(RETURN) if share is None else share
        for one in taken:
            one.back = True
        return [_Reduction(pair, one.weight * share, int(share == 1)) for one in taken]

    def _in_bundle(self, pair: Pair) -> float:
        column = self._bundle.items.row(pair[1])
        return float(self._bundle.history_of([pair[0]])[0, column]) if column >= 0 else 0.0

    def _add(self, added: Sequence[tuple[Event, float]]) -> None:
        users = list(dict.fromkeys(event.user_id for event, _ in added))
        items = list(dict.fromkeys(str(event.item_id) for event, _ in added))
        places = [{name: row for row, name in enumerate(side)} for side in (users, items)]
        seen = Interactions(
            users, items,
            np.array([places[0][event.user_id] for event, _ in added], np.int64),
            np.array([places[1][str(event.item_id)] for event, _ in added], np.int64),
            np.array([event.event_timestamp.replace(tzinfo=None) for event, _ in added], "datetime64[us]"),
            np.array([weight or 1 for _, weight in added], np.float32),
        )  # fmt: skip
        width, fingerprint = self.fitted.items.embeddings.shape[1], self.fitted.items.fingerprint
        counted = seen.select(np.array([weight > 0 for _, weight in added]))
        of_users, of_items = (Entities.nothing(side, width, fingerprint) for side in (users, items))
        self._moved.update(event.user_id for event, weight in added if weight)
        self.fitted = updated(self.fitted, counted, of_users, of_items, seen)

    def _reduce(self, reductions: Sequence[_Reduction]) -> None:
        self._moved.update(one.pair[0] for one in reductions)
        self.fitted = taken_back(
            self.fitted,
            self.fitted.users.rows(one.pair[0] for one in reductions),
            self.fitted.items.rows(one.pair[1] for one in reductions),
            np.array([one.weight for one in reductions], np.float32),
            np.array([one.events for one in reductions], np.int64),
        )


def following(
    fitted: Fitted, manifest: Mapping[str, Any], log: EventLog, weights: EventWeights | None = None,
    encoder: Encoder | None = None,
) -> Following:
    """A bundle, of which the manifest says what it holds of the log."""
    until = manifest.get("trained_until")
    moment = datetime.fromisoformat(until).astimezone(UTC) if until else None
    return Following(fitted, watermark_of(manifest, log), weights or EventWeights(), moment, encoder)
