-- What users searched for joins their descriptions: their own words, then their last different searches, newest first.
--
-- `coldstart profiles` runs this file after descriptions.sql if there are searches. Table `own_words`: what the tables
-- and `coldstart put` say of users. Variables: `snapshots`, the moments that profiles.sql is run for; `max_searches`.
-- As profiles do, a row says what was known before its event_timestamp, so no description knows later searches.

CREATE TABLE user_searches AS
WITH searches AS (
    SELECT user_id, query, event_timestamp AS moment FROM interactions WHERE query IS NOT NULL
),
-- At the first snapshot after a search; and when somebody who has searched says something new.
moments AS (
    SELECT user_id, list_min(list_filter(getvariable('snapshots'), lambda snapshot: snapshot > moment)) AS as_of
    FROM searches
    UNION
    SELECT user_id, own_words.event_timestamp + INTERVAL 1 MICROSECOND
    FROM own_words JOIN searches USING (user_id)
    WHERE moment < own_words.event_timestamp
),
recent AS (
    SELECT user_id, as_of, query, max(moment) AS latest
    FROM moments JOIN searches USING (user_id)
    WHERE moment < as_of
    GROUP BY user_id, as_of, query
    QUALIFY row_number() OVER (PARTITION BY user_id, as_of ORDER BY latest DESC, query) <= getvariable('max_searches')
),
joined AS (
    SELECT user_id, as_of, string_agg(query, chr(10) ORDER BY latest DESC, query) AS queries
    FROM recent
    GROUP BY user_id, as_of
),
described AS (
    SELECT joined.user_id, as_of, user_attributes,
        concat_ws(chr(10), CASE WHEN regexp_matches(user_description, '\S') THEN user_description END, queries)
            AS user_description
    FROM joined
    ASOF LEFT JOIN own_words ON joined.user_id = own_words.user_id AND as_of >= own_words.event_timestamp
)
SELECT
    user_id,
    user_description,
    user_attributes,
    embed(user_description) AS user_embedding,
    getvariable('fingerprint') AS embedding_fingerprint,
    as_of AS event_timestamp
FROM described;
