-- Online Retail: invoice lines to the tables of the data contract.
--
-- `coldstart ingest examples/online_retail` runs this file. Every parquet or CSV file beside it is a table
-- of the same name (here: transactions). It has to leave three tables behind: items, users, interactions.
-- Any shop writes its own; these are the rules of this one.

-- What counts as a sale: the customer is known, goods went out and were paid for, and the code is that of
-- a product. Product codes are five digits and perhaps letters for the variant (85123A); POST, D, M,
-- BANK CHARGES and their like are postage, discounts and corrections. Codes that start with C in
-- invoice_no are returns: their quantity is negative.
CREATE TEMP TABLE sales AS
SELECT
    customer_id::VARCHAR AS user_id,
    upper(stock_code) AS item_id,
    trim(description) AS description,
    invoice_date AS event_timestamp,
    unit_price,
    country
FROM transactions
WHERE customer_id IS NOT NULL
  AND quantity > 0
  AND unit_price > 0
  AND regexp_matches(upper(stock_code), '^[0-9]{5}');

-- A product may have been described in several ways: the most frequent one counts, the first in the
-- alphabet among equals. A product enters the shop when it is first sold, at the price of that day.
CREATE TABLE items AS
WITH described AS (
    SELECT item_id, description, count(*) AS times
    FROM sales
    WHERE description <> ''
    GROUP BY item_id, description
)
SELECT
    item_id,
    first(description ORDER BY times DESC, description) AS description,
    (SELECT min(event_timestamp) FROM sales WHERE sales.item_id = described.item_id) AS event_timestamp,
    (SELECT arg_min(unit_price, (event_timestamp, unit_price)) FROM sales WHERE sales.item_id = described.item_id)
        AS price
FROM described
GROUP BY item_id;

-- Nobody wrote anything about themselves when they signed up here: the description is unknown.
CREATE TABLE users AS
SELECT
    user_id,
    NULL::VARCHAR AS description,
    min(event_timestamp) AS event_timestamp,
    arg_min(country, (event_timestamp, country)) AS country
FROM sales
GROUP BY user_id;

-- A second purchase of the same product says little that the first did not: pairs count once.
CREATE TABLE interactions AS
SELECT user_id, item_id, min(event_timestamp) AS event_timestamp, 'purchase' AS event_type
FROM sales
SEMI JOIN items USING (item_id)
GROUP BY user_id, item_id;
