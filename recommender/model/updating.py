"""Interactions since the fit, taken into histories and profiles without training again."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp

from coldstart_udfs.errors import ColdStartError, FingerprintError
from recommender.data.entities import Entities
from recommender.data.interactions import Interactions
from recommender.model.predicted import GroupPopularity

if TYPE_CHECKING:
    from recommender.model.recommender import HybridRecommender


def take_in(
    model: HybridRecommender, interactions: Interactions, users: Entities, items: Entities, seen: Interactions
) -> None:
    """See `HybridRecommender.partial_fit`."""
    for side, ids, entities in (("users", interactions.user_ids, users), ("items", interactions.item_ids, items)):
        if list(ids) != list(entities.ids):
            raise ColdStartError(
                f"features of {len(entities)} {side} do not match the {len(ids)} {side} of the interactions; "
                "they must have the same ids in the same order"
            )
        if entities.fingerprint != model.fingerprint:
            raise FingerprintError(
                found=entities.fingerprint, found_in=f"the new {side}", expected=model.fingerprint,
                expected_by="the recommender", remedy="Describe them with the recommender's encoder.",
            )  # fmt: skip
        if entities.embeddings.shape[1] != model.items.embeddings.shape[1]:
            raise ColdStartError(
                f"embeddings of the new {side} are {entities.embeddings.shape[1]} numbers wide; the recommender was "
                f"trained with {model.items.embeddings.shape[1]}"
            )
    if list(seen.user_ids) != list(users.ids) or list(seen.item_ids) != list(items.ids):
        raise ColdStartError("what is seen must be of the same users and items, in the same order, as the interactions")
    known_users, known_items = _grown(model.users, users), _grown(model.items, items)
    place_of_user = {name: row for row, name in enumerate(known_users.ids)}
    place_of_item = {name: row for row, name in enumerate(known_items.ids)}
    user_rows = np.array([place_of_user[name] for name in users.ids], dtype=np.int64)
    item_rows = np.array([place_of_item[name] for name in items.ids], dtype=np.int64)
    rows, columns = user_rows[interactions.users], item_rows[interactions.items]
    shape = (len(known_users), len(known_items))
    new = sp.csr_matrix((interactions.weights, (rows, columns)), shape=shape, dtype=np.float32)
    ones = np.ones(len(seen), dtype=np.float32)
    met = sp.csr_matrix((ones, (user_rows[seen.users], item_rows[seen.items])), shape=shape)

    # Only what is described speaks for a profile, and counts as evidence: as `features.with_history` has it.
    described = np.asarray(known_items.embeddings.any(axis=1))
    counted = described[columns]
    profiles = known_users.profiles + new @ known_items.embeddings
    n_u = np.bincount(rows[counted], minlength=shape[0])
    n_i = np.bincount(columns[counted], minlength=shape[1])
    model._users = replace(known_users, profiles=profiles, evidence=known_users.evidence + n_u)
    model._items = replace(
        known_items, profiles=_item_profiles(known_items, new, profiles), evidence=known_items.evidence + n_i
    )
    model.history = sp.csr_matrix(_widened(model.history, shape) + new)
    model.seen = sp.csr_matrix(_widened(model.seen, shape) + met)
    partners = model.behaviour
    model.behaviour = _widened(partners, (shape[1], shape[1]))
    lifts = np.zeros((len(model.groups.labels), shape[1]), dtype=np.float32)
    lifts[:, : model.groups.lifts.shape[1]] = model.groups.lifts
    model.groups = GroupPopularity(model.groups.labels, lifts)


def _grown(known: Entities, given: Entities) -> Entities:
    """The known ones, then those that are new, without history yet."""
    ids = set(known.ids)
    rows = np.array([row for row, name in enumerate(given.ids) if name not in ids], dtype=np.int64)
    if not len(rows):
        return known
    new = given.take(rows)
    return known.join(replace(new, profiles=np.zeros_like(new.profiles), evidence=np.zeros(len(new))))


def _item_profiles(items: Entities, new: sp.csr_matrix, profiles: np.ndarray) -> np.ndarray:
    """Running means of the buyers' unit profiles, each without the item itself."""
    pairs = new.tocoo()
    rest = profiles[pairs.row] - pairs.data[:, None] * items.embeddings[pairs.col]
    norms = np.linalg.norm(rest, axis=1)
    told = norms > 1e-6
    directions = rest[told] / norms[told, None]
    which = pairs.col[told]
    n = np.bincount(which, minlength=len(items))[:, None]
    sums = np.zeros_like(items.profiles)
    np.add.at(sums, which, directions.astype(np.float32))
    before = np.where(items.profiles.any(axis=1), items.evidence, 0)[:, None]
    return np.asarray((items.profiles * before + sums) / np.maximum(before + n, 1), dtype=np.float32)


def _widened(matrix: sp.csr_matrix, shape: tuple[int, int]) -> sp.csr_matrix:
    found = matrix.tocoo()
    return sp.csr_matrix((found.data, (found.row, found.col)), shape=shape, dtype=np.float32)
