"""The SQL functions in marimo cells, on the purchases of a real shop: `marimo edit examples/marimo_shop.py`.

Needs feast-coldstart[notebook]. marimo writes this file: a cell's arguments are what it reads from others, tables too.
"""
# ruff: noqa: ANN001, ANN202, B018

import marimo

__generated_with = "0.25.2"
app = marimo.App(
    width="medium",
    app_title="SQL cells over a shop",
    sql_output="pandas",
)

with app.setup:
    import marimo as mo

    import coldstart_udfs

    con = coldstart_udfs.connect()


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    # SQL cells over a shop

    The cells below are SQL on a DuckDB connection from `coldstart_udfs.connect()`, so `embed()` and the other
    functions are there. When something changes, marimo runs the cells again that read it.
    The data are the 400 products of a British gift shop that most customers bought, and who bought them.
    """)
    return


@app.cell
def _():
    _df = mo.sql(
        f"""
        CREATE OR REPLACE TABLE purchases AS
        SELECT customer_id, upper(stock_code) AS item_id, mode(trim(description)) AS description
        FROM '{mo.notebook_dir()}/online_retail/transactions.parquet'
        WHERE customer_id IS NOT NULL AND quantity > 0 AND regexp_matches(stock_code, '^[0-9]{{5}}')
        GROUP BY ALL
        """,
        engine=con,
    )
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## Embed

    `embed()` is a function like any other. Keep the vectors in a column named `embedding`, and beside them whose
    they are.
    """)
    return


@app.cell
def _(purchases):
    _df = mo.sql(
        """
        CREATE OR REPLACE TABLE products AS
        SELECT *, embed(description) AS embedding, embed_info().fingerprint AS embedding_fingerprint
        FROM (
            SELECT item_id, mode(description) AS description, count(DISTINCT customer_id) AS buyers
            FROM purchases GROUP BY item_id ORDER BY buyers DESC, item_id LIMIT 400
        )
        """,
        engine=con,
    )
    return


@app.cell
def _(products):
    _df = mo.sql(
        """
        SELECT embed_info().model AS model, embed_info().backend AS backend, count(*) AS products,
            any_value(len(embedding)) AS dimensions
        FROM products WHERE embedding_fingerprint = embed_info().fingerprint
        """,
        engine=con,
    )
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## Search by words

    A product need not contain the words, only mean something alike. Type others, and the search runs again.
    """)
    return


@app.cell
def _():
    words = mo.ui.text("something for a gardener", label="Search for")
    words
    return (words,)


@app.cell
def _(products, words):
    found = mo.sql(
        f"""
        WITH shop AS (FROM products)
        SELECT description, similarity
        FROM nearest('shop', '{words.value.replace("'", "''")}', k := 5)
        """,
        engine=con,
    )
    return (found,)


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    `WITH shop` is there for marimo, which finds the tables that a cell reads after FROM, but not in a text: from
    `nearest('products', …)` alone it could not know that the cell that makes `products` has to run first.

    `nearest()` is `similarity()` with an ORDER BY and a LIMIT. Written out it goes wherever SQL goes: here it gives
    the best answer to each of three questions.
    """)
    return


@app.cell
def _(products):
    _df = mo.sql(
        """
        SELECT question, max_by(description, s) AS best, max(s) AS similarity
        FROM (
            SELECT question, description, similarity(embedding, embed(question)) AS s
            FROM products,
                unnest(['a light for the evening', 'send good wishes', 'something to play with']) AS asked(question)
        )
        GROUP BY question ORDER BY question
        """,
        engine=con,
    )
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## The profile of a customer

    The sum of the vectors of what somebody bought. Customer 17630 bought eight of the products.
    """)
    return


@app.cell
def _(products, purchases):
    _df = mo.sql(
        """
        CREATE OR REPLACE TABLE profiles AS
        SELECT customer_id, profile(list(embedding)) AS profile, count(*) AS n
        FROM purchases JOIN products USING (item_id) GROUP BY customer_id
        """,
        engine=con,
    )
    return


@app.cell
def _(products, purchases):
    _df = mo.sql(
        """
        SELECT products.description
        FROM purchases JOIN products USING (item_id)
        WHERE customer_id = 17630 ORDER BY ALL
        """,
        engine=con,
    )
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    What is most like that profile and was not bought yet:
    """)
    return


@app.cell
def _(products, profiles, purchases):
    _df = mo.sql(
        """
        SELECT description, similarity(embedding, profile) AS similarity
        FROM products, (SELECT profile FROM profiles WHERE customer_id = 17630)
        WHERE item_id NOT IN (SELECT item_id FROM purchases WHERE customer_id = 17630)
        ORDER BY similarity DESC LIMIT 5
        """,
        engine=con,
    )
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## Enrich

    What customers say joins what they bought: `enrich()` adds α·embed(words) to the profile, as if the words were α
    purchases (here ten). It works for newcomers too, whose profile is NULL.
    """)
    return


@app.cell
def _(products, profiles):
    said = mo.sql(
        """
        SELECT who, description, similarity(embedding, enriched) AS similarity
        FROM products, (
            SELECT 'a newcomer' AS who, enrich(NULL, 'I bake cakes') AS enriched
            UNION ALL
            SELECT 'customer 17630', enrich(profile, 'I bake cakes', alpha := 10)
            FROM profiles WHERE customer_id = 17630
        )
        QUALIFY row_number() OVER (PARTITION BY who ORDER BY similarity DESC) <= 3
        ORDER BY who, similarity DESC
        """,
        engine=con,
    )
    return (said,)


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## Clean, tag and redact

    A text from a supplier's web page, cleaned. `tags()` then says what a product is before anybody has bought it.
    """)
    return


@app.cell
def _():
    _df = mo.sql(
        """
        SELECT clean_text(t) AS cleaned, list_transform(tags(clean_text(t)), lambda tag: tag.label) AS labels
        FROM (SELECT '<b>SET OF 6</b> VINTAGE CHRISTMAS TINS &amp; LID!!!  Click here for more.' AS t)
        """,
        engine=con,
    )
    return


@app.cell
def _(products):
    _df = mo.sql(
        """
        SELECT tag.label, count(*) AS products, min(description) AS one_of_them
        FROM (SELECT description, unnest(tags(description)) AS tag FROM products)
        WHERE tag."group" = 'material' GROUP BY ALL ORDER BY products DESC LIMIT 5
        """,
        engine=con,
    )
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    What customers write may hold private data; `redact()` replaces it. A connection from `connect(redact=True)` does
    so with all that it encodes.
    """)
    return


@app.cell
def _():
    _df = mo.sql(
        """
        SELECT redact('I bake cakes, write to jo@example.com or ring 020 7946 0958') AS redacted
        """,
        engine=con,
    )
    return


@app.cell
def _(found, said):
    if mo.app_meta().mode == "script":  # python examples/marimo_shop.py
        print(found.to_string(index=False), said.to_string(index=False), sep="\n\n")
    return


if __name__ == "__main__":
    app.run()
