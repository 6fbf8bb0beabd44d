"""Write examples/ads from Complete Journey; `make bench-ads DATA=folder` writes the same tables for itself."""

from __future__ import annotations

import argparse
from pathlib import Path

import duckdb

# An item is a kind of product: campaigns promote up to 35,616 products, most of which nobody in the sample has bought,
# but of kinds that many have bought.
_KINDS = """
CREATE TABLE kinds AS
SELECT lpad(CAST(row_number() OVER (ORDER BY category, type) AS VARCHAR), 4, '0') AS item_id, category, type
FROM (
    SELECT DISTINCT coalesce(product_category, '') AS category, product_type AS type FROM products
    WHERE product_type IS NOT NULL
        AND product_id IN (SELECT product_id FROM transactions_sample UNION ALL SELECT product_id FROM coupons)
);
CREATE TABLE kind_of AS
SELECT product_id, item_id FROM products
JOIN kinds ON coalesce(product_category, '') = category AND product_type = type;
"""
_TABLES = {
    "items": "SELECT item_id, concat_ws(': ', nullif(category, ''), type) AS description FROM kinds ORDER BY item_id",
    "users": """
        SELECT DISTINCT household_id AS user_id, NULL::VARCHAR AS description
        FROM (SELECT household_id FROM transactions_sample UNION ALL SELECT household_id FROM campaigns) ORDER BY 1
    """,
    "interactions": """
        SELECT household_id AS user_id, item_id, transaction_timestamp AS event_timestamp,
            CASE WHEN coupon_disc > 0 THEN 'coupon' ELSE 'purchase' END AS event_type
        FROM transactions_sample JOIN kind_of USING (product_id) ORDER BY user_id, event_timestamp, item_id
    """,
    "campaigns/campaigns": """
        SELECT campaign_id, start_date AS starts, end_date AS ends FROM campaign_descriptions ORDER BY ALL
    """,
    "campaigns/campaign_items": """
        SELECT DISTINCT campaign_id, item_id FROM coupons JOIN kind_of USING (product_id) ORDER BY ALL
    """,
    "campaigns/contacts": """
        SELECT campaign_id, household_id AS user_id, min(redemption_date) AS responded
        FROM campaigns LEFT JOIN coupon_redemptions USING (campaign_id, household_id) GROUP BY ALL ORDER BY ALL
    """,
}
_SOURCES = ("transactions_sample", "products", "coupons", "campaigns", "campaign_descriptions", "coupon_redemptions")


def write_tables(source: Path, out: Path) -> None:
    """Write the tables of the data contract to out, and those of campaigns to out/campaigns.

    Args:
        source: the folder of Complete Journey.
        out: the output folder.
    """
    (out / "campaigns").mkdir(parents=True, exist_ok=True)
    with duckdb.connect() as con:
        for name in _SOURCES:
            con.execute(f"CREATE VIEW {name} AS FROM read_parquet('{source / name}.parquet')")
        con.execute(_KINDS)
        for name, query in _TABLES.items():
            con.execute(f"COPY ({query}) TO '{out / name}.parquet' (FORMAT parquet, COMPRESSION zstd)")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path)
    parser.add_argument("out", type=Path)
    given = parser.parse_args()
    write_tables(given.source, given.out)
