-- A second purchase of the same item says little that the first did not: pairs count once.
SELECT user_id, item_id, min(event_timestamp) AS event_timestamp, 'purchase' AS event_type, 1.0::FLOAT AS weight
FROM {{ ref('stg_sales') }}
SEMI JOIN {{ ref('stg_items') }} USING (item_id)
GROUP BY user_id, item_id
