"""What users searched for, as words of theirs."""

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

# A description holds the last so many different searches: the default encoder reads 256 tokens, and one takes about 5.
MAX_SEARCHES = 10


@dataclass(frozen=True)
class Searches:
    """What users searched for, newest first.

    Attributes:
        users: (n,) int64, rows of the users in the order of their ids.
        timestamps: (n,) datetime64[us], UTC.
        texts: n strings.
    """

    users: NDArray[np.int64]
    timestamps: NDArray[np.datetime64]
    texts: Sequence[str]

    def __len__(self) -> int:
        return len(self.users)

    def before(self, until: NDArray[np.datetime64]) -> Searches:
        """Those before a moment of each user, (users,) datetime64[us]; of a user with NaT none."""
        kept = np.flatnonzero(self.timestamps < until[self.users])
        return Searches(self.users[kept], self.timestamps[kept], [self.texts[row] for row in kept.tolist()])

    def join(
        self, descriptions: Sequence[str | None], until: np.datetime64 | NDArray[np.datetime64]
    ) -> list[str]:
        """Users' descriptions as of a moment: their own words, then their searches before it, a line for each.

        The last `MAX_SEARCHES` different ones count, newest first. `sql/searches.sql` of the Feast repository does the
        same for what is served; a test holds the two together.

        Args:
            descriptions: of all users, in the order of their ids.
            until: one moment, or one for each user; of a user with NaT no search is known.

        Returns:
            As many texts, "" where there is nothing.
        """
        moments = np.broadcast_to(until, (len(descriptions),))
        if len(self) and self.users.max() >= len(descriptions):
            raise ColdStartError(f"{len(descriptions)} descriptions, and a search of user {self.users.max()}")
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
    """Users who have searched, for an evaluation: what their descriptions are depends on what is held out.

    Attributes:
        users: of all users what they said themselves.
        searches: theirs, all that may be known.
        encoder: the one of `users`.
    """

    users: Entities
    searches: Searches
    encoder: Encoder

    def before(self, until: NDArray[np.datetime64]) -> Searchers:
        """The same users, with what they searched for before a moment of each, (users,) datetime64[us]."""
        return replace(self, searches=self.searches.before(until))

    def described(self) -> Entities:
        """All users, with their searches in their descriptions and embeddings; the others are as they were."""
        everything = np.datetime64("9999-12-31", "us")
        texts = self.searches.join(self.users.descriptions, everything)
        rows = np.unique(self.searches.users)
        embeddings = self.users.embeddings.copy()
        embeddings[rows] = self.encoder.encode([texts[row] for row in rows.tolist()])
        return replace(self.users, descriptions=texts, embeddings=embeddings)


def known_until(learned: Interactions, held_out: Interactions) -> NDArray[np.datetime64]:
    """Of each user, the moment from which on nothing that he says may be known.

    That is his first interaction that is held out, and at the latest just after the last one that is learned from, of
    anybody: where the latest interactions are held out, nobody is heard after the cut-off.

    Args:
        learned: at least one interaction.
        held_out: all others, in whatever part.

    Returns:
        (users,) datetime64[us].
    """
    until = np.full(len(learned.user_ids), learned.timestamps.max() + np.timedelta64(1, "us"))
    np.minimum.at(until, held_out.users, held_out.timestamps)
    return until


def read_searches(con: duckdb.DuckDBPyConnection) -> Searches:
    """The searches of a connection that `recommender.data.tables.load` has filled."""
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
