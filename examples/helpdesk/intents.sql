-- What do messages to a bank want? 10 examples of each of 77 intents, 5 other messages of each.
-- Below the threshold there is no label: a person reads the message.
CREATE TEMP TABLE labelled AS
SELECT label AS truth, classify(text, 'intents.csv') AS found FROM 'messages.csv';

SELECT
    threshold,
    round(avg((found.probability >= threshold)::INT), 3) AS labelled,
    round(avg((found.label = truth)::INT) FILTER (found.probability >= threshold), 3) AS of_them_right
FROM labelled, (VALUES (0.0), (0.3), (0.5), (0.7), (0.9)) AS t(threshold)
GROUP BY threshold ORDER BY threshold;
