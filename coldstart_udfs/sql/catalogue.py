"""The catalogue of SQL functions: name, parameters, result and description of each.

A function has two halves. The private one is a Python function over Arrow arrays (`arrow_functions.py`) without
defaults, which belongs to the database instance. The public one is a TEMP macro with named and default arguments, which
casts them and adds the settings of the connection. `connection.register` makes both. Docs, comments in the database,
`coldstart sql --functions` and tests are made from this table.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from coldstart_udfs.sql.campaign_audience import CAMPAIGN_AUDIENCE

if TYPE_CHECKING:
    from coldstart_udfs.sql.arrow_functions import PythonFunction


@dataclass(frozen=True)
class SqlFunction:
    """The public half: a macro.

    Attributes:
        name: the name in SQL.
        parameters: as in CREATE MACRO, defaults included.
        returns: SQL type; TABLE for a table macro.
        description: for readers; also the macro's comment in the database.
        example: a statement that runs.
        body: SQL with placeholders: `{text}` is the parameter `text` as VARCHAR, redacted if the connection was
            registered with `redact`; `{redact}` is whether it was; `{model}`, `{backend}`, `{cache}`, `{alpha}`,
            `{beta}` and `{scale}` are the connection's settings, and `{connection}` is the key of its registration.
        deterministic: whether equal arguments give equal results within a connection.
        stub: for a table macro, a SELECT of its columns that fails; `{failure}` is an expression that fails.
    """

    name: str
    parameters: tuple[str, ...]
    returns: str
    description: str
    example: str
    body: str
    deterministic: bool = True
    stub: str = ""

    @property
    def signature(self) -> str:
        """Name and parameters with their defaults."""
        return f"{self.name}({', '.join(self.parameters)})"

    @property
    def is_table(self) -> bool:
        """Whether it is used in FROM."""
        return self.returns == "TABLE"


@dataclass(frozen=True)
class Catalogue:
    """Functions that are registered together: `KERNEL` here, and those of other packages.

    Attributes:
        functions: the public halves.
        python_functions: returns the Python halves. It is called when they are registered, because they import Arrow
            and NumPy, which the table alone does not need.
        registered_by: the call that registers them, for the error of stubs.
    """

    functions: tuple[SqlFunction, ...]
    python_functions: Callable[[], tuple[PythonFunction, ...]]
    registered_by: str

    @property
    def stub_text(self) -> str:
        """The error of a stub, after the function's name."""
        return f"() is not registered: run {self.registered_by}"


# What `register` was given, for the macros of other catalogues: a STRUCT of the VARCHARs model, backend, cache,
# connection and redact, as in our own macros' literals. A variable of the session belongs to the connection, as a TEMP
# macro does.
SETTINGS_VARIABLE = "coldstart_settings"

_ENCODER = "coalesce(CAST(model AS VARCHAR), {model}), {backend}, {cache}, {connection}"

# A macro's parameter has the type of its argument: text, or a vector.
_IS_VECTOR = "regexp_full_match(typeof(text), '[^][]+[[][0-9]*[]]')"

# A picture is a path or a BLOB. A path is read only where DuckDB may read files itself.
_PICTURE = """CASE WHEN typeof(picture) IN ('BLOB', '"NULL"') THEN NULL
    WHEN current_setting('enable_external_access') THEN CAST(picture AS VARCHAR)
    ELSE CAST(error('embed_image(): enable_external_access is off, so no file is read; give the picture as a BLOB')
        AS VARCHAR) END, CASE WHEN typeof(picture) = 'BLOB' THEN TRY_CAST(picture AS BLOB) END,
    CAST(model AS VARCHAR), {cache}, {connection}"""
# 8 × 8 pixels, one half red and the other blue.
_EXAMPLE_PICTURE = (
    "from_base64('R0lGODdhCAAIAIEAAP8AAAAA/wAAAAAAACwAAAAACAAIAAAIGwABCAQQoGCAgQQNIjR4cCDDhQodRhT4UGLBgAA7')"
)

