-- The ten items nearest to each enriched profile P' = P + α(n)·M(d) of those who have just signed up. Most have no
-- profile, so their words decide; who has one and then writes something is between the two. P' itself is made on
-- reading and not stored. Who wrote nothing and bought nothing is unknown, and gets nothing here.
WITH enriched AS MATERIALIZED (
    SELECT user_id, enrich(profile, signups.description, evidence) AS enriched_profile
    FROM {{ ref('signups') }} AS signups
    LEFT JOIN {{ ref('user_profiles') }} USING (user_id)
),
candidates AS (
    SELECT user_id, item_id, items.description, similarity(enriched_profile, embedding) AS similarity
    FROM enriched
    CROSS JOIN {{ ref('item_embeddings') }} AS items
    ANTI JOIN {{ ref('stg_interactions') }} USING (user_id, item_id)
)
SELECT
    user_id,
    row_number() OVER (PARTITION BY user_id ORDER BY similarity DESC, item_id) AS rank,
    item_id,
    description,
    similarity
FROM candidates
WHERE similarity IS NOT NULL
QUALIFY rank <= 10
