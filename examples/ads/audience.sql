-- The candidates of campaign 18, as `coldstart campaign audience 18 --out data/candidates.parquet` wrote them.
CREATE VIEW candidates AS FROM 'data/candidates.parquet';

-- What budgets bring.
SELECT budget, count(*) AS contacts, round(sum(probability), 1) AS expected, round(min(probability), 3) AS last_contact
FROM (FROM (VALUES (100), (250), (500), (1000)) AS budgets(budget)), campaign_audience('candidates') AS chosen
WHERE chosen.rank <= budget GROUP BY budget ORDER BY budget;

-- A contact costs 0.50 and a response is worth 4.00: whoever responds with a probability of 1/8 or less is left out.
SELECT count(*) AS contacts, max(spent) AS spent, round(4 * sum(probability), 2) AS expected_value
FROM campaign_audience('candidates', cost := 0.5, value := 4, cap := 2);

-- What the first three have bought before the campaign, by their profiles.
WITH items AS (SELECT item_description, item_embedding AS embedding FROM 'feature_repo/data/item_descriptions/*.parquet'),
first AS (
    SELECT rank, user_id, user_profile
    FROM campaign_audience('candidates', budget := 3) JOIN 'feature_repo/data/user_profiles.parquet' USING (user_id)
    WHERE event_timestamp <= '2017-10-30' QUALIFY row_number() OVER (PARTITION BY user_id ORDER BY event_timestamp DESC) = 1
)
SELECT rank, user_id, (SELECT string_agg(item_description, '; ' ORDER BY similarity(embedding, user_profile) DESC) FROM (
    SELECT item_description, embedding FROM items ORDER BY similarity(embedding, user_profile) DESC LIMIT 2)) AS likes
FROM first ORDER BY rank;
