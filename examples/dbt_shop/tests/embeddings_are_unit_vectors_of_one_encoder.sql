-- Rows whose vector has another width or length than the encoder's have, or that another encoder made.
SELECT item_id, len(embedding) AS width, sqrt(list_dot_product(embedding, embedding)) AS norm, embedding_fingerprint
FROM {{ ref('item_embeddings') }}
WHERE len(embedding) <> {{ var('dimensions') }}
   OR abs(sqrt(list_dot_product(embedding, embedding)) - 1) > 1e-4
   OR embedding_fingerprint <> embed_info().fingerprint