# query_table() makes the user's columns visible here, so our names have a prefix. Columns called similarity or rank, as
# in a table made by an earlier nearest(), are replaced.
_NEAREST = """
SELECT COLUMNS(lambda c: lower(c) NOT IN ('similarity', 'rank', '_coldstart_similarity', '_coldstart_rank')),
    _coldstart_similarity AS similarity, _coldstart_rank AS rank
FROM (
    SELECT unnest(_coldstart_found._coldstart_row), _coldstart_found._coldstart_similarity AS _coldstart_similarity,
        _coldstart_rank
    FROM (
        SELECT unnest(_coldstart_best) AS _coldstart_found, generate_subscripts(_coldstart_best, 1) AS _coldstart_rank
        FROM (
            SELECT list(
                {{_coldstart_row: _coldstart_row, _coldstart_similarity: _coldstart_exact}}
                ORDER BY _coldstart_exact DESC
            ) AS _coldstart_best
            FROM (
                SELECT _coldstart_row, _coldstart_similarity(_coldstart_vector, _coldstart_query) AS _coldstart_exact
                FROM (
                    SELECT _coldstart_row, _coldstart_query,
                        -- list_concat() with an empty list copies: DuckDB's list products fail on a NULL among the
                        -- numbers of any row of a chunk, even one that is filtered out.
                        list_concat(CASE
                            WHEN NOT regexp_full_match(typeof(_coldstart_row.embedding), '[^][]+[[][0-9]*[]]')
                                THEN CAST(error('nearest(): ' || table_name || CASE typeof(_coldstart_row.embedding)
                                    WHEN '"NULL"' THEN ' has no column embedding; rename the one with its vectors: '
                                        || 'WITH t AS (SELECT *, vectors AS embedding FROM …) FROM nearest(''t'', …)'
                                    ELSE ': the column embedding is ' || typeof(_coldstart_row.embedding) || ', not a '
                                        || 'FLOAT[]; convert it: WITH t AS (SELECT * REPLACE (embedding::FLOAT[] AS '
                                        || 'embedding) FROM …) FROM nearest(''t'', …)' END) AS FLOAT[])
                            WHEN list_count(TRY_CAST(_coldstart_row.embedding AS FLOAT[]))
                                = len(TRY_CAST(_coldstart_row.embedding AS FLOAT[]))
                                THEN TRY_CAST(_coldstart_row.embedding AS FLOAT[]) END, []::FLOAT[]
                        ) AS _coldstart_vector
                    -- By name: a table without the column gets one of type "NULL", for the error above.
                    FROM (FROM query_table(table_name) UNION ALL BY NAME SELECT NULL AS embedding WHERE false)
                        AS _coldstart_row,
                        (
                            SELECT CASE
                                WHEN NOT coalesce(CAST(k AS BIGINT) > 0, false)
                                    THEN CAST(error('nearest(): k is ' || coalesce(CAST(k AS VARCHAR), 'NULL')
                                        || '; it is the number of rows, at least 1') AS FLOAT[])
                                WHEN regexp_full_match(typeof(text), '[^][]+[[][0-9]*[]]')
                                    THEN TRY_CAST(text AS FLOAT[])
                                ELSE _coldstart_embed_query({text}, {model}, {backend}, {cache}, {connection})
                            END AS _coldstart_query
                        )
                    WHERE list_dot_product(_coldstart_query, _coldstart_query) BETWEEN 1e-30 AND 1e30
                )
                -- One condition, because DuckDB may reorder two, and an unusable vector would raise for its width.
                WHERE CASE
                    WHEN NOT list_dot_product(_coldstart_vector, _coldstart_vector) BETWEEN 1e-30 AND 1e30 THEN false
                    WHEN len(_coldstart_vector) = len(_coldstart_query) THEN true
                    ELSE CAST(error('nearest(): vectors of ' || len(_coldstart_vector) || ' and '
                        || len(_coldstart_query)
                        || ' numbers; the table must be embedded with the encoder of this connection') AS BOOLEAN) END
                ORDER BY list_cosine_similarity(_coldstart_vector, _coldstart_query) DESC
                LIMIT greatest(CAST(k AS BIGINT), 1)
            )
        )
    )
)
ORDER BY rank
"""

