-- The candidates of campaign 18, as `coldstart campaign audience 18 --out data/candidates.parquet` wrote them.
CREATE VIEW candidates AS FROM 'data/candidates.parquet';

-- What budgets bring.
SELECT budget, count(*) AS contacts, round(sum(probability), 1) AS expected, round(min(probability), 3) AS last_contact
FROM (VALUES (100), (250), (500), (1000)) AS budgets(budget), campaign_audience('candidates')
WHERE spent <= budget GROUP BY budget ORDER BY budget;

-- A contact costs 0.50 and a response is worth 4.00: users with a probability of 1/8 or less are left out.
SELECT count(*) AS contacts, max(spent) AS spent, round(4 * sum(probability), 2) AS expected_value
FROM campaign_audience('candidates', cost := 0.5, value := 4, cap := 2);

-- What the first three buy: the two items nearest to their profiles before the campaign.
WITH profiles AS (
    SELECT rank, user_id, user_profile, event_timestamp
    FROM campaign_audience('candidates', budget := 3) JOIN 'feature_repo/data/user_profiles.parquet' USING (user_id)
    WHERE event_timestamp <= '2017-10-30'
),
near AS (
    SELECT rank, user_id, item_description, similarity(item_embedding, user_profile) AS likeness
    FROM (FROM profiles QUALIFY row_number() OVER (PARTITION BY user_id ORDER BY event_timestamp DESC) = 1),
        'feature_repo/data/item_descriptions/*.parquet'
    QUALIFY row_number() OVER (PARTITION BY user_id ORDER BY likeness DESC) <= 2
)
SELECT rank, user_id, string_agg(item_description, '; ' ORDER BY likeness DESC) AS buys
FROM near GROUP BY ALL ORDER BY rank;
