-- Descriptions and their embeddings, as Feast's sources: one row for each item and each user.
--
-- `coldstart profiles` runs this file once, then profiles.sql for each snapshot. It finds the tables of the
-- data contract (items, users, interactions; `attributes` is made of every column that is not the
-- contract's) and the SQL functions of coldstart_udfs. What was read is true from event_timestamp on.

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

-- Filled by profiles.sql.
CREATE TABLE user_profiles (
    user_id VARCHAR,
    user_profile FLOAT[],
    user_evidence BIGINT,
    embedding_fingerprint VARCHAR,
    event_timestamp TIMESTAMPTZ
);

CREATE TABLE item_profiles (
    item_id VARCHAR,
    item_profile FLOAT[],
    item_evidence BIGINT,
    embedding_fingerprint VARCHAR,
    event_timestamp TIMESTAMPTZ
);
