"""Turn the ids or features of a request into `Entities` and `ItemSide`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from coldstart_udfs.errors import ColdStartError, FingerprintError
from recommender.data.contract import ITEM_ID, USER_ID
from recommender.data.entities import Entities
from recommender.model.fitted import Fitted, ItemSide


class UnknownIdError(ColdStartError):
    """An id that the recommender does not know."""


def ids_of(given: Any) -> list[str]:
    """One id or several, strings or numbers of any type, as strings."""
    single = isinstance(given, str) or not isinstance(given, Iterable)
    return [str(one) for one in ([given] if single else given)]


def item_side(fitted: Fitted, items: str | Sequence[str] | Entities, unknown: str) -> ItemSide:
    """The items of a request, as the arithmetic needs them; for known items nothing is computed anew."""
    if not isinstance(items, Entities):
        rows = fitted.items.rows(ids_of(items))
        if (rows >= 0).all():
            whole = len(rows) == len(fitted.items) and (rows == np.arange(len(rows))).all()
            return fitted.all_items if whole else fitted.all_items.take(rows)
    elif fitted.items.is_whole(items):
        return fitted.all_items
    return fitted.side_of(resolve(fitted, items, ITEM_ID, unknown, None))


def resolve(
    fitted: Fitted, given: str | Sequence[str] | Entities, name: str, unknown: str, profiles: ArrayLike | None
) -> Entities:
    """The features of the users or items of a request; arguments as for `HybridRecommender.score`.

    Args:
        fitted: the state of the recommender.
        given: ids, or features.
        name: USER_ID or ITEM_ID.
        unknown: what happens to an id that is not known, "raise" or "popularity".
        profiles: instead of the known ones.

    Raises:
        UnknownIdError: an unknown id, with `unknown="raise"`.
        FingerprintError: features of another encoder.
        ColdStartError: features or profiles of another width, features of a known user with history but without
            profile, or another `unknown`.
    """
    known = fitted.users if name == USER_ID else fitted.items
    width = known.embeddings.shape[1]
    if unknown not in ("raise", "popularity"):
        raise ColdStartError(f"unknown is {unknown!r}; possible are 'raise' and 'popularity'")
    if isinstance(given, Entities):
        same_encoder(known.fingerprint, given.fingerprint)
        widths = given.embeddings.shape[1], given.profiles.shape[1]
        if set(widths) != {width}:
            raise ColdStartError(
                f"embeddings and profiles are {widths[0]} and {widths[1]} numbers wide; the recommender was "
                f"trained with {width}"
            )
        if name == USER_ID and profiles is None:
            _same_history(fitted, given)
        found = given
    else:
        ids = ids_of(given)
        rows = known.rows(ids)
        others = list(dict.fromkeys(key for key, row in zip(ids, rows.tolist(), strict=True) if row < 0))
        if others and unknown == "raise":
            raise UnknownIdError(
                f"{len(others)} of {len(ids)} {name}s are not among the {len(known)} that the recommender knows: "
                f"{others[:3]}. Pass their features as Entities, or unknown='popularity'"
            )
        if others:
            place = {key: len(ids) + number for number, key in enumerate(others)}
            some = known.take(np.maximum(rows, 0)).join(Entities.nothing(others, width, known.fingerprint))
            order = [at if row >= 0 else place[key] for at, (key, row) in enumerate(zip(ids, rows, strict=True))]
            found = some.take(np.array(order, dtype=np.int64))
        else:
            found = known.take(rows)
    if profiles is None:
        return found
    other = np.asarray(profiles, dtype=np.float32)
    if other.shape != found.profiles.shape:
        raise ColdStartError(
            f"profiles have the shape {other.shape}; of these users it must be {found.profiles.shape}"
        )
    return replace(found, profiles=other)


def _same_history(fitted: Fitted, given: Entities) -> None:
    """A user with a known history needs its profile: without it the score would be wrong, without a sign."""
    rows = fitted.users.rows(given.ids)
    known = np.flatnonzero(rows >= 0)
    lost = known[fitted.users.profiles.take(rows[known]).any(axis=1) & ~given.profiles[known].any(axis=1)]
    if len(lost):
        raise ColdStartError(
            f"user {given.ids[lost[0]]!r} has a history that the recommender knows, and no profile "
            f"in the Entities given ({len(lost)} of {len(given)} are so); ask by id, or give profiles="
        )


def same_encoder(known: str, found: str, found_in: str = "the request") -> None:
    """Raise a FingerprintError unless both are the fingerprint of one encoder."""
    if known != found:
        raise FingerprintError(
            found=found, found_in=found_in, expected=known, expected_by="the recommender",
            remedy="Describe them with the recommender's encoder, or run `coldstart profiles` and `coldstart train`.",
        )  # fmt: skip
