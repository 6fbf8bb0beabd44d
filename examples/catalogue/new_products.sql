-- What words let expect of products that nobody has bought yet: percentile, buyers, and bounds for nine of ten of them.
SELECT product, round(percentile) AS percentile, buyers, low, high
FROM (VALUES ('CANDY - PACKAGED / SEASONAL CANDY BAGS-CHOCOLATE / 9 OZ'), ('BABY FOODS / BABY JUICES / 32 OZ'),
      ('VITAMINS / VITAMIN C / 100 CT')) AS new(product),
    expected_demand(description := product)
ORDER BY buyers DESC;
