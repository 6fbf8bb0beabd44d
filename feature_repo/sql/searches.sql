-- Append users' searches to their descriptions: the user's own text, then their last different searches, newest first.
--
-- `coldstart profiles` runs this file after descriptions.sql if there are searches. The table `own_words` contains the
-- users' descriptions from the tables and from `coldstart put`. Variables: `snapshots`, the moments for which
-- profiles.sql runs; `max_searches`. A row contains only searches before its event_timestamp.

CREATE TABLE user_searches AS
WITH searches AS (
    SELECT user_id, query, event_timestamp AS moment FROM interactions WHERE query IS NOT NULL
),
-- New rows: at the first snapshot after a search, and when the description of a user with searches changes.
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
