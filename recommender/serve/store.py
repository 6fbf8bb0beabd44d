"""Reading the features of one user or item from Feast's online store, and what is wrong with the store.

Features are read with `online_read` of Feast's provider, the method that every online store implements, and not with
`get_online_features`: a service needs neither the on-demand view (the recommender enriches profiles itself) nor Feast's
response. Whether the view and the bundle agree is checked beside the requests, in `check`.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from coldstart_udfs.errors import ColdStartError
from coldstart_udfs.feast.linked import LINKED_PROFILES
from coldstart_udfs.feast.operations.registry import materializing
from coldstart_udfs.feast.operations.stores import StoreFile, open_store
from coldstart_udfs.link import Link, is_linked, link_folder, same_encoders
from coldstart_udfs.profile import Vectors, has_text
from recommender.model.linked import LinkScores
from recommender.model.recommender import HybridRecommender

# Reasons of degraded answers.
CLOSED = "store cannot be opened"
UNREADABLE = "store cannot be read"
REGISTRY = "registry cannot be read"
MATERIALIZING = "views are being materialised, or were when that was killed"
OTHER_ENCODER = "store and bundle have different encoders"
OTHER_ALPHA = "view and bundle have different weights of descriptions"
LACKING = "store lacks features that the bundle has"
OTHER_LINK = "the link to another shop is not that of the store or the bundle"

# After a read that failed, the store is left alone for so many seconds: a request should not wait for a dead server.
_PAUSE = 1.0


class StoreError(Exception):
    """Features cannot be read from the online store; the message is the reason."""


@dataclass(frozen=True)
class Stored:
    """What the online store holds of a user or an item.

    Attributes:
        description: "" if there is none.
        attributes: labels "column=value".
        embedding: (d,) float32; None if there is none.
        profile: likewise.
        evidence: the number of interactions behind the profile.
    """

    description: str
    attributes: list[str]
    embedding: NDArray[np.float32] | None
    profile: NDArray[np.float32] | None
    evidence: float


class OnlineStore:
    """The online store of a Feast repository, which may be out of order.

    Args:
        repo: the repository.

    Attributes:
        reason: why it is out of order; None if it is not.
        link: what `coldstart link` has linked the repository to; None if it is not linked, or the link cannot be used.
    """

    def __init__(self, repo: Path) -> None:
        self._repo = repo
        self._store: Any = None
        self._views: dict[str, Any] = {}
        self._provider: Any = None
        self._file: StoreFile
        self._rest_until = 0.0
        self.reason: str | None = CLOSED
        self.link: LinkScores | None = None

    def check(self, model: HybridRecommender) -> str | None:
        """Open the store if that has not worked yet, and see whether it agrees with the recommender; `reason`.

        To be called from time to time, by one thread.
        """
        self.reason = self._check(model)
        return self.reason

    def read(self, side: str, name: str, fingerprint: str) -> Stored | None:
        """What is stored of a user or an item; None if nothing is.

        Args:
            side: "user" or "item".
            name: the id.
            fingerprint: of the encoder that the vectors must be of.

        Raises:
            StoreError: the store cannot be read, or must not be.
        """
        if self._provider is None or self.reason in (OTHER_ENCODER, OTHER_ALPHA):
            raise StoreError(self.reason or CLOSED)
        if time.monotonic() < self._rest_until:
            raise StoreError(UNREADABLE)
        try:
            found = self._rows(side, name)
        except Exception as error:  # whatever a store raises: the answer is degraded, never an error
            self._rest_until = time.monotonic() + _PAUSE
            raise StoreError(UNREADABLE) from error
        if not found:
            return None
        for feature in (f"{side}_profile_fingerprint", f"{side}_text_fingerprint"):
            stored = found[feature].string_val if feature in found else ""
            if stored and stored != fingerprint:
                raise StoreError(OTHER_ENCODER)
        text = found[f"{side}_description"].string_val if f"{side}_description" in found else ""
        labels = found[f"{side}_attributes"].string_list_val.val if f"{side}_attributes" in found else []
        evidence = found[f"{side}_evidence"].int64_val if f"{side}_evidence" in found else 0
        return Stored(
            text if has_text(text) else "", list(labels), _vector(found.get(f"{side}_embedding")),
            _vector(found.get(f"{side}_profile")), float(evidence),
        )  # fmt: skip

    def read_linked(self, user_id: str) -> Vectors | None:
        """(1, d) float32: the profile of a user in the linked shop; None if there is none.

        Raises:
            StoreError: the store cannot be read, or the profile is of another encoder than the link.
        """
        if self.link is None or LINKED_PROFILES not in self._views:
            return None
        try:
            found = self._rows("user", user_id, (LINKED_PROFILES,))
        except Exception as error:
            raise StoreError(UNREADABLE) from error
        profile, about = _vector(found.get("user_source_profile")), self.link.link.about
        if profile is None:
            return None
        if found["user_source_fingerprint"].string_val != about.source_fingerprint:
            raise StoreError(OTHER_LINK)
        return profile[None] if len(profile) == len(self.link.link.centre) else None

    def _rows(self, side: str, name: str, views: Sequence[str] = ()) -> dict[str, Any]:
        """The values of an entity in some views; by default those of its profile and its description."""
        from feast.protos.feast.types.EntityKey_pb2 import EntityKey
        from feast.protos.feast.types.Value_pb2 import Value

        key = EntityKey(join_keys=[f"{side}_id"], entity_values=[Value(string_val=name)])
        found: dict[str, Any] = {}
        for view in views or (f"{side}_profiles", f"{side}_descriptions"):
            table = self._views[view]
            names = [field.name for field in table.features]
            ((_, values),) = self._provider.online_read(self._store.config, table, [key], names)
            found |= values or {}
        return found

    def _check(self, model: HybridRecommender) -> str | None:
        try:
            if self._store is not None and self._file.replaced():
                # SQLite would read the file that is gone for ever.
                self._store, self._provider = None, None
            if self._store is None:
                self._store = open_store(self._repo)
                self._file = StoreFile(self._store)
            if self._file.missing():
                self._store = None
                return UNREADABLE
            self._store.refresh_registry()
            names = [f"{side}_{table}" for side in ("user", "item") for table in ("profiles", "descriptions")]
            views = {name: self._store.get_feature_view(name) for name in names}
            linked = is_linked(self._repo)
            if linked and any(view.name == LINKED_PROFILES for view in self._store.list_feature_views()):
                views[LINKED_PROFILES] = self._store.get_feature_view(LINKED_PROFILES)
        except ColdStartError:
            return CLOSED
        except Exception:  # an empty or half-written registry: the views that are known stay in use
            return REGISTRY if self._views else CLOSED
        self._views, self._provider = views, self._store.provider
        return self._difference(model) or self._follow_link(model)

    def _follow_link(self, model: HybridRecommender) -> str | None:
        """Read the link of the repository if it is another one; say if it cannot be used."""
        if not is_linked(self._repo):
            self.link = None
            return None
        try:
            link = Link.read(link_folder(self._repo))
            same_encoders(link.about, target=model.fingerprint)
        except ColdStartError:
            self.link = None
            return OTHER_LINK
        if self.link is None or self.link.link is not link:
            self.link = LinkScores(link)
        return None if LINKED_PROFILES in self._views else OTHER_LINK

    def _difference(self, model: HybridRecommender) -> str | None:
        stuck = bool(materializing(self._store))
        wanted = ["user_enriched:user_evidence_weight", "user_enriched:user_embedding_fingerprint"]
        try:
            nobody = [{"user_id": uuid4().hex}]
            found = self._store.get_online_features(wanted, nobody).to_dict()
        except Exception:
            return MATERIALIZING if stuck else UNREADABLE
        if found["user_embedding_fingerprint"][0] != model.fingerprint:
            return OTHER_ENCODER
        if not np.isclose(found["user_evidence_weight"][0], float(model.parameters.alpha_of(0.0))):
            return OTHER_ALPHA
        return MATERIALIZING if stuck else None


def _vector(value: Any) -> NDArray[np.float32] | None:
    if value is None or not value.float_list_val.val:
        return None
    vector = np.array(value.float_list_val.val, dtype=np.float32)
    return vector if np.isfinite(vector).all() else None
