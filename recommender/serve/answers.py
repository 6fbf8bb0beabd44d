"""From requests to answers: features of the online store or the bundle, the recommender, its lists."""

from __future__ import annotations

import secrets
from collections.abc import Container, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from coldstart_client import models as schemas
from coldstart_udfs.errors import ColdStartError
from recommender.data.entities import Entities
from recommender.data.events import EventWeights
from recommender.model import tables
from recommender.model.explain import sentence, terms, with_link
from recommender.model.fitted import Fitted, ItemSide
from recommender.model.known import KnownEntities
from recommender.model.linked import LINKED
from recommender.model.ranking import Rules
from recommender.model.requests import UnknownIdError
from recommender.model.scoring import Block
from recommender.model.single import best_of, block_of, described
from recommender.model.user_side import UserSide
from recommender.serve.policy.decisions import Decision
from recommender.serve.policy.drawing import NAME, Draw, with_slots
from recommender.serve.reading import Reading
from recommender.serve.store import LACKING, OTHER_ENCODER, OnlineStore, Stored, StoreError

# The id of who has none; no id is empty.
_NOBODY = ""
# Why an item is on a list that no score has put there.
_NEW = "it is new, and is shown to learn who wants it"

# A text without private data, and its embedding.
Encoded = tuple[str, NDArray[np.float32]]
# Ids of items, and what an opinion of each weighs, in purchases.
Opinions = Sequence[tuple[str, float]]


@dataclass(frozen=True)
class Moment:
    """What answers are made from at one moment.

    Attributes:
        fitted: the state of the recommender.
        base: the state in the bundle: what differs from it came later, and the store need not know it.
        bundle: the bundle's id.
    """

    fitted: Fitted
    base: Fitted
    bundle: str


