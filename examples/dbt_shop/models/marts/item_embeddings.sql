{{ config(
    materialized='incremental',
    unique_key='item_id',
    on_schema_change='fail',
    post_hook="DELETE FROM {{ this }} WHERE item_id NOT IN (SELECT item_id FROM {{ ref('stg_items') }})",
) }}
-- Embedding is the dear part: only items are embedded that are new, whose description is another one now, or whose
-- vector another encoder made (of this model or another, on another backend: the fingerprint knows). What has left
-- the shop is deleted by the hook, so the table is always what a full refresh would make of it.
WITH encoder AS MATERIALIZED (
    SELECT embed_info().fingerprint AS embedding_fingerprint
),
pending AS (
    SELECT item_id, description, embedding_fingerprint
    FROM {{ ref('stg_items') }}
    CROSS JOIN encoder
    {% if is_incremental() -%}
    ANTI JOIN {{ this }} USING (item_id, description, embedding_fingerprint)
    {%- endif %}
)
SELECT
    item_id,
    description,
    embed(description) AS embedding,
    embedding_fingerprint,
    current_timestamp AS embedded_at
FROM pending
