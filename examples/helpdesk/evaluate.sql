-- Would the desk have named the right people? The questions since 2017, which the recommender has not seen, and who
-- answered them. Only people who had answered before can be named.
CREATE TEMP TABLE wanted AS
SELECT DISTINCT q.question_id, q.title || ' ' || q.text AS text, a.user_id
FROM 'questions.parquet' q JOIN 'answers.parquet' a USING (question_id)
WHERE q.asked >= '2017-01-01' AND a.user_id IN (SELECT user_id FROM 'data/interactions.parquet');
CREATE TEMP TABLE asked AS SELECT DISTINCT question_id, text FROM wanted;

CREATE TEMP TABLE ranked AS
SELECT 'coldstart audience' AS method, question_id, user_id, rank
FROM asked, audience(description := asked.text, k := 1000)
UNION ALL
SELECT 'the most answers', question_id, user_id, row_number() OVER (PARTITION BY question_id ORDER BY n DESC, user_id)
FROM asked, (SELECT user_id, count(*) AS n FROM 'data/interactions.parquet' GROUP BY user_id)
UNION ALL
SELECT 'most similar answered questions', question_id, user_id,
    row_number() OVER (PARTITION BY question_id ORDER BY similarity(profile, embed(asked.text)) DESC)
FROM asked, (
    SELECT user_id, profile(list(embed(description))) AS profile
    FROM 'data/interactions.parquet' JOIN 'data/items.parquet' USING (item_id) GROUP BY user_id
);

SELECT
    method, count(*) AS questions, round(sum(among_10) / sum(people), 3) AS found_among_10,
    round(avg(1 / best), 3) AS mean_reciprocal_rank
FROM (
    SELECT method, question_id, min(rank) AS best, count(*) AS people, count(*) FILTER (rank <= 10) AS among_10
    FROM ranked JOIN wanted USING (question_id, user_id)
    GROUP BY ALL
)
GROUP BY method ORDER BY found_among_10 DESC;
