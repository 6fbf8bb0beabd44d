"""Rank items for users who are new here and have a profile in a linked shop."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import duckdb
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from coldstart_udfs.errors import ColdStartError
from coldstart_udfs.feast.linked import LINKED_FILE
from coldstart_udfs.link import Link, is_linked, link_folder, same_encoders
from coldstart_udfs.profile import Vectors
from coldstart_udfs.quoting import quote_text
from recommender.data.contract import USER_ID
from recommender.data.entities import Entities
from recommender.model import tables
from recommender.model.explain import with_link
from recommender.model.fitted import Fitted, ItemSide
from recommender.model.ranking import Rules
from recommender.model.recommender import HybridRecommender
from recommender.model.requests import item_side, resolve
from recommender.model.rows import DenseRows
from recommender.model.scoring import Block
from recommender.model.user_side import Scores

# The tier of users who are ranked by their profile in another shop.
LINKED: Final = "linked"
# What is added to the number of an item's buyers before its logarithm is taken.
SMALLEST = 0.1
# The parts of a score that are logarithms of numbers of buyers.
_DEMAND = ("popularity", "popularity_7d", "popularity_30d", "popularity_90d")


def lift_scale(fitted: Fitted) -> float:
    """What a lift is multiplied by in a score, so that it counts as the same difference of popularity does.

    Popularity is the logarithm of the number of buyers. In a score it is divided by its deviation over the items with
    history, and weighed as for users without history.
    """
    warm = fitted.parameters.weights.warm
    weight = sum(warm.get(part, (0.0, 0.0))[0] for part in _DEMAND)
    return weight / max(float(fitted.demand[fitted.warm_rows].std()), 1e-6)


def show_linked_profiles(con: duckdb.DuckDBPyConnection, repo: Path) -> None:
    """Create the temporary view linked_profiles, if a repository is linked to another shop.

    It has the latest row of each linked user: user_id, user_linked_profile (the expected unit profile here),
    user_source_profile and user_source_evidence (those of the other shop).

    Args:
        con: an open connection.
        repo: the Feast repository.
    """
    file = repo / "data" / LINKED_FILE
    if file.is_file():
        con.execute(
            f"CREATE OR REPLACE TEMP VIEW linked_profiles AS SELECT {USER_ID}, user_linked_profile, "
            f"user_source_profile, user_source_evidence FROM read_parquet({quote_text(str(file))}) "
            f"QUALIFY row_number() OVER (PARTITION BY {USER_ID} ORDER BY event_timestamp DESC) = 1"
        )


class LinkScores:
    """What a link adds to scores of this shop.

    Args:
        link: the link.
    """

    def __init__(self, link: Link) -> None:
        self.link = link
        self._known: tuple[DenseRows | None, Vectors, NDArray[np.int64]] = (
            None, np.zeros((0, link.topics.shape[1]), np.float32), link.topics_of(link.topics[:0])
        )  # fmt: skip

    def added(self, block: Block, profile: Vectors, items: ItemSide) -> NDArray[np.float32] | None:
        """(m,): what the link adds to the scores of one user; None if it changes nothing.

        It changes the scores of users without history here, if the map helps (its strength is not 0). If they have no
        description either, the sum is popularity times lift, which is what the link was measured by, on the scale of
        the recommender's scores; otherwise the lift is added to what the recommender says. Of an item without buyers,
        the popularity is what its words predict.

        Args:
            block: of the user.
            profile: (1, d) float32, of the source; zero if the user is not linked.
            items: m items.
        """
        users = block.users
        if not users.cold[0] or not self.link.about.strength or not profile.any():
            return None
        scale = lift_scale(users.fitted)
        lifts = self.link.lifts(profile, self._topics_of(users.fitted, items))[0]
        found = np.float32(scale * self.link.about.strength) * lifts
        if not users.entities.descriptions[0]:
            buyers = np.expm1(np.maximum(users.fitted.demand_of(items).astype(np.float64), 0))
            found = found + np.float32(scale) * np.log(buyers + SMALLEST) - block.total(items)[0]
        return np.asarray(found, dtype=np.float32)

    def _topics_of(self, fitted: Fitted, items: ItemSide) -> NDArray[np.int64]:
        """(m, levels): the topics of items; those of known items are computed again only where an embedding changed."""
        if items.entities is not None:
            return self.link.topics_of(items.entities.embeddings)
        before, vectors, topics = self._known
        if before is not fitted.items.embeddings:
            whole = fitted.items.embeddings.whole
            changed = np.ones(len(whole), bool)
            n = min(len(whole), len(vectors))
            changed[:n] = (whole[:n] != vectors[:n]).any(axis=1)
            found = np.zeros((len(whole), topics.shape[1]), np.int64)
            found[:n] = topics[:n]
            found[changed] = self.link.topics_of(whole[changed])
            self._known = fitted.items.embeddings, whole, found
            topics = found
        return topics[items.rows]


class LinkedRecommender:
    """A recommender that knows people of another shop by their profiles there.

    Users without history here are "linked", which is their tier. All others are ranked as without a link, and so is
    everybody if the map does not help.

    Args:
        model: the recommender of this shop.
        repo: its Feast repository, which `coldstart link` has linked.

    Raises:
        ColdStartError: there is no link, or it cannot be read.
        FingerprintError: the recommender is of another encoder than the link.

    Attributes:
        link: the link.
    """

    def __init__(self, model: HybridRecommender, repo: Path) -> None:
        self.link = Link.read(link_folder(repo))
        same_encoders(self.link.about, target=model.fingerprint)
        self._model, self._file, self._scores = model, repo / "data" / LINKED_FILE, LinkScores(self.link)

    @classmethod
    def of(cls, model: HybridRecommender, repo: Path) -> LinkedRecommender | None:
        """The recommender with the link of a repository; None if the repository has none."""
        return cls(model, repo) if is_linked(repo) else None

    def user_ids(self) -> list[str]:
        """The ids of the users whose profiles are here."""
        if not self._file.is_file():
            return []
        with duckdb.connect() as con:
            query = f"SELECT DISTINCT {USER_ID} FROM read_parquet($1) ORDER BY 1"
            return [row[0] for row in con.execute(query, [str(self._file)]).fetchall()]

    def source_profiles(self, user_ids: list[str]) -> Vectors:
        """(n, d) float32: the latest profiles in the source shop; zero rows for users who are not linked."""
        found = np.zeros((len(user_ids), len(self.link.centre)), np.float32)
        if not self._file.is_file():
            return found
        with duckdb.connect() as con:
            rows = con.execute(
                f"SELECT {USER_ID}, arg_max(user_source_profile, event_timestamp), "
                "arg_max(user_source_fingerprint, event_timestamp) FROM read_parquet($1) "
                f"WHERE {USER_ID} IN (SELECT unnest($2::VARCHAR[])) GROUP BY ALL",
                [str(self._file), list(dict.fromkeys(user_ids))],
            ).fetchall()
        for fingerprint in {row[2] for row in rows}:
            same_encoders(self.link.about, source=fingerprint)
        profiles = {name: profile for name, profile, _ in rows}
        for row, name in enumerate(user_ids):
            if name in profiles:
                found[row] = profiles[name]
        return found

    def recommend(self, users: str | list[str] | Entities, k: int = 10, *, explain: bool = False) -> pd.DataFrame:
        """The k best items of each user, as `HybridRecommender.recommend`.

        The parts of the scores are those without the link, which is the rest of the score.
        """
        fitted = self._model.fitted
        asked = resolve(fitted, users, USER_ID, "popularity", None)
        if not len(asked):
            raise ColdStartError("no user is given; give at least one id")
        rules, frames = Rules(k), []
        added = dict(self._added(asked, fitted.all_items))
        others = np.array([row for row in range(len(asked)) if row not in added], np.int64)
        if len(others):
            frame = tables.recommend(fitted, asked.take(others), rules, True, explain)
            # Each user has as many rows as ranks that begin at 1.
            frames.append(frame.assign(order=others[np.cumsum(frame["rank"].to_numpy() == 1) - 1]))
        for row, linked in added.items():
            one = asked.take(np.array([row]))
            frame = tables.recommend(fitted, one, replace(rules, linked=linked), True, explain)
            frames.append(frame.assign(tier=LINKED, order=row))
        joined = pd.concat(frames).sort_values("order", kind="stable", ignore_index=True)
        return joined.drop(columns="order")

    def score(self, users: str | list[str] | Entities, items: str | list[str] | Entities) -> Scores:
        """(users, items): the scores by which `recommend` ranks; unknown ids count as in `recommend`."""
        fitted = self._model.fitted
        asked, side = resolve(fitted, users, USER_ID, "popularity", None), item_side(fitted, items, "popularity")
        scores = self._model.score(asked, items, unknown="popularity")
        for row, linked in self._added(asked, side):
            scores[row] += linked
        return scores

    def explain(self, user: str | Entities, item: str | Entities, *, encoder: Any = None) -> pd.DataFrame:
        """The terms of one score of `score`, as `HybridRecommender.explain`; what the link adds has the kind "link"."""
        fitted = self._model.fitted
        asked, side = resolve(fitted, user, USER_ID, "popularity", None), item_side(fitted, item, "popularity")
        found = self._model.explain(asked, item, unknown="popularity", encoder=encoder)
        return with_link(found, next((float(linked[0]) for _, linked in self._added(asked, side)), None))

    def _added(self, asked: Entities, side: ItemSide) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """The rows of the users for whom the link changes something, and what it adds to scores of these items."""
        profiles = self.source_profiles(list(asked.ids))
        for row in np.flatnonzero(profiles.any(axis=1)).tolist():
            block = Block.of(self._model.fitted, asked.take(np.array([row])))
            linked = self._scores.added(block, profiles[[row]], side)
            if linked is not None:
                yield row, linked
