-- Items with a description and no embedding of it, be it that none was made or that it is of an older description.
SELECT item_id, items.description
FROM {{ ref('stg_items') }} AS items
LEFT JOIN {{ ref('item_embeddings') }} AS embeddings USING (item_id, description)
WHERE trim(items.description) <> '' AND embeddings.embedding IS NULL
