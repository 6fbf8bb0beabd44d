-- The desk: every conversation as it is after each turn of the customer, and what the desk proposes then.
-- Nothing is sent: a person reads the proposal first.

-- One row per turn of the customer, with all turns up to it.
CREATE TEMP TABLE moments AS
SELECT conversation_id, number, turns[number].text AS said, conversation(turns[:number]) AS text
FROM 'conversations.json', unnest(range(1, len(turns) + 1)) AS t(number)
WHERE turns[number].role = 'customer';

-- (1) What is it about? A topic is a tag of the site; 20 titles of each are its examples.
CREATE TEMP TABLE tagged AS
SELECT title AS text, tag AS label
FROM 'questions.parquet', unnest(tags) AS t(tag)
WHERE asked < '2017-01-01' AND tag IN
    ('brewing', 'storage', 'wine', 'pairing', 'serving', 'whiskey', 'history', 'breweries', 'glassware');
CREATE TEMP TABLE topics AS
FROM tagged QUALIFY row_number() OVER (PARTITION BY label ORDER BY text) <= 20;

-- (2) The best stored answer: that of the most similar question with an accepted or upvoted answer.
CREATE TEMP TABLE known AS
SELECT question_id, title, embed(title) AS embedding
FROM 'questions.parquet' q
WHERE asked < '2017-01-01' AND EXISTS (
    FROM 'answers.parquet' a WHERE a.question_id = q.question_id AND a.text IS NOT NULL AND (accepted OR score > 0));
CREATE TEMP TABLE nearest_question AS
SELECT conversation_id, number, max_by(question_id, similarity(embedding, embed(moments.text))) AS question_id
FROM moments, known
GROUP BY ALL;

-- (3) Who answers such things, among those with fewer than 8 open tickets? All are ranked (k is more than they are)
-- before the rule leaves some out: of the best two alone, perhaps nobody would remain.
CREATE TEMP TABLE agents AS
SELECT conversation_id, number, list(ranked.user_id ORDER BY rank)[:2] AS agents
FROM moments, audience(description := moments.text, k := 1000) ranked
LEFT JOIN 'load.csv' load ON load.user_id::VARCHAR = ranked.user_id
WHERE coalesce(open_tickets, 0) < 8
GROUP BY ALL;

SELECT
    conversation_id AS chat, left(said, 28) AS said,
    classify(moments.text, 'topics', threshold := 0.25).label AS topic,
    left(title, 28) AS answered_before, array_to_string(agents, ', ') AS ask
FROM moments
JOIN nearest_question USING (conversation_id, number)
JOIN known USING (question_id)
JOIN agents USING (conversation_id, number)
ORDER BY conversation_id, number;
