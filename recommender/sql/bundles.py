"""Bundles that SQL functions use: each in memory once, with the scores that were last asked of it.

The registrations of connections own them (`coldstart_udfs.sql.registration`): a bundle stays in memory until the last
connection that it was registered on is closed or registers another one.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import duckdb
import numpy as np
from numpy.typing import NDArray

from coldstart_udfs.errors import ColdStartError
from coldstart_udfs.feast.linked import LINKED_FILE
from coldstart_udfs.link import is_linked, link_folder
from coldstart_udfs.link import read_manifest as read_link
from coldstart_udfs.sql.registration import registration_of
from recommender.data.entities import Entities
from recommender.model.bundle import BundleError, read_manifest
from recommender.model.linked import LinkedRecommender
from recommender.model.recommender import HybridRecommender
from recommender.model.user_side import Scores

# Stands for an unknown user or item; no data contain this id.
NOBODY = "\x00"

# Numbers of scores that are computed at once, and that are kept.
BLOCK = 4_000_000
_KEPT = 32_000_000

_CHUNK = 2048
_USERS = 256


class Served:
    """A bundle in memory, with a cache of the last scores.

    Most of the cost of a score is the user's standardisation over all items with history. Therefore a user's scores of
    all items are computed and kept while there is room: a table often contains the same users many times. If the rows
    of a chunk's users do not fit, because the catalogue is large, only the requested items are scored.

    Args:
        path: of the bundle.
        model: the recommender in it.
        linked: the same with the link of a repository; None without one.
    """

    def __init__(self, path: Path, model: HybridRecommender, linked: LinkedRecommender | None = None) -> None:
        self.path, self.model, self.linked = path, model, linked
        # Users of a linked shop may be known there alone.
        self._names = list(dict.fromkeys([*model.users.ids, *(linked.user_ids() if linked else ())]))
        self.users = {name: row for row, name in enumerate(self._names)}
        self.items = {name: column for column, name in enumerate(model.items.ids)}
        # After the known users: an unknown one, and one for all users; after the known items: an unknown one.
        self._unknown, self._everyone, self._width = len(self.users), len(self.users) + 1, len(self.items) + 1
        rows = self._everyone + 1
        places = min(rows, _KEPT // self._width)
        self._keeps = places >= min(rows, _CHUNK)
        self._kept = np.empty((places if self._keeps else 0, self._width), np.float32)
        self._place, self._owner = np.full(rows, -1), np.full(len(self._kept), -1)
        self._next = 0
        self._lock = threading.Lock()

    def scores(self, users: Sequence[str | None], items: Sequence[str]) -> NDArray[np.float32]:
        """Return one score for each pair; the expected demand if the user is None. Ids may be unknown."""
        rows = np.array(
            [self._everyone if name is None else self.users.get(name, self._unknown) for name in users], np.int64
        )
        columns = np.array([self.items.get(name, len(self.items)) for name in items], np.int64)
        if not self._keeps:
            return self._asked(rows, columns)
        result = np.empty(len(rows), np.float32)
        with self._lock:
            kept = self._place[rows] >= 0
            result[kept] = self._kept[self._place[rows[kept]], columns[kept]]
            missing = np.unique(rows[~kept])
            size = max(1, min(BLOCK // self._width, len(self._kept)))
            for start in range(0, len(missing), size):
                block = missing[start : start + size]
                self._keep(block)
                here = ~kept & np.isin(rows, block)
                result[here] = self._kept[self._place[rows[here]], columns[here]]
        return result

    def _asked(self, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> NDArray[np.float32]:
        """Score the pairs, some users at a time, with their requested items only."""
        result = np.empty(len(rows), np.float32)
        users = np.unique(rows)
        ids = [*self.model.items.ids, NOBODY]
        for start in range(0, len(users), _USERS):
            block = users[start : start + _USERS]
            here = np.isin(rows, block)
            asked, column = np.unique(columns[here], return_inverse=True)
            scores = self._matrix(block, [ids[one] for one in asked])
            result[here] = scores[np.searchsorted(block, rows[here]), column]
        return result

    def _keep(self, rows: NDArray[np.int64]) -> None:
        """Compute whole rows, and replace the rows that were kept longest."""
        places = (self._next + np.arange(len(rows))) % len(self._kept)
        self._next = int(places[-1]) + 1
        before = self._owner[places]
        self._place[before[before >= 0]] = -1
        self._kept[places, :-1] = self._matrix(rows, self.model.items)
        self._kept[places, -1:] = self._matrix(rows, [NOBODY])
        self._place[rows], self._owner[places] = places, rows

    def _matrix(self, rows: NDArray[np.int64], items: list[str] | Entities) -> NDArray[np.float32]:
        """Return (len(rows), len(items)); rows ascend, so the row for all users is the last."""
        names = [NOBODY if row == self._unknown else self._names[row] for row in rows if row != self._everyone]
        found = [self._scores(names, items)] if names else []
        if rows[-1] == self._everyone:
            found.append(self.model.score(None, items, unknown="popularity"))
        return np.concatenate(found)

    def _scores(self, users: list[str], items: list[str] | Entities) -> Scores:
        if self.linked is not None:
            return self.linked.score(users, items)
        return self.model.score(users, items, unknown="popularity")


# Finds the bundle that a key stands for, and keeps none in memory.
_served: WeakValueDictionary[str, Served] = WeakValueDictionary()
_loading = threading.Lock()


def hold(con: duckdb.DuckDBPyConnection, path: Path, repo: Path | None = None) -> str:
    """Load a bundle for a connection, in place of the one that it had; another connection's is shared.

    Args:
        con: the connection.
        path: the bundle.
        repo: a repository whose link to another shop counts; None is no link.

    Returns:
        The key that macros pass to `served`.

    Raises:
        BundleError: the bundle cannot be used.
        ColdStartError: there is no such repository.
    """
    path = path.resolve()
    if repo is not None and not repo.is_dir():
        raise ColdStartError(f"the repository {repo} is no folder; name that of the shop, or none for no link")
    folder = link_folder(repo.resolve()) if repo is not None and is_linked(repo) else None
    key = _key(path, folder)
    with _loading:
        found = _served.get(key) or _load(key, path, folder)
        registration_of(con).held["bundle"] = found
    return key


def served(key: str) -> Served:
    """The bundle that a key stands for.

    Raises:
        BundleError: no connection holds it any more.
    """
    found = _served.get(key)
    if found is None:
        raise BundleError(
            f"the bundle {key.split(' ', 2)[2]} was released with its connection; keep the connection until all "
            "results are read"
        )
    return found


def _load(key: str, path: Path, folder: Path | None) -> Served:
    model = HybridRecommender.load(path)
    linked = None if folder is None else LinkedRecommender(model, folder.parents[1])
    if _key(path, folder) != key:
        raise BundleError(f"the bundle in {path} was replaced while it was read; register it again")
    found = _served[key] = Served(path, model, linked)
    return found


def _key(path: Path, folder: Path | None) -> str:
    """What a bundle and a link are told apart by: hashes of their manifests, which contain those of the arrays.

    Who is linked changes without the manifest when a person is erased.
    """
    link = "-"
    if folder is not None:
        file = folder.parent / LINKED_FILE
        people = file.stat() if file.is_file() else None
        link = _hash([str(folder), read_link(folder), people and [people.st_mtime_ns, people.st_size, people.st_ino]])
    return f"{_hash(read_manifest(path))} {link} {path}"


def _hash(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
