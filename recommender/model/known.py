"""The users, or the items, that a recommender knows."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from recommender.data.entities import Entities
from recommender.model.rows import DenseRows


class KnownEntities:
    """`Entities` with an index of their ids; a version with more of them, or with other profiles, shares the rest.

    Attributes:
        embeddings: (n, d) float32, M(d).
        profiles: (n, d) float32, P.
        evidence: (n,) float64, the interactions behind P.
        fingerprint: the encoder's.
    """

    def __init__(self, entities: Entities) -> None:
        self._texts, self._length = _Texts(entities), len(entities)
        self.embeddings, self.profiles = DenseRows(entities.embeddings), DenseRows(entities.profiles)
        self.evidence = DenseRows(entities.evidence)
        self.fingerprint = entities.fingerprint
        self._retold: dict[int, tuple[str, Sequence[str]]] = {}
        self.__dict__["whole"] = entities

    def __len__(self) -> int:
        return self._length

    @cached_property
    def whole(self) -> Entities:
        """All of them."""
        texts, n = self._texts, self._length
        descriptions = texts.descriptions[:n]
        for row, (description, _) in self._retold.items():
            descriptions[row] = description
        return Entities(
            texts.ids[:n], descriptions, self.attributes(), self.embeddings.whole, self.profiles.whole,
            self.evidence.whole, self.fingerprint,
        )  # fmt: skip

    def is_whole(self, entities: Entities) -> bool:
        """Whether this is what `whole` has given."""
        return vars(self).get("whole") is entities

    def row(self, name: str) -> int:
        """The row of an id, -1 if it is not known."""
        found = self._texts.rows.get(name, -1)
        return found if found < self._length else -1

    def rows(self, ids: Iterable[str]) -> NDArray[np.int64]:
        """(k,), the row of each id, -1 where it is not known."""
        return np.array([self.row(name) for name in ids], dtype=np.int64)

    def ids(self, rows: NDArray[np.int64]) -> list[str]:
        """The ids of some rows."""
        return [self._texts.ids[row] for row in rows.tolist()]

    def descriptions(self, rows: NDArray[np.int64]) -> list[str]:
        """The descriptions of some rows."""
        return [self._told(row)[0] for row in rows.tolist()]

    def attributes(self) -> list[Sequence[str]]:
        """The attributes of all of them, without their vectors."""
        found = self._texts.attributes[: self._length]
        for row, (_, labels) in self._retold.items():
            found[row] = labels
        return found

    def take(self, rows: NDArray[np.int64]) -> Entities:
        """These rows, in this order."""
        told = [self._told(row) for row in rows.tolist()]
        return Entities(
            self.ids(rows), [description for description, _ in told], [attributes for _, attributes in told],
            self.embeddings.take(rows), self.profiles.take(rows), self.evidence.take(rows), self.fingerprint,
        )  # fmt: skip

    def grown(self, new: Entities) -> KnownEntities:
        """A version with these behind them, ids that are not known yet; their profiles are zero until `moved`."""
        other = self._copied()
        other._texts, other._length = self._texts.grown(self._length, new), self._length + len(new)
        other.embeddings = self.embeddings.extended(new.embeddings)
        other.profiles = self.profiles.extended(np.zeros_like(new.embeddings))
        other.evidence = self.evidence.extended(np.zeros(len(new)))
        return other

    def moved(
        self, rows: NDArray[np.int64], profiles: NDArray[np.float32], evidence: NDArray[np.float64]
    ) -> KnownEntities:
        """A version with other profiles and evidence of some rows, each named once."""
        other = self._copied()
        other.profiles = self.profiles.replaced(rows, profiles)
        other.evidence = self.evidence.replaced(rows, evidence)
        return other

    def redescribed(self, rows: NDArray[np.int64], told: Entities) -> KnownEntities:
        """A version with other descriptions, attributes and embeddings of some rows, each named once."""
        other = self._copied()
        texts = zip(told.descriptions, told.attributes, strict=True)
        other._retold = self._retold | dict(zip(rows.tolist(), texts, strict=True))
        other.embeddings = self.embeddings.replaced(rows, told.embeddings)
        return other

    def _told(self, row: int) -> tuple[str, Sequence[str]]:
        """The description and the attributes of a row."""
        return self._retold.get(row) or (self._texts.descriptions[row], self._texts.attributes[row])

    def _copied(self) -> KnownEntities:
        other = object.__new__(KnownEntities)
        vars(other).update({name: value for name, value in vars(self).items() if name != "whole"})
        return other


class _Texts:
    """Ids, descriptions and attributes, which versions share as they share the buffer of `Growing`."""

    def __init__(self, entities: Entities) -> None:
        self.ids, self.descriptions = list(entities.ids), list(entities.descriptions)
        self.attributes: list[Sequence[str]] = list(entities.attributes)
        self.rows = {name: row for row, name in enumerate(self.ids)}
        self._lock = threading.Lock()

    def grown(self, length: int, new: Entities) -> _Texts:
        with self._lock:
            if len(self.ids) != length:  # another version has added ids of its own
                return self._copied(length).grown(length, new)
            self.descriptions.extend(new.descriptions)
            self.attributes.extend(new.attributes)
            self.ids.extend(new.ids)
            for row, name in enumerate(new.ids, start=length):
                self.rows[name] = row
            return self

    def _copied(self, length: int) -> _Texts:
        other = object.__new__(_Texts)
        other.ids, other.descriptions = self.ids[:length], self.descriptions[:length]
        other.attributes = self.attributes[:length]
        other.rows = {name: row for row, name in enumerate(other.ids)}
        other._lock = threading.Lock()
        return other
