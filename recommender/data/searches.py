"""Users' searches, which are part of their descriptions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import duckdb
import numpy as np
from numpy.typing import NDArray

from coldstart_udfs.errors import ColdStartError
from coldstart_udfs.profile import has_text
from recommender.data.contract import QUERY, TIMESTAMP, USER_ID

if TYPE_CHECKING:
    from coldstart_udfs.encoder.encoder import Encoder
    from recommender.data.entities import Entities
    from recommender.data.interactions import Interactions

# Number of different searches in a description: the default encoder reads 256 tokens, and a search has about 5.
MAX_SEARCHES = 10


@dataclass(frozen=True)
class Searches:
    """Users' searches, newest first.

    Attributes:
        users: (n,) int64, row numbers of the users in the order of their ids.
        timestamps: (n,) datetime64[us], UTC.
        texts: n strings.
    """

    users: NDArray[np.int64]
    timestamps: NDArray[np.datetime64]
    texts: Sequence[str]

    def __len__(self) -> int:
        return len(self.users)

    def before(self, until: NDArray[np.datetime64]) -> Searches:
        """Return the searches before a moment of each user, (users,) datetime64[us]; none for users with NaT."""
        kept = np.flatnonzero(self.timestamps < until[self.users])
        return Searches(self.users[kept], self.timestamps[kept], [self.texts[row] for row in kept.tolist()])

    def join(
        self, descriptions: Sequence[str | None], until: np.datetime64 | NDArray[np.datetime64]
    ) -> list[str]:
        """Return users' descriptions as of a moment: their own text, then their earlier searches, one per line.

        The last `MAX_SEARCHES` different searches count, newest first. `sql/searches.sql` of the Feast repository does
        the same for serving; a test compares the two.

        Args:
            descriptions: descriptions of all users, in the order of their ids.
            until: one moment, or one for each user; NaT means that no search is known.

        Returns:
            One text per user, "" if there is none.

        Raises:
            ColdStartError: a search belongs to a user without a description row.
        """
        moments = np.broadcast_to(until, (len(descriptions),))
        if len(self) and self.users.max() >= len(descriptions):
            raise ColdStartError(f"a search has the user row {self.users.max()}, of {len(descriptions)} descriptions")
        known = self.before(moments)
        found: dict[int, dict[str, None]] = {}
        for user, query in zip(known.users.tolist(), known.texts, strict=True):
            queries = found.setdefault(user, {})
            if len(queries) < MAX_SEARCHES:
                queries.setdefault(query)
        own = [text if text and has_text(text) else "" for text in descriptions]
        return ["\n".join([*[text] * bool(text), *found.get(user, ())]) for user, text in enumerate(own)]


@dataclass(frozen=True)
class Searchers:
    """Users with searches, for an evaluation. Their descriptions depend on what is held out.

    Attributes:
        users: all users, with their own text only.
        searches: all their searches that may be used.
        encoder: the encoder of `users`.
    """

    users: Entities
    searches: Searches
    encoder: Encoder

    def before(self, until: NDArray[np.datetime64]) -> Searchers:
        """Return the same users, with their searches before a moment of each user, (users,) datetime64[us]."""
        return replace(self, searches=self.searches.before(until))

    def described(self) -> Entities:
        """Return all users, with searches added to descriptions and embeddings. Other users stay the same."""
        everything = np.datetime64("9999-12-31", "us")
        texts = self.searches.join(self.users.descriptions, everything)
        rows = np.unique(self.searches.users)
        embeddings = self.users.embeddings.copy()
        embeddings[rows] = self.encoder.encode([texts[row] for row in rows.tolist()])
        return replace(self.users, descriptions=texts, embeddings=embeddings)


def known_until(learned: Interactions, held_out: Interactions) -> NDArray[np.datetime64]:
    """Return, for each user, the moment from which their searches must not be used.

    It is the user's first held-out interaction, or just after the last training interaction of all users if that is
    earlier. If the latest interactions are held out, no search after the cut-off is used.

    Args:
        learned: the training interactions, at least one.
        held_out: all other interactions.

    Returns:
        (users,) datetime64[us].
    """
    until = np.full(len(learned.user_ids), learned.timestamps.max() + np.timedelta64(1, "us"))
    np.minimum.at(until, held_out.users, held_out.timestamps)
    return until


def read_searches(con: duckdb.DuckDBPyConnection) -> Searches:
    """Return the searches of a connection filled by `recommender.data.tables.load`."""
    query = f"""
        SELECT u.row AS users, epoch_us({TIMESTAMP}) AS timestamps, {QUERY} AS texts
        FROM interactions
        JOIN (SELECT {USER_ID}, row_number() OVER (ORDER BY {USER_ID}) - 1 AS row FROM users) AS u USING ({USER_ID})
        WHERE {QUERY} IS NOT NULL
        ORDER BY {TIMESTAMP} DESC, {QUERY}
    """
    rows: dict[str, Any] = dict(con.execute(query).fetchnumpy())
    times = rows["timestamps"].astype("datetime64[us]")
    return Searches(rows["users"].astype(np.int64), times, rows["texts"].tolist())