class Answers:
    """Answers requests; any number of threads may ask.

    Args:
        store: the online store.
        weights: of the events of a session.
        reading: of what texts say.
    """

    def __init__(self, store: OnlineStore, weights: EventWeights, reading: Reading) -> None:
        self._store, self._weights, self._reading = store, weights, reading

    def recommend(
        self, now: Moment, request: schemas.RecommendRequest, said: Encoded | None, opinions: Opinions = ()
    ) -> schemas.Recommendations:
        """The best items for a user.

        Args:
            now: what the answer is made from.
            request: what is asked.
            said: the text of the request.
            opinions: of items, which count as events of the session do.

        Raises:
            UnknownIdError: a rule names an item that the recommender does not know.
            ColdStartError: no item has the attribute of a rule.
        """
        return self.explored(now, request, said, None, opinions)[0]

    def explored(
        self, now: Moment, request: schemas.RecommendRequest, said: Encoded | None, draw: Draw | None,
        opinions: Opinions = (),
    ) -> tuple[schemas.Recommendations, list[Decision]]:  # fmt: skip
        """As `recommend`, with new items in reserved places; a degraded answer has none.

        Args:
            now: what the answer is made from.
            request: the request.
            said: its text.
            draw: fills the places; None reserves none.
            opinions: see `recommend`.

        Returns:
            The answer, and what was drawn. It has to be logged before the answer leaves.
        """
        fitted = now.fitted
        rules = Rules.of(
            fitted, request.k, request.among, request.without, request.attribute, request.boost, request.pin,
            request.diversity,
        )  # fmt: skip
        block, degraded, unknown, session = self._asker(now, request, said, opinions)
        seen, total = session if request.exclude_seen else None, block.total(fitted.all_items)
        linked, reason = self._linked(block, fitted.all_items)
        rules, degraded = replace(rules, linked=linked), degraded or reason
        rows = best_of(block, total, rules, seen=seen)
        slots = draw.fill(block, total, rules, seen, rows) if draw is not None and degraded is None else []
        rows = with_slots(rows, slots)
        found = described(block, total, rules, rows, explain=request.explain)
        names, new = list(found.parts), {slot.row for slot in slots}
        parts = zip(*(part.tolist() for part in found.parts.values()), strict=True)
        sentences: Sequence[str | None] = found.sentences or [None] * len(rows)
        ids, texts = fitted.items.ids(rows), fitted.items.descriptions(rows)
        told = zip(ids, texts, found.scores.tolist(), parts, rows.tolist(), sentences, strict=True)
        items = [
            {"rank": rank, "item_id": item, "description": text, "score": score,
             "parts": dict(zip(names, values, strict=True)), "reason": _reason(rules, row, new),
             "because": f"{_NEW}; {why}" if why and row in new else why}
            for rank, (item, text, score, values, row, why) in enumerate(told, start=1)
        ]  # fmt: skip
        answer = schemas.Recommendations.model_validate({
            "recommendation_id": _new_id(), "bundle": now.bundle, "degraded": degraded,
            "tier": found.tier if linked is None else LINKED,
            "unknown_items": unknown, "items": items,
        })  # fmt: skip
        at = datetime.now(UTC)
        decisions = [
            Decision(answer.recommendation_id, request.user_id or _NOBODY, at, slot.place + 1, ids[slot.place],
                     tuple(fitted.items.ids(slot.rows)), slot.probabilities, slot.contexts, NAME)
            for slot in slots
        ]  # fmt: skip
        return answer, decisions

    def tier(self, now: Moment, request: schemas.Asker, said: Encoded | None) -> schemas.Tier:
        """What is known of who asks."""
        block = self._asker(now, request, said)[0]
        return self._tier_of(block, self._linked(block, now.fitted.all_items)[0])

    def explain(self, now: Moment, request: schemas.ExplainRequest, said: Encoded | None) -> schemas.Explanation:
        """The terms of one score.

        Raises:
            UnknownIdError: neither the recommender nor the store knows the item.
        """
        fitted = now.fitted
        block, degraded, _, _ = self._asker(now, request, said)
        row = fitted.items.row(request.item_id)
        if row >= 0:
            side = fitted.all_items.take(np.array([row]))
        else:
            item, reason = self._entity(now, "item", request.item_id, None)
            degraded = degraded or reason
            if not item.descriptions[0] and not item.attributes[0]:
                raise UnknownIdError(
                    f"item {request.item_id!r} is not among the {len(fitted.items)} that the recommender knows, and "
                    "the online store says nothing of it; PUT /v1/items/{id} adds one"
                )
            side = fitted.side_of(item)
        linked, reason = self._linked(block, side)
        degraded = degraded or reason
        table = with_link(terms(block, side), None if linked is None else float(linked[0]))
        return schemas.Explanation(
            recommendation_id=_new_id(), bundle=now.bundle, tier=self._tier_of(block, linked),
            degraded=degraded, item_id=request.item_id, score=float(table["value"].sum()),
            because=sentence(table, bool(side.cold[0])),
            terms=[schemas.Term(term=term, kind=kind, value=value)
                   for term, kind, value in table.itertuples(index=False)],
        )  # fmt: skip

    def audience(self, now: Moment, request: schemas.AudienceRequest, said: Encoded | None) -> schemas.Audience:
        """The users to whom an item matters most."""
        fitted, name, degraded = now.fitted, request.item_id or _NOBODY, None
        row = fitted.items.row(name)
        if row >= 0 and said is None:
            side = fitted.all_items.take(np.array([row]))
        else:
            item, degraded = self._entity(now, "item", name, said)
            side = fitted.side_of(item)
        table = tables.audience(fitted, side, request.k, request.exclude_seen)
        users = [
            schemas.AudienceMember.model_validate(row | {"parts": row})
            for row in table.to_dict("records")
        ]
        entities = fitted.entities_of(side)
        text, wanted = entities.descriptions[0], request.explain
        return schemas.Audience(
            recommendation_id=_new_id(), bundle=now.bundle, tier=_tier(entities, side.cold), degraded=degraded,
            tags=self._reading.tags(text) if wanted else None,
            other_language=self._reading.other_language(text) if wanted else None, users=users,
        )  # fmt: skip

    def users(self, now: Moment, k: int) -> schemas.KnownUsers:
        """Users with history, spread evenly over those that the recommender knows."""
        known = now.fitted.users
        evidence = known.evidence.whole
        found = np.flatnonzero(evidence > 0)
        rows = found[np.linspace(0, len(found) - 1, min(k, len(found))).astype(np.int64)]
        return schemas.KnownUsers(bundle=now.bundle, users=[
            schemas.KnownUser(user_id=name, evidence=n)
            for name, n in zip(known.ids(rows), evidence[rows].tolist(), strict=True)
        ])  # fmt: skip

    def enrich(self, now: Moment, request: schemas.EnrichRequest, said: Encoded | None) -> schemas.Enriched:
        """The profile of a text, or of a user and what they do, and the items nearest to it.

        Raises:
            ColdStartError: the repository's encoder is not the recommender's.
        """
        fitted = now.fitted
        if said is not None and len(said[1]) != fitted.items.embeddings.shape[1]:
            raise ColdStartError(f"{OTHER_ENCODER}; run `coldstart profiles` and `coldstart train` with one encoder")
        block, degraded, _, _ = self._asker(now, request, said)
        user = block.users.entities
        alpha = float(fitted.parameters.alpha_of(user.evidence)[0])
        words, past = alpha * user.embeddings[0], user.profiles[0]
        profile = past + words
        vectors = fitted.all_items.features.dense
        cosines = vectors @ (profile / max(float(np.linalg.norm(profile)), 1e-12))
        rows = np.argsort(-cosines, kind="stable")[:request.k]
        rows = rows[vectors[rows].any(axis=1)] if profile.any() else rows[:0]
        named = zip(fitted.items.ids(rows), fitted.items.descriptions(rows), cosines[rows].tolist(), strict=True)
        items = [
            schemas.NearestItem(rank=rank, item_id=item, description=about, cosine=cosine)
            for rank, (item, about, cosine) in enumerate(named, start=1)
        ]
        text = said[0] if said else None
        return schemas.Enriched(
            recommendation_id=_new_id(), bundle=now.bundle, tier=_tier(user, block.users.cold), degraded=degraded,
            description=text, other_language=self._reading.other_language(text) if text and request.explain else None,
            fingerprint=fitted.items.fingerprint, evidence=float(user.evidence[0]), alpha=alpha,
            words=float(np.linalg.norm(words)), behaviour=float(np.linalg.norm(past)), profile=profile.tolist(),
            items=items,
        )  # fmt: skip

    def user(self, now: Moment, request: schemas.Asker, said: Encoded | None) -> UserSide:
        """Who asks, one user, with the events of the session."""
        return self._asker(now, request, said)[0].users

    def _asker(
        self, now: Moment, request: schemas.Asker, said: Encoded | None, opinions: Opinions = ()
    ) -> tuple[Block, str | None, list[str], list[int]]:
        """The scores of who asks, why they are degraded, and the items of the session: unknown ids, known rows."""
        fitted = now.fitted
        user, degraded = self._entity(now, "user", request.user_id or _NOBODY, said)
        events = [(event.item_id, self._weights.of(event.event_type)) for event in request.session] + list(opinions)
        rows = fitted.items.rows([item for item, _ in events])
        known = np.flatnonzero(rows >= 0)
        weights = np.array([weight for _, weight in events], np.float32)
        unknown = [item for (item, _), row in zip(events, rows, strict=True) if row < 0]
        block = block_of(fitted, user, rows[known], weights[known])
        return block, degraded, list(dict.fromkeys(unknown)), rows[known].tolist()

    def _linked(self, block: Block, items: ItemSide) -> tuple[NDArray[np.float32] | None, str | None]:
        """What the profile of who asks in a linked shop adds to scores of items, and why it cannot be read."""
        link, name = self._store.link, block.users.entities.ids[0]
        if link is None or name == _NOBODY or not block.users.cold[0]:
            return None, None
        try:
            profile = self._store.read_linked(name)
        except StoreError as error:
            return None, str(error)
        return None if profile is None else link.added(block, profile, items), None

    @staticmethod
    def _tier_of(block: Block, linked: NDArray[np.float32] | None) -> schemas.Tier:
        return LINKED if linked is not None else _tier(block.users.entities, block.users.cold)

    def _entity(self, now: Moment, side: str, name: str, said: Encoded | None) -> tuple[Entities, str | None]:
        """What is known of a user or an item now, one row, and why that is not what the store should say."""
        known, base = (now.fitted.users, now.base.users) if side == "user" else (now.fitted.items, now.base.items)
        entity, degraded = _of(known, name), None
        if name != _NOBODY:
            trained = _of(base, name)
            try:
                stored = self._store.read(side, name, known.fingerprint)
                entity = _merged(entity, trained, stored)
                degraded = _lacking(trained, stored) or self._store.reason
            except StoreError as error:
                degraded = str(error)
        if said is not None:
            entity = replace(entity, descriptions=[said[0]])
            if len(said[1]) == known.embeddings.shape[1]:
                entity = replace(entity, embeddings=said[1][None])
            else:
                degraded = OTHER_ENCODER
        return entity, degraded


