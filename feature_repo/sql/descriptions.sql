-- Descriptions and their embeddings, as sources for Feast: one row for each item and each user.
--
-- `coldstart profiles` runs this file, then searches.sql if there are searches, then profiles.sql. The connection has the
-- tables of the data contract (items, users, interactions; `attributes` contains every column that the contract
-- does not name) and the SQL functions of coldstart_udfs. A row is valid from its event_timestamp on.

CREATE TABLE item_descriptions AS
SELECT
    item_id,
    description AS item_description,
    attributes AS item_attributes,
    embed(description) AS item_embedding,
    getvariable('fingerprint') AS embedding_fingerprint,
    event_timestamp
FROM items;

CREATE TABLE user_descriptions AS
SELECT
    user_id,
    description AS user_description,
    attributes AS user_attributes,
    embed(description) AS user_embedding,
    getvariable('fingerprint') AS embedding_fingerprint,
    event_timestamp
FROM users;

-- Changes of profiles: an event adds its weight to a profile, and a return or a removal subtracts it again. The weights are those of
-- enrichment.json. An event's age is counted from `happened`; `times` is its number of events in the evidence.
CREATE VIEW changes AS
WITH events AS (
    SELECT user_id, item_id, event_timestamp, returned,
        weight * getvariable('event_weights')[event_type] AS weight,
        getvariable('event_weights')['return'] AS share
    FROM interactions
    WHERE item_id IS NOT NULL AND event_type <> 'return'
)
SELECT user_id, item_id, event_timestamp, event_timestamp AS happened, weight, 1 AS times
FROM events
WHERE weight > 0
UNION ALL
SELECT user_id, item_id, returned, event_timestamp, -weight * share, -(share >= 1)::INTEGER
FROM events
WHERE weight > 0 AND share > 0 AND returned IS NOT NULL;
