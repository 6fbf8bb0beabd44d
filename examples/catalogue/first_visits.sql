-- The three best products of the drugstore for customers of the grocery who have never been there.
SELECT user_id, rank, r.item_id, i.description, tier
FROM (SELECT user_id FROM linked_profiles ANTI JOIN 'drugstore/data/interactions.parquet' USING (user_id)
      ORDER BY user_source_evidence DESC, user_id LIMIT 3) AS new,
    recommend(user_id, k := 3) AS r
JOIN 'drugstore/data/items.parquet' AS i USING (item_id)
ORDER BY user_id, rank;
