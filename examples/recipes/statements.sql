WITH near AS (
    SELECT topic, statement_id, statement, votes, similarity(embed(topic), embed(statement)) AS s
    FROM 'statements.csv', (VALUES ('Verkehr, Transport und Autos'), ('reparieren, ausleihen, gebraucht kaufen'),
        ('Herkunft und Kennzeichnung von Lebensmitteln'), ('Verpackung und Abfall vermeiden')) AS t(topic)
), centred AS (
    -- Less what each text has in common with all: an encoder of many languages needs that.
    SELECT *, s - avg(s) OVER (PARTITION BY topic) - avg(s) OVER (PARTITION BY statement_id) AS fit FROM near
), chosen AS (
    SELECT *, row_number() OVER (ORDER BY fit DESC) <= 3 AS of_topic FROM centred WHERE topic = 'Verkehr, Transport und Autos'
)
SELECT statement_id, statement, votes, of_topic FROM chosen
QUALIFY row_number() OVER (PARTITION BY of_topic ORDER BY votes) <= CASE WHEN of_topic THEN 2 ELSE 1 END
ORDER BY of_topic DESC, votes;
