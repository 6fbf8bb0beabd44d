WITH known AS (SELECT string_split(tags, ' ') AS tags FROM 'questions.csv' WHERE question_id = 2381),
open AS (
    SELECT question_id, title, list_filter(string_split(q.tags, ' '), lambda tag: NOT list_contains(known.tags, tag)) AS new
    FROM 'questions.csv' AS q, known WHERE question_id <> 2381
)
SELECT question_id, title, new,
    round(similarity(embed('superposition and measurement of one qubit, without much mathematics'), embed(title)), 2) AS fit
FROM open WHERE len(new) <= 1 ORDER BY fit DESC LIMIT 3;
