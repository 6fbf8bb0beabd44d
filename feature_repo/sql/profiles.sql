-- Behaviour profiles P and their evidence n, as of one moment.
--
-- `coldstart profiles` runs this file for each snapshot, oldest first: the first of every month and the end
-- of the data. Variables: `previous` and `as_of`, the last snapshot and this one. A row says what was known
-- at `as_of` and nothing later, so point-in-time reads are honest. Enrichment with the description happens
-- when features are read; it is never stored.

-- P_u = Σ w·x: a plain sum, so what happened since the last snapshot is added to what it was.
INSERT INTO user_profiles
WITH since AS (
    SELECT user_id, profile(list(item_embedding), list(weight)) AS profile, count(*) AS evidence
    FROM interactions
    JOIN item_descriptions USING (item_id)
    WHERE interactions.event_timestamp >= getvariable('previous')
      AND interactions.event_timestamp < getvariable('as_of')
      AND item_embedding IS NOT NULL
    GROUP BY user_id
),
before AS (
    SELECT * FROM user_profiles
    QUALIFY row_number() OVER (PARTITION BY user_id ORDER BY event_timestamp DESC) = 1
)
SELECT
    since.user_id,
    profile([before.user_profile, since.profile]),
    coalesce(before.user_evidence, 0) + since.evidence,
    getvariable('fingerprint'),
    getvariable('as_of')
FROM since
LEFT JOIN before USING (user_id);

-- P_i = the mean of its buyers' unit profiles, each with the item itself left out. A buyer of nothing else
-- says nothing about it.
INSERT INTO item_profiles
WITH buyers AS (
    SELECT * FROM user_profiles
    QUALIFY row_number() OVER (PARTITION BY user_id ORDER BY event_timestamp DESC) = 1
),
pairs AS (
    SELECT user_id, item_id, sum(weight) AS weight, count(*) AS times
    FROM interactions
    WHERE event_timestamp < getvariable('as_of')
    GROUP BY user_id, item_id
),
others AS (
    SELECT item_id, times, profile([user_profile, item_embedding], [1, -weight]) AS rest,
        user_evidence > times AS informative
    FROM pairs
    JOIN buyers USING (user_id)
    JOIN item_descriptions USING (item_id)
    WHERE item_embedding IS NOT NULL
),
means AS (
    SELECT item_id,
        sum(times) AS evidence,
        list(rest) FILTER (informative) AS rests,
        list(1 / nullif(sqrt(list_dot_product(rest, rest)), 0)) FILTER (informative) AS scales
    FROM others
    GROUP BY item_id
)
SELECT
    item_id,
    -- Nobody who could tell: a zero profile, as wide as the embeddings.
    coalesce(
        profile(rests, list_transform(scales, lambda scale: scale / len(scales))),
        profile([item_embedding], [0])
    ),
    evidence,
    getvariable('fingerprint'),
    getvariable('as_of')
FROM means
JOIN item_descriptions USING (item_id);
