-- The most frequent description counts, the first in the alphabet among equals. An item enters the shop when it
-- is first sold, at the price of that day.
WITH described AS (
    SELECT item_id, description, count(*) AS times
    FROM {{ ref('stg_sales') }}
    WHERE description <> ''
    GROUP BY item_id, description
),
first_sold AS (
    SELECT
        item_id,
        min(event_timestamp) AS event_timestamp,
        arg_min(unit_price, (event_timestamp, unit_price)) AS price
    FROM {{ ref('stg_sales') }}
    GROUP BY item_id
)
SELECT item_id, first(description ORDER BY times DESC, description) AS description, event_timestamp, price
FROM described
JOIN first_sold USING (item_id)
GROUP BY ALL
{% if var('items') is not none -%}
ORDER BY item_id
LIMIT {{ var('items') }}
{%- endif %}
