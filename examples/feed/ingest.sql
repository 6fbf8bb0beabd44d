-- Posts of beer.stackexchange.com to the tables of the data contract: a question is an article, who answers it a reader.
--
-- `coldstart ingest .` runs this file; posts.parquet is the table posts.

-- Answers of those who asked tell nothing of what a reader looks for.
CREATE TEMP TABLE answered AS
SELECT answers.owner AS user_id, questions.id AS item_id, min(answers.date) AS event_timestamp
FROM posts AS answers
JOIN posts AS questions ON answers.parent = questions.id
WHERE answers.type = '2' AND questions.type = '1' AND answers.owner IS NOT NULL
  AND answers.owner IS DISTINCT FROM questions.owner
GROUP BY ALL;

-- The moment of publication is what freshness is measured from. Questions that nobody answered yet are there too.
CREATE TABLE items AS
SELECT id AS item_id, concat_ws(' ', title, body) AS description, date AS event_timestamp,
    regexp_extract_all(tags, '[^<>|]+') AS tags
FROM posts WHERE type = '1';

CREATE TABLE users AS
SELECT user_id, NULL::VARCHAR AS description, min(event_timestamp) AS event_timestamp FROM answered GROUP BY ALL;

CREATE TABLE interactions AS SELECT *, 'interaction' AS event_type FROM answered;
