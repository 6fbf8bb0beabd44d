SELECT item_id, description,
    round(similarity(embed('DAIRY CASE FRUIT DRINKS'), embed(description)), 2) AS alike
FROM 'drinks.csv' WHERE sugar = 'none added' ORDER BY alike DESC LIMIT 3;
