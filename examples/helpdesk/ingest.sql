-- The desk as tables of the data contract: a question is an item, a person who answered one is a user, an answer
-- is an interaction. Questions from 2017 on are left out: they play the customers who write in today.
CREATE TABLE items AS
SELECT
    question_id AS item_id,
    concat_ws(' ', title, '(' || array_to_string(tags, ', ') || ')', text) AS description,
    asked AS event_timestamp,
    tags
FROM questions
WHERE asked < '2017-01-01' AND question_id IN (SELECT question_id FROM answers);

CREATE TABLE interactions AS
SELECT user_id, question_id AS item_id, answered AS event_timestamp, 'interaction' AS event_type
FROM answers
WHERE answered < '2017-01-01' AND question_id IN (SELECT item_id FROM items);

-- Nothing about the people but their ids: who answers is all that the desk needs to know of them.
CREATE TABLE users AS SELECT DISTINCT user_id, NULL::VARCHAR AS description FROM interactions;
