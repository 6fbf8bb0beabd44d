"""The SQL functions in ibis expressions, on the purchases of a real shop: `python examples/ibis_shop.py`.

Our functions belong to ibis' own DuckDB connection. A signature without a body tells ibis that the database has them.
"""

from __future__ import annotations

from pathlib import Path

import ibis
import ibis.expr.datatypes as dt
from ibis import _

import coldstart_udfs

PURCHASES = Path(__file__).parent / "online_retail" / "transactions.parquet"
CUSTOMER = 17630  # bought eight of the products below
Vector = dt.Array(dt.float32)


@ibis.udf.scalar.builtin
def embed(text: str) -> Vector:
    """The embedding of a text."""


@ibis.udf.scalar.builtin
def similarity(a: Vector, b: Vector) -> float:
    """Cosine of two vectors."""


@ibis.udf.scalar.builtin
def profile(vectors: dt.Array(Vector)) -> Vector:
    """The sum of vectors."""


@ibis.udf.scalar.builtin
def enrich(profile: Vector, text: str, n: int, alpha: float) -> Vector:
    """A profile of n purchases, and what its owner says, which weighs as alpha of them."""


def main() -> None:
    """Search for words, then recommend to a customer who has said something."""
    con = ibis.duckdb.connect()
    coldstart_udfs.register(con.con)

    lines = con.read_parquet(PURCHASES).filter(
        _.customer_id.notnull() & (_.quantity > 0) & _.stock_code.re_search("^[0-9]{5}")
    )
    purchases = lines.select("customer_id", item_id=_.stock_code.upper()).distinct()
    described = lines.group_by(item_id=_.stock_code.upper()).agg(
        description=_.description.strip().mode(), buyers=_.customer_id.nunique()
    )
    top = described.order_by(_.buyers.desc(), _.item_id).limit(400)
    # A table, so that the vectors are made once.
    products = con.create_table("products", top.mutate(embedding=embed(_.description)))

    words = "something for a gardener"
    found = products.mutate(similarity=similarity(_.embedding, embed(words)))
    show(f"Most similar to {words!r}", found.order_by(_.similarity.desc()).limit(5))

    bought = purchases.filter(_.customer_id == CUSTOMER).join(products, "item_id")
    said = "I bake cakes"
    person = bought.agg(enriched=enrich(profile(_.embedding.collect()), said, _.count(), 5.0))
    scored = products.anti_join(bought, "item_id").cross_join(person)
    scored = scored.mutate(similarity=similarity(_.embedding, _.enriched))
    show(f"For customer {CUSTOMER}, who says {said!r}", scored.order_by(_.similarity.desc()).limit(5))

    # What stands in FROM has no ibis signature; as a table its result goes on in expressions.
    con.raw_sql("CREATE TABLE lights AS FROM nearest('products', 'a light for the evening', k := 20)")
    lights = con.table("lights")
    show("The best sold of 20 lights for the evening", lights.order_by(_.buyers.desc()).limit(5))


def show(title: str, products: ibis.Table) -> None:
    """Print products and how similar they are."""
    print(title)
    print(products.select("description", "similarity").to_pandas().round(3).to_string(index=False), end="\n\n")


if __name__ == "__main__":
    main()