def _of(known: KnownEntities, name: str) -> Entities:
    """What a state knows of a user or an item, one row, which says nothing if it knows nothing."""
    row = known.row(name)
    if row >= 0:
        return known.take(np.array([row]))
    return Entities.nothing([name], known.embeddings.shape[1], known.fingerprint)


def _merged(entity: Entities, trained: Entities, stored: Stored | None) -> Entities:
    """What the recommender learned since it was trained; for the rest, what the store says.

    Args:
        entity: what the recommender knows now.
        trained: what the bundle knows.
        stored: what the store has.
    """
    if stored is None:
        return entity
    shape = entity.embeddings[0].shape
    if entity.descriptions[0] == trained.descriptions[0] and list(entity.attributes[0]) == list(trained.attributes[0]):
        if stored.embedding is not None and stored.embedding.shape == shape:
            vectors, text = stored.embedding[None], [stored.description]
            entity = replace(entity, descriptions=text, embeddings=vectors, attributes=[stored.attributes])
        elif stored.attributes:
            entity = replace(entity, attributes=[stored.attributes])
    if (
        stored.profile is not None and stored.profile.shape == shape
        and entity.evidence[0] == trained.evidence[0] and (entity.profiles == trained.profiles).all()
    ):  # fmt: skip
        entity = replace(entity, profiles=stored.profile[None], evidence=np.array([stored.evidence]))
    return entity


def _lacking(trained: Entities, stored: Stored | None) -> str | None:
    """Whether the store lacks what the bundle was trained with."""
    history, words = bool(trained.profiles.any()), bool(trained.embeddings.any())
    lost = history and (stored is None or stored.profile is None)
    return LACKING if lost or (words and (stored is None or stored.embedding is None)) else None


def _tier(entities: Entities, cold: NDArray[np.bool_]) -> schemas.Tier:
    found: schemas.Tier = tables.tiers(entities, ~cold)[0]
    return found


def _reason(rules: Rules, row: int, explored: Container[int]) -> schemas.Reason:
    if row in explored:
        return "exploration"
    if row in rules.pinned:
        return "pinned"
    return "boosted" if rules.added is not None and rules.added[row] > 0 else "model"


def _new_id() -> str:
    return secrets.token_hex(16)
