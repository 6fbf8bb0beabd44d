-- P, the sum of weight × embedding over what the user bought, and the evidence n behind it.
SELECT
    user_id,
    profile(list(embedding), list(weight)) AS profile,
    count(*) AS evidence,
    embedding_fingerprint
FROM {{ ref('stg_interactions') }}
JOIN {{ ref('item_embeddings') }} USING (item_id)
WHERE embedding IS NOT NULL
GROUP BY user_id, embedding_fingerprint