# The subquery is evaluated once for a query, and gives a short key in place of the examples. By name: a table without
# one of the columns gets it with the type "NULL".
_CLASSIFY = """_coldstart_classify({text}, CAST(threshold AS DOUBLE), (
    SELECT _coldstart_classifier(
        list(coalesce(CAST(_coldstart_row.text AS VARCHAR), CAST(_coldstart_row.description AS VARCHAR))),
        list(CAST(_coldstart_row.label AS VARCHAR)), examples,
        any_value(typeof(_coldstart_row.text)), any_value(typeof(_coldstart_row.description)),
        any_value(typeof(_coldstart_row.label)), {redact}, {model}, {backend}, {cache}, {connection})
    FROM (
        FROM query_table(examples) UNION ALL BY NAME SELECT NULL AS text, NULL AS description, NULL AS label WHERE false
    ) AS _coldstart_row
), {model}, {backend}, {cache}, {connection})"""

FUNCTIONS = (
    SqlFunction(
        "embed", ("text", "model := NULL"), "FLOAT[]",
        "The unit-length embedding of a text. NULL or blank text gives NULL.",
        "SELECT embed('a red lamp')",
        f"_coldstart_embed({{text}}, {_ENCODER})",
    ),
    SqlFunction(
        "try_embed", ("text", "model := NULL"), "STRUCT(embedding FLOAT[], error VARCHAR)",
        "As embed(), but a row that fails gives its error as text and costs no other row.",
        "SELECT (try_embed('a red lamp')).embedding",
        f"_coldstart_try_embed({{text}}, {_ENCODER})",
    ),
    SqlFunction(
        "embed_image", ("picture", "model := NULL"), "FLOAT[]",
        "The unit-length vector of a picture: a path, which if relative starts from the working directory, or a BLOB "
        "with its content. JPEG, PNG, WebP, GIF, BMP and TIFF. NULL and the empty path give NULL. The model is "
        "EfficientNet-Lite0 (extra `image`), or a CLIP-like one by name or folder. It is not the encoder of texts, and "
        "its vectors cannot be compared with those of embed(): see image_to_text().",
        f"SELECT embed_image({_EXAMPLE_PICTURE})",
        f"_coldstart_embed_image({_PICTURE})",
    ),
    SqlFunction(
        "try_embed_image", ("picture", "model := NULL"), "STRUCT(embedding FLOAT[], error VARCHAR)",
        "As embed_image(), but a picture that cannot be used gives its error as text and costs no other row.",
        f"SELECT (try_embed_image({_EXAMPLE_PICTURE})).embedding",
        f"_coldstart_try_embed_image({_PICTURE})",
    ),
    SqlFunction(
        "image_to_text", ("vector", "map := NULL"), "FLOAT[]",
        "The vector of a picture in the space of embed(): it points from the mean text to what the picture shows. The "
        "map is a folder written by `coldstart embed --image … --map`; by default the names of the 1,000 classes that "
        "EfficientNet-Lite0 was trained on. NULL and a zero vector give NULL.",
        f"SELECT image_to_text(embed_image({_EXAMPLE_PICTURE}))",
        "_coldstart_image_to_text(CAST(vector AS FLOAT[]), CAST(map AS VARCHAR), {model}, {backend}, {cache}, "
        "{connection})",
    ),
    SqlFunction(
        "embed_info", ("model := NULL",),
        "STRUCT(model VARCHAR, fingerprint VARCHAR, backend VARCHAR, dimensions INTEGER, token_limit INTEGER, "
        "device VARCHAR)",
        "The encoder that embed() uses. Keep its fingerprint beside stored vectors: those of two encoders cannot be "
        "compared, and a FLOAT[] does not say whose it is.",
        "SELECT embed_info().fingerprint",
        f"_coldstart_embed_info({_ENCODER})",
    ),
    SqlFunction(
        "embed_truncated", ("text", "model := NULL"), "BOOLEAN",
        "Whether a text is longer than the encoder reads, so that its end does not count. NULL gives NULL.",
        "SELECT embed_truncated(repeat('word ', 300))",
        f"_coldstart_embed_truncated({{text}}, {_ENCODER})",
    ),
    SqlFunction(
        "embed_cache_stats", (),
        "STRUCT(hits BIGINT, misses BIGINT, encoded BIGINT, entries BIGINT, bytes BIGINT)",
        "What this process asked of its encoders: distinct texts found in the cache, not found, and sent through a "
        "model; then the vectors in this connection's cache file and its size.",
        "SELECT embed_cache_stats().entries",
        "_coldstart_embed_cache_stats({cache}, {connection})",
        deterministic=False,
    ),
    SqlFunction(
        "similarity", ("a", "b"), "DOUBLE",
        "Cosine of two vectors. NULL for NULL, a zero vector, or one with NaN or infinity; vectors of different length "
        "are an error.",
        "SELECT similarity(embed('a red lamp'), embed('a crimson light'))",
        "_coldstart_similarity(CAST(a AS FLOAT[]), CAST(b AS FLOAT[]))",
    ),
    SqlFunction(
        "nearest", ("table_name", "text", "k := 10"), "TABLE",
        "The k rows of a table, view or CTE whose column `embedding` is most similar to a text, or to a vector such as "
        "that of a picture: all columns, then similarity and rank, in place of columns so called. Rows without a "
        "usable vector (NULL, zero, with NaN or infinity) never appear; such a vector, NULL or blank text gives no "
        "rows. A table without lists of numbers in `embedding`, or a k below 1, is an error.",
        "WITH items AS (SELECT embed('a red lamp') AS embedding) FROM nearest('items', 'a crimson light', k := 5)",
        _NEAREST,
        stub="SELECT *, 0::DOUBLE AS similarity, 0::BIGINT AS rank FROM query_table(table_name) "
        "WHERE CAST({failure} AS BOOLEAN)",
    ),
    SqlFunction(
        "clean_text", ("text",), "VARCHAR",
        "The text without mark-up, entities, control characters, boilerplate, repeated space and punctuation, in "
        "Unicode NFKC (but 1½ and 10² stay), in any language; only the boilerplate is that of English pages. NULL "
        "where nothing is left. To index the result, store it in a column: an index on the function itself makes every "
        "later INSERT fail.",
        "SELECT clean_text('<p>A &amp; B:  <b>red</b> lamp!!!</p>')",
        "_coldstart_clean_text(CAST(text AS VARCHAR))",
    ),
    SqlFunction(
        "redact", ("text",), "VARCHAR",
        "The text with private data replaced: <EMAIL>, <PHONE>, <CARD>, <ACCOUNT> (banks, national ids, messengers, "
        "wallets), <ADDRESS>, <IP>, <SECRET>. The forms of English, Chinese, German, Spanish, French and Japanese are "
        "looked for in every text, for people mix languages. Names of people stay. NULL gives NULL.",
        "SELECT redact('Mail jo@example.com or ring 020 7946 0958')",
        "_coldstart_redact(CAST(text AS VARCHAR))",
    ),
    SqlFunction(
        "conversation", ("turns", "roles := NULL", "characters := 1000"), "VARCHAR",
        "What the customer of a chat said, newest turn first and twice (it weighs double), redacted: a text for "
        "embed(), classify(), nearest(), recommend() and audience(). `turns` is a list, oldest first, of STRUCT(role, "
        "text), or JSON of it, or texts of the customer alone; `content` in place of `text` is read too, and if all "
        "turns say `at`, a time or a number, that is the order. Turns of others than roles (customer and user, unless "
        "given) are left out. Whole turns are kept while they fit into the characters. NULL turns count for nothing; "
        "NULL if the customer said nothing.",
        "SELECT conversation([{'role': 'customer', 'text': 'I ordered a card.'}, {'role': 'agent', 'text': 'When?'}, "
        "{'role': 'customer', 'text': 'Last week, and it has not come.'}])",
        "_coldstart_conversation(CAST(to_json(turns) AS VARCHAR), CAST(roles AS VARCHAR[]), "
        "CAST(characters AS BIGINT))",
    ),
    SqlFunction(
        "tokens", ("text", "language := NULL"), "VARCHAR[]",
        "The words of a text, lower case, with numbers such as 10.5 and 1½, and C++; case is folded. Chinese, "
        "Japanese, Thai, Lao, Khmer and Burmese are cut into words by dictionaries. language := 'ja' or 'zh' says what "
        "Han characters are; by default a text with kana is Japanese. NULL gives NULL.",
        "SELECT tokens('6 HERB-POTS 红色的台灯')",
        "_coldstart_tokens(CAST(text AS VARCHAR), CAST(language AS VARCHAR))",
    ),
    SqlFunction(
        "entities", ("text", "brands := NULL", "language := NULL"),
        'STRUCT(kind VARCHAR, "value" VARCHAR, start INTEGER, stop INTEGER)[]',
        "What a product text states: price, size, quantity, colour, material, audience (children, women, men, babies, "
        "pets), and brand from the given list, in English, German, Spanish, French, Chinese and Japanese; colours, "
        "materials and audiences are named in English. The words of all languages are looked for in every text; those "
        "that mean something else in another one (French rose and or, German rot, Spanish lino) count if language := "
        "'fr' says so, or if the text tells. "
        "text[start:stop] are the words. Prices are read as shops of many countries write them (€1.250,00 is "
        "1250.00 EUR, A$25 is 25.00 AUD); what may be read in two ways, such as £1.250, is no price.",
        "SELECT entities('Set of 6 red Acme mugs 10cm, £12.50', brands := ['Acme'])",
        "_coldstart_entities(CAST(text AS VARCHAR), CAST(brands AS VARCHAR[]), CAST(language AS VARCHAR))",
    ),
    SqlFunction(
        "tags", ("text", "labels := NULL", "language := NULL"),
        'STRUCT(label VARCHAR, "group" VARCHAR, score DOUBLE)[]',
        "Labels that a product text deserves, likeliest first: colour, material, audience, style, occasion and the "
        "band of a stated price, or the caller's labels; from the encoder joined with word matches. Words of colours, "
        "materials, audiences, styles and occasions are known in the languages of `entities`, and language := … means "
        "the same. In place of a text, a vector of image_to_text(): then only the encoder speaks.",
        "SELECT tags('SET OF 6 VINTAGE CHRISTMAS TINS, now £12.50')",
        f"CASE WHEN {_IS_VECTOR} THEN "
        "_coldstart_tags_of_vector(TRY_CAST(text AS FLOAT[]), CAST(labels AS VARCHAR[]), {redact}, {model}, {backend}, "
        "{cache}, {connection}) ELSE "
        "_coldstart_tags({text}, CAST(labels AS VARCHAR[]), CAST(language AS VARCHAR), {redact}, {model}, {backend}, "
        "{cache}, {connection}) END",
    ),
    SqlFunction(
        "classify", ("text", "examples", "threshold := NULL"), "STRUCT(label VARCHAR, probability DOUBLE)",
        "The likeliest label of a text, and its probability. The labels are learned from a table, view or CTE with the "
        "columns `text` (or `description`) and `label`: from one to ten examples of each on, and from the words of a "
        "label's name. They are learned once, as long as the examples stay the same. Below the threshold, a "
        "probability, the label is NULL. NULL or blank text gives NULL; a row without text or label is no example. "
        "Fewer than two labels are an error.",
        "WITH examples AS (SELECT * FROM (VALUES ('where is my card', 'delivery'), ('the PIN is wrong', 'pin')) "
        "AS v(text, label)) SELECT classify('has my new card been sent?', 'examples')",
        _CLASSIFY,
    ),
    SqlFunction(
        "profile", ("vectors", "weights := NULL"), "FLOAT[]",
        "The sum of weight × vector. NULL vectors and weights are skipped; nothing left gives NULL. NaN and infinity "
        "are an error.",
        "SELECT profile([[1, 0], [0, 1]], [2, 3])",
        "_coldstart_profile(CAST(vectors AS FLOAT[][]), CAST(weights AS FLOAT[]))",
    ),
    SqlFunction(
        "alpha", ("n",), "DOUBLE",
        "What a user's description weighs beside n interactions, from enrichment.json. NULL counts as 0.",
        "SELECT alpha(3)",
        "_coldstart_weight(CAST(n AS DOUBLE), {alpha}, {scale})",
    ),
    SqlFunction(
        "beta", ("n",), "DOUBLE",
        "What an item's description weighs beside n interactions, from enrichment.json. NULL counts as 0.",
        "SELECT beta(3)",
        "_coldstart_weight(CAST(n AS DOUBLE), {beta}, {scale})",
    ),
    SqlFunction(
        "enrich", ("profile", "text", "n := 0", "alpha := NULL", "model := NULL"), "FLOAT[]",
        "The enriched profile P' = P + alpha·M(text), alpha being alpha(n) unless given (items: alpha := beta(n)). "
        "A NULL profile is zero, NULL or blank text adds nothing; never NULL. NaN and infinity are an error.",
        "SELECT enrich(NULL, 'a red lamp', alpha := 2)",
        "_coldstart_enrich(CAST(profile AS FLOAT[]), {text}, "
        "coalesce(CAST(alpha AS DOUBLE), _coldstart_weight(CAST(n AS DOUBLE), {alpha}, {scale})), " + _ENCODER + ")",
    ),
    SqlFunction(
        "campaign_audience", ("candidates", "budget := NULL", "cost := 1", "value := NULL", "cap := NULL"), "TABLE",
        "Whom to contact, of a table, view or CTE with user_id and probability (of a response), so that the expected "
        "number of responses is largest: all columns, then rank and spent. At most budget is spent, each contact costs "
        "cost, and with the value of a response, contacts that are not worth their cost are left out. A user gets at "
        "most cap contacts; those in the column contacts, if there is one, were made before and count. NULL sets no "
        "limit; rows without user_id or probability are left out. A cost that is not above 0, a limit below 0, or a "
        "probability outside 0 to 1, is an error.",
        "WITH c AS (FROM (VALUES ('ann', 0.1), ('bob', 0.4)) AS t(user_id, probability)) "
        "FROM campaign_audience('c', budget := 1)",
        CAMPAIGN_AUDIENCE,
        stub="SELECT *, 0::BIGINT AS rank, 0::DOUBLE AS spent FROM query_table(candidates) "
        "WHERE CAST({failure} AS BOOLEAN)",
    ),
)  # fmt: skip


def _python_functions() -> tuple[PythonFunction, ...]:
    from coldstart_udfs.sql.arrow_functions import PYTHON_FUNCTIONS
    from coldstart_udfs.sql.label_functions import LABEL_FUNCTIONS
    from coldstart_udfs.sql.picture_functions import PICTURE_FUNCTIONS

    return PYTHON_FUNCTIONS + PICTURE_FUNCTIONS + LABEL_FUNCTIONS


KERNEL = Catalogue(FUNCTIONS, _python_functions, "coldstart_udfs.register(con)")
