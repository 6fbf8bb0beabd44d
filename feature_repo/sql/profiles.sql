-- Behaviour profiles P and their evidence n, as of one moment.
--
-- `coldstart profiles` runs this file for each snapshot, oldest first: the first day after each month with events, and
-- the end of the data. If events age, months without events have a snapshot too, for a year. Variables: `previous` and `as_of`, the last snapshot and this one; `half_life_days`, infinite if events do not
-- age. A row contains only events before `as_of`, so point-in-time reads do not see the future. Enrichment with the
-- description happens when features are read; it is never stored.

-- P_u = Σ w·x is a plain sum: the changes since the last snapshot are added to the last profile, aged to `as_of`. If
-- events age, every profile changes; otherwise only those of users with new events.
INSERT INTO user_profiles
WITH since AS (
    SELECT user_id, sum(times) AS evidence, profile(
        list(item_embedding),
        list(weight * 0.5 ** (epoch(getvariable('as_of') - happened) / 86400 / getvariable('half_life_days')))
    ) AS profile
    FROM changes
    JOIN item_descriptions USING (item_id)
    WHERE changes.event_timestamp >= getvariable('previous')
      AND changes.event_timestamp < getvariable('as_of')
      AND item_embedding IS NOT NULL
    GROUP BY user_id
),
before AS (
    SELECT *, 0.5 ** (epoch(getvariable('as_of') - event_timestamp) / 86400 / getvariable('half_life_days')) AS aged
    FROM user_profiles
    QUALIFY row_number() OVER (PARTITION BY user_id ORDER BY event_timestamp DESC) = 1
),
summed AS (
    SELECT user_id, [before.user_profile, since.profile] AS parts, coalesce(aged, 0) AS aged,
        coalesce(before.user_evidence, 0) + coalesce(since.evidence, 0) AS evidence
    FROM since
    FULL JOIN before USING (user_id)
    WHERE since.evidence IS NOT NULL OR isfinite(getvariable('half_life_days'))
)
SELECT
    user_id,
    -- If all events were returned, the profile is exactly zero, without rounding errors.
    profile(parts, CASE WHEN evidence = 0 THEN [0, 0] ELSE [aged, 1] END),
    evidence,
    getvariable('fingerprint'),
    getvariable('as_of')
FROM summed;

-- P_i is the mean of its buyers' unit profiles, each without the item itself. Buyers of this item only do not count.
INSERT INTO item_profiles
WITH buyers AS (
    SELECT * FROM user_profiles
    QUALIFY row_number() OVER (PARTITION BY user_id ORDER BY event_timestamp DESC) = 1
),
pairs AS (
    SELECT user_id, item_id, sum(times) AS times, sum(
        weight * 0.5 ** (epoch(getvariable('as_of') - happened) / 86400 / getvariable('half_life_days'))
    ) AS weight
    FROM changes
    WHERE event_timestamp < getvariable('as_of')
    GROUP BY user_id, item_id
),
others AS (
    SELECT item_id, times, profile([user_profile, item_embedding], [1, -weight]) AS rest,
        times > 0 AND user_evidence > times AS informative
    FROM pairs
    JOIN buyers USING (user_id)
    JOIN item_descriptions USING (item_id)
    WHERE item_embedding IS NOT NULL
),
means AS (
    SELECT item_id,
        sum(times) AS evidence,
        list(rest) FILTER (informative) AS rests,
        -- A profile that is zero up to rounding has no direction.
        list(CASE WHEN norm > 1e-6 THEN 1 / norm END) FILTER (informative) AS scales
    FROM (SELECT *, sqrt(list_dot_product(rest, rest)) AS norm FROM others)
    GROUP BY item_id
)
SELECT
    item_id,
    -- Without such buyers: a zero profile with the width of the embeddings.
    coalesce(
        profile(rests, list_transform(scales, lambda scale: scale / len(scales))),
        profile([item_embedding], [0])
    ),
    evidence,
    getvariable('fingerprint'),
    getvariable('as_of')
FROM means
JOIN item_descriptions USING (item_id);
