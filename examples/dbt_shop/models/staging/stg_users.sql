-- Nobody wrote anything when they signed up here: the description is unknown.
SELECT
    user_id,
    NULL::VARCHAR AS description,
    min(event_timestamp) AS event_timestamp,
    arg_min(country, (event_timestamp, country)) AS country
FROM {{ ref('stg_sales') }}
GROUP BY user_id
