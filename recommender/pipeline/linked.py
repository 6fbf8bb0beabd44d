"""Rank items for users who are new here and have a profile in a linked shop."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

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
from recommender.model.fitted import Fitted
from recommender.model.ranking import Rules
from recommender.model.recommender import HybridRecommender
from recommender.model.requests import resolve
from recommender.model.scoring import Block
from recommender.pipeline.linking_fit import SMALLEST

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


class LinkedRecommender:
    """A recommender that knows people of another shop by their profiles there.

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
        self._model, self._file = model, repo / "data" / LINKED_FILE
        fitted = model.fitted
        self._topics_of = self.link.topics_of(fitted.items.embeddings.whole)
        self._scale = lift_scale(fitted)
        buyers = np.expm1(np.maximum(fitted.demand.astype(np.float64), 0))
        self._popularity = np.log(buyers + SMALLEST).astype(np.float32)

    @classmethod
    def of(cls, model: HybridRecommender, repo: Path) -> LinkedRecommender | None:
        """The recommender with the link of a repository; None if the repository has none."""
        return cls(model, repo) if is_linked(repo) else None

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
                [str(self._file), user_ids],
            ).fetchall()
        for fingerprint in {row[2] for row in rows}:
            same_encoders(self.link.about, source=fingerprint)
        place = {name: row for row, name in enumerate(user_ids)}
        for name, profile, _ in rows:
            found[place[name]] = profile
        return found

    def scores(self, profiles: Vectors) -> NDArray[np.float32]:
        """(n, items): popularity times lift of all items, on the scale of the recommender's scores.

        Of an item without buyers, the popularity is what its words predict.

        Args:
            profiles: (n, d) float32, of the source.
        """
        return np.asarray(np.float32(self._scale) * self._popularity + self.added(profiles))

    def added(self, profiles: Vectors) -> NDArray[np.float32]:
        """(n, items): what profiles in the source shop add to scores of all items.

        Args:
            profiles: (n, d) float32, of the source.
        """
        factor = np.float32(self._scale * self.link.about.strength)
        return np.asarray(factor * self.link.lifts(profiles, self._topics_of))

    def recommend(self, users: str | list[str] | Entities, k: int = 10, *, explain: bool = False) -> pd.DataFrame:
        """The k best items of each user, as `HybridRecommender.recommend`.

        Users without history here are "linked", which is their tier. If they have no description either, items are
        ranked by popularity times lift, which is what the link was measured by; otherwise the lift is added to the
        recommender's scores. The parts of the scores are those without the link. All others are ranked as without a
        link, and so is everybody if the map does not help (strength 0).
        """
        fitted = self._model.fitted
        asked = resolve(fitted, users, USER_ID, "popularity", None)
        profiles = self.source_profiles(list(asked.ids))
        cold = ~asked.profiles.any(axis=1) & (np.diff(fitted.history_of(asked.ids).indptr) == 0)
        new = cold & profiles.any(axis=1) & (self.link.about.strength > 0)
        frames = []
        for row in range(len(asked)):
            rules = Rules.of(fitted, k, None, (), None, None, (), 0.0)
            one = asked.take(np.array([row]))
            if new[row] and one.descriptions[0]:
                rules = replace(rules, added=self.added(profiles[[row]])[0])
            elif new[row]:
                plain = Block.of(fitted, one).total(fitted.all_items)[0]
                rules = replace(rules, added=self.scores(profiles[[row]])[0] - plain)
            frame = tables.recommend(fitted, one, rules, True, explain)
            frames.append(frame.assign(tier="linked") if new[row] else frame)
        if not frames:
            raise ColdStartError("no user is given; give at least one id")
        return pd.concat(frames, ignore_index=True)
