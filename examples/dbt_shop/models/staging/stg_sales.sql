-- The rules of examples/online_retail/ingest.sql, which says why. A sale: the customer is known, goods went out
-- and were paid for, and the code is that of a product.
SELECT
    customer_id::VARCHAR AS user_id,
    upper(stock_code) AS item_id,
    trim(description) AS description,
    invoice_date AS event_timestamp,
    unit_price,
    country
FROM {{ source('online_retail', 'transactions') }}
WHERE customer_id IS NOT NULL
  AND quantity > 0
  AND unit_price > 0
  AND regexp_matches(upper(stock_code), '^[0-9]{5}')
