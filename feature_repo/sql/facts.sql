-- Facts as attributes of items: what is one or two facts away from an item.
--
-- `coldstart facts` runs this file. The connection has the tables items (`attributes` contains the labels "column=value"
-- of its other columns) and facts (subject, predicate, object; no row twice). The variables are those of the command.
-- The file creates item_facts: item_id, name, value, weight.

-- A value that has more facts of one predicate than this leads too far; it is no way to a second fact.
SET VARIABLE most_of_a_kind = 20;
-- A value that fewer items share says little: n items count as n / (n + shrinkage).
SET VARIABLE shrinkage = 5;

CREATE TEMP TABLE known AS
SELECT subject, predicate, object,
    count(*) OVER (PARTITION BY subject, predicate) <= getvariable('most_of_a_kind') AS followed
FROM facts
WHERE subject <> object AND predicate NOT IN ('implies', 'excludes');

-- "director=Stanley Kubrick" is one fact away, "director>born=New York" two. A path visits nothing twice. It does not
-- continue from a number: 5 may be a rating and an item_id.
CREATE TEMP TABLE paths AS
WITH RECURSIVE paths(item_id, name, value, visited) AS (
    SELECT item_id, predicate, object, [subject, object]
    FROM items JOIN known ON known.subject = items.item_id
    UNION ALL
    SELECT item_id, name || '>' || predicate, object, list_append(visited, object)
    FROM paths JOIN known ON known.subject = paths.value
    WHERE followed AND len(visited) <= getvariable('hops') AND NOT list_contains(visited, object)
        AND TRY_CAST(value AS DOUBLE) IS NULL
)
SELECT DISTINCT item_id, name, value FROM paths;

-- Rules: "genre=Slasher" implies "audience=adult". They hold for attributes of the table items too, and one rule may
-- lead to another; UNION leaves out what is there already, so rules in a circle end.
CREATE TEMP TABLE labelled AS
WITH RECURSIVE labelled(item_id, label) AS (
    SELECT item_id, name || '=' || value FROM paths
    UNION
    SELECT item_id, unnest(attributes) FROM items
    UNION
    SELECT item_id, object FROM labelled JOIN facts ON subject = label AND predicate = 'implies'
)
FROM labelled;

-- The weight of a label is its inverse document frequency with shrinkage: ln((N + 1) / (n + 1)) · n / (n + shrinkage)
-- of N items, n of which have it. Labels of one item, or of more than half of the items, say nothing of others; those
-- that a rule excludes stay. Long texts and nodes without a name ("_:0") are no labels.
CREATE TABLE item_facts AS
WITH added AS (
    SELECT item_id, label,
        regexp_extract(label, '^(.*?)=', 1) AS name, trim(regexp_extract(label, '^.*?=(.*)$', 1, 's')) AS value
    FROM labelled
    ANTI JOIN (SELECT item_id, unnest(attributes) AS label FROM items) AS given USING (item_id, label)
),
counted AS (
    SELECT label, count(*) AS n, (SELECT count(*) FROM items) AS items,
        label IN (SELECT object FROM facts WHERE predicate = 'excludes') AS ruled
    FROM added
    WHERE name <> '' AND value <> '' AND len(value) <= 100 AND NOT starts_with(value, '_:')
    GROUP BY label
),
weighed AS (
    SELECT label, ruled, ln((items + 1) / (n + 1)) * n / (n + getvariable('shrinkage')) AS weight
    FROM counted
    WHERE ruled OR (n >= 2 AND n <= items / 2)
    QUALIFY row_number() OVER (ORDER BY ruled DESC, weight DESC, label) <= getvariable('most')
)
SELECT item_id, name, value, weight
FROM added JOIN weighed USING (label)
QUALIFY row_number() OVER (PARTITION BY item_id ORDER BY ruled DESC, weight DESC, label) <= getvariable('most_of_an_item');
