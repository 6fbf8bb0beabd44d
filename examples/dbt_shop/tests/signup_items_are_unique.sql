-- An item twice for one user.
SELECT user_id, item_id FROM {{ ref('signup_items') }} GROUP BY ALL HAVING count(*) > 1
