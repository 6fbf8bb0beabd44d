"""Whom and what a recommender is asked for: ids or features, known or not."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from coldstart_udfs.errors import ColdStartError, FingerprintError
from recommender.data.contract import ITEM_ID, USER_ID
from recommender.data.entities import Entities
from recommender.model.scoring import ItemSide

if TYPE_CHECKING:
    from recommender.model.recommender import HybridRecommender


class UnknownIdError(ColdStartError):
    """An id that the recommender was not trained with."""


def ids_of(asked: Any) -> list[str]:
    """One id or several, strings or numbers of any type, as strings."""
    single = isinstance(asked, str) or not isinstance(asked, Iterable)
    return [str(one) for one in ([asked] if single else asked)]


def item_side(model: HybridRecommender, items: str | Sequence[str] | Entities, unknown: str) -> ItemSide:
    """Items that are asked for, as the arithmetic needs them; of known ones nothing is made anew."""
    if items is model.items:
        return model.all_items
    if not isinstance(items, Entities):
        ids = ids_of(items)
        if all(name in model.item_rows for name in ids):
            rows = np.array([model.item_rows[name] for name in ids], dtype=np.int64)
            whole = len(rows) == len(model.items) and (rows == np.arange(len(rows))).all()
            return model.all_items if whole else model.all_items.take(rows)
    return ItemSide.of(model, resolve(model, items, ITEM_ID, unknown, None))


def resolve(
    model: HybridRecommender, asked: str | Sequence[str] | Entities, name: str, unknown: str,
    profiles: ArrayLike | None,
) -> Entities:
    """Features of whom or what is asked for; arguments as for `HybridRecommender.score`.

    Args:
        model: the recommender that is asked.
        asked: ids, or features.
        name: USER_ID or ITEM_ID.
        unknown: what happens to an id that is not known.
        profiles: instead of the known ones.

    Raises:
        UnknownIdError: an unknown id, with `unknown="raise"`.
        FingerprintError: features of another encoder.
        ColdStartError: features or profiles of another width, of a known user without his profile, or another
            `unknown`.
    """
    known, rows = (model.users, model.user_rows) if name == USER_ID else (model.items, model.item_rows)
    if unknown not in ("raise", "popularity"):
        raise ColdStartError(f"unknown is {unknown!r}; possible are 'raise' and 'popularity'")
    if isinstance(asked, Entities):
        same_encoder(known, asked)
        widths = asked.embeddings.shape[1], asked.profiles.shape[1]
        if set(widths) != {known.embeddings.shape[1]}:
            raise ColdStartError(
                f"embeddings and profiles are {widths[0]} and {widths[1]} numbers wide; the recommender was "
                f"trained with {known.embeddings.shape[1]}"
            )
        if name == USER_ID and profiles is None:
            _same_history(model, asked)
        found = asked
    else:
        ids = ids_of(asked)
        strange = list(dict.fromkeys(key for key in ids if key not in rows))
        if strange and unknown == "raise":
            raise UnknownIdError(
                f"{len(strange)} of {len(ids)} {name}s are not among the {len(known)} that the recommender knows: "
                f"{strange[:3]}. Pass their features as Entities, or unknown='popularity'"
            )
        places = {key: len(known) + place for place, key in enumerate(strange)} | rows
        wanted = np.array([places[key] for key in ids], dtype=np.int64)
        if strange:
            width = known.embeddings.shape[1]
            inside = np.unique(wanted[wanted < len(known)])
            both = known.take(inside).join(Entities.nothing(strange, width, known.fingerprint))
            order = np.searchsorted(np.concatenate([inside, len(known) + np.arange(len(strange))]), wanted)
            found = both.take(order)
        else:
            found = known.take(wanted)
    if profiles is None:
        return found
    given = np.asarray(profiles, dtype=np.float32)
    if given.shape != found.profiles.shape:
        raise ColdStartError(
            f"profiles have the shape {given.shape}; of these users it must be {found.profiles.shape}"
        )
    return replace(found, profiles=given)


def _same_history(model: HybridRecommender, asked: Entities) -> None:
    """Of one user the words of his history would count, and its profile would not: a silently wrong score."""
    rows = np.array([model.user_rows.get(name, -1) for name in asked.ids], dtype=np.int64)
    lost = (rows >= 0) & model.users.profiles[rows].any(axis=1) & ~asked.profiles.any(axis=1)
    if lost.any():
        raise ColdStartError(
            f"user {asked.ids[int(np.argmax(lost))]!r} has a history that the recommender knows, and no profile "
            f"in the Entities given ({int(lost.sum())} of {len(asked)} are so); ask by id, or give profiles="
        )


def same_encoder(known: Entities, asked: Entities) -> None:
    """Raise a FingerprintError unless both are of one encoder."""
    if known.fingerprint != asked.fingerprint:
        raise FingerprintError(
            found=asked.fingerprint, found_in="what was asked", expected=known.fingerprint,
            expected_by="the recommender", remedy="Run `coldstart profiles` and `coldstart train` with one encoder.",
        )  # fmt: skip
