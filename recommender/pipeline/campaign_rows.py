"""What is known of a user when a campaign starts: the features of the response model, from earlier events alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import duckdb
import numpy as np
from numpy.typing import NDArray

from coldstart_udfs.console import Report, no_report
from coldstart_udfs.encoder.encoder import Encoder
from coldstart_udfs.profile import Vectors
from coldstart_udfs.quoting import quote_text
from coldstart_udfs.settings import EVENT_WEIGHTS
from recommender.data.campaigns import Campaign
from recommender.data.contract import TAKE_BACK

# Older events do not count, so that users of this campaign can be compared with those of campaigns before it. Of 84,
# 120 and 182 days and all time, 120 ranked best and had the best probabilities on the campaigns for validation.
DAYS = 120
# A response rate counts as if the user had been contacted so many more times with the rate of all.
PRIOR_CONTACTS = 5
# Below this cosine, the texts of an event and of a campaign have nothing in common.
UNLIKE = 0.5
_LONGEST_DAYS = 365
_SMALLEST_SHARE = 1e-4
_DAY = np.timedelta64(1, "D")

Numbers = NDArray[np.float64]
Rows = NDArray[np.int64]


@dataclass(frozen=True)
class CampaignRows:
    """The contacts of one campaign, as the response model sees them.

    Attributes:
        campaign: the campaign.
        users: (n,) ids.
        names: (m,) of the features.
        features: (n, m), known when the campaign starts.
        responded: (n,) whether they responded; False for users who were not contacted.
    """

    campaign: Campaign
    users: tuple[str, ...]
    names: tuple[str, ...]
    features: Numbers
    responded: NDArray[np.bool_]


@dataclass(frozen=True)
class Behaviour:
    """The events of all users and the campaigns, from which rows are made for any moment.

    Attributes:
        user_ids: ids of all users.
        users: (e,) the user of each event, oldest event first.
        times: (e,) when it happened, UTC.
        returned: (e,) when it was taken back, or NaT.
        types: (e,) the row of its type in `event_types`.
        event_types: the most frequent first.
        texts: (e,) the row in `vectors` of the item's description, or of the search; the last row is zero.
        vectors: (t + 1, d), of unit length.
        campaigns: in the order in which they start.
        promoted: by id of a campaign, the rows in `vectors` of its texts.
    """

    user_ids: tuple[str, ...]
    users: Rows
    times: NDArray[np.datetime64]
    returned: NDArray[np.datetime64]
    types: Rows
    event_types: tuple[str, ...]
    texts: Rows
    vectors: Vectors
    campaigns: tuple[Campaign, ...]
    promoted: dict[str, Rows]

    @classmethod
    def read(
        cls, con: duckdb.DuckDBPyConnection, campaigns: Sequence[Campaign], encoder: Encoder,
        weights: Mapping[str, float] = EVENT_WEIGHTS, *, report: Report = no_report,
    ) -> Behaviour:  # fmt: skip
        """Read events and embed texts.

        Args:
            con: a connection filled by `recommender.data.tables.load`.
            campaigns: of `recommender.data.campaigns.read_campaigns`.
            encoder: for descriptions and searches.
            weights: `event_weights` of the settings; a type with the weight 0 is left out.
            report: called with (stage, done, total).
        """
        silent = (*TAKE_BACK, *(name for name, weight in weights.items() if weight == 0))
        left_out = f"({', '.join(map(quote_text, silent))})"
        con.execute(f"""
            CREATE TEMP VIEW behaviour AS
            SELECT user_id, epoch_us(interactions.event_timestamp) AS times, epoch_us(returned) AS returned,
                event_type AS type, coalesce(items.description, query) AS text
            FROM interactions LEFT JOIN items USING (item_id)
            WHERE event_type NOT IN {left_out}
        """)
        texts = [text for (text,) in con.execute(
            "SELECT DISTINCT text FROM behaviour WHERE trim(text) <> '' ORDER BY 1"
        ).fetchall()]  # fmt: skip
        texts = list(dict.fromkeys([*texts, *(text for campaign in campaigns for text in campaign.texts)]))
        report("embeddings", 0, len(texts))
        vectors = np.vstack([encoder.encode(texts), np.zeros((1, encoder.dimensions), np.float32)])
        report("embeddings", len(texts), len(texts))
        rows = {text: row for row, text in enumerate(texts)}
        user_ids = tuple(row[0] for row in con.execute("SELECT user_id FROM users ORDER BY 1").fetchall())
        event_types = tuple(row[0] for row in con.execute(
            "SELECT type FROM behaviour GROUP BY 1 ORDER BY count(*) DESC, 1"
        ).fetchall())  # fmt: skip
        found = con.execute("FROM behaviour ORDER BY times, user_id, type, text").fetchnumpy()
        user_rows = {name: row for row, name in enumerate(user_ids)}
        type_rows = {name: row for row, name in enumerate(event_types)}
        returned = np.ma.filled(np.ma.asarray(found["returned"]).astype("int64"), np.datetime64("NaT").astype("int64"))
        return cls(
            user_ids, np.array([user_rows[name] for name in found["user_id"]], np.int64),
            np.asarray(found["times"]).astype("datetime64[us]"), returned.astype("datetime64[us]"),
            np.array([type_rows[name] for name in found["type"]], np.int64), event_types,
            np.array([rows.get(text, len(texts)) if text else len(texts) for text in np.ma.filled(found["text"], "")],
                     np.int64),
            np.asarray(vectors, np.float32), tuple(campaigns),
            {one.campaign_id: np.array([rows[text] for text in one.texts], np.int64) for one in campaigns},
        )  # fmt: skip

    def rows(
        self, campaign: Campaign, users: Sequence[str] | None = None, *, as_of: np.datetime64 | None = None
    ) -> CampaignRows:
        """The features of users when a campaign starts. Nothing that happens later enters them.

        Args:
            campaign: the campaign.
            users: ids; None: those who were contacted.
            as_of: what is known of users is that of this moment, if it is before the start.
        """
        now = campaign.starts if as_of is None else min(as_of, campaign.starts)
        names = campaign.users if users is None else tuple(users)
        places = {name: row for row, name in enumerate(self.user_ids)}
        asked = np.array([places[name] for name in names], np.int64)
        features = {name: values[asked] for name, values in (self._events(campaign, now) | self._past(now)).items()}
        alike, promoted = self._alike(campaign, now), self.promoted[campaign.campaign_id]
        features["promoted texts"] = np.full(len(asked), np.log(max(len(promoted), 1)))
        features["share of events alike"] = np.full(
            len(asked), np.log((alike.mean() if len(alike) else 0) + _SMALLEST_SHARE)
        )
        contacted = dict(zip(campaign.users, ~np.isnat(campaign.responded), strict=True))
        return CampaignRows(
            campaign, names, tuple(features), np.column_stack(list(features.values())),
            np.array([contacted.get(name, False) for name in names], np.bool_),
        )  # fmt: skip

    def contacts(self, since: np.datetime64, until: np.datetime64) -> Rows:
        """(users,) in how many campaigns that start in a time each user was contacted."""
        places = {name: row for row, name in enumerate(self.user_ids)}
        found = [places[name] for one in self.campaigns if since <= one.starts < until for name in one.users]
        return np.bincount(np.array(found, np.int64), minlength=len(self.user_ids))

    def _known(self, now: np.datetime64) -> NDArray[np.bool_]:
        """(e,) the events that count at a moment."""
        return (self.times < now) & (now - self.times <= DAYS * _DAY) & ~(self.returned < now)

    def _alike(self, campaign: Campaign, now: np.datetime64) -> Numbers:
        """(known events,) how alike each event is to the nearest promoted text: 0 at the cosine UNLIKE, 1 if equal."""
        promoted = self.promoted[campaign.campaign_id]
        found = np.unique(self.texts[self._known(now)])
        nearest = np.full(len(self.vectors), -1.0)
        nearest[found] = (self.vectors[found] @ self.vectors[promoted].T).max(axis=1, initial=-1)
        return np.maximum(nearest[self.texts[self._known(now)]] - UNLIKE, 0) / (1 - UNLIKE)

    def _events(self, campaign: Campaign, now: np.datetime64) -> dict[str, Numbers]:
        known, size = self._known(now), len(self.user_ids)
        users = self.users[known]
        features = {
            "events": np.bincount(users, minlength=size),
            "events alike": np.bincount(users, self._alike(campaign, now), minlength=size),
        }
        for row, name in enumerate(self.event_types[1:], start=1):  # the first one is the rest
            features[f"{name} events"] = np.bincount(users[self.types[known] == row], minlength=size)
        return {name: np.log1p(counts) for name, counts in features.items()}

    def _past(self, now: np.datetime64) -> dict[str, Numbers]:
        """Earlier contacts and responses, as far as they are known."""
        size = len(self.user_ids)
        places = {name: row for row, name in enumerate(self.user_ids)}
        contacts, responses = np.zeros(size), np.zeros(size)
        days = np.full(size, float(_LONGEST_DAYS))
        for one in self.campaigns:
            if one.starts >= now:
                continue
            rows = np.array([places[name] for name in one.users], np.int64)
            contacts[rows] += 1
            done = one.responded < now  # NaT is not
            responses[rows[done]] += 1
            days[rows[done]] = np.minimum(days[rows[done]], (now - one.responded[done]) / _DAY)
        rate = responses.sum() / max(contacts.sum(), 1)
        return {
            "responses": np.log1p(responses),
            "response rate": (responses + PRIOR_CONTACTS * rate) / (contacts + PRIOR_CONTACTS) - rate,
            "days since a response": np.log1p(days),
        }
