"""The raw files of the benchmark's data sets, brought into the data contract's shape: small slices of the real ones."""

from __future__ import annotations

import shutil
from pathlib import Path

import duckdb
import pytest

from benchmarks.real_data import contract_tables, prepare
from coldstart_udfs.errors import ColdStartError
from recommender.data.tables import load, read_interactions

SLICES = Path(__file__).resolve().parents[2] / "data"
QUESTION = "2296"


@pytest.fixture(scope="module")
def journey(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("journey")
    contract_tables("complete-journey", SLICES / "complete-journey", out)
    return out


@pytest.fixture(scope="module")
def quantum(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("quantum")
    contract_tables("stackexchange-quantum", SLICES / "stackexchange-quantum", out)
    return out


def rows(query: str) -> list[tuple]:
    with duckdb.connect() as con:
        return con.execute(query).fetchall()


def test_lines_of_complete_journey_become_pairs_of_households_and_products_that_have_a_text(journey: Path) -> None:
    """1,484 lines, of which five name two products that the products file lacks; some pairs were bought again."""
    raw = SLICES / "complete-journey"
    lines = rows(f"SELECT count(*), count(DISTINCT product_id) FROM '{raw}/transactions_sample.parquet'")
    assert lines == [(1_484, 1_198)]
    counts = {name: rows(f"SELECT count(*) FROM '{journey}/{name}.parquet'")[0][0] for name in ("items", "users")}
    assert counts == {"items": 1_196, "users": 60}
    assert rows(f"SELECT count(*) FROM '{journey}/interactions.parquet'") == [(1_359,)]
    # Products that nobody bought are no items of this shop.
    assert rows(f"SELECT count(*) FROM '{raw}/products.parquet'") == [(1_215,)]


def test_a_product_is_described_by_what_the_shop_files_it_under_and_its_maker_stays_an_attribute(journey: Path) -> None:
    found = rows(
        f"SELECT description, department, brand, manufacturer FROM '{journey}/items.parquet' WHERE item_id = '1000050'"
    )
    assert found == [("COLD CEREAL / KIDS CEREAL / 14.5 OZ", "GROCERY", "National", "1046")]
    no_size = rows(f"SELECT description FROM '{journey}/items.parquet' WHERE item_id = '1002771'")
    assert no_size == [("VALUE ADDED FRUIT / INSTORE CUT FRUIT",)]


def test_a_household_keeps_its_demographics_and_has_no_words(journey: Path) -> None:
    """13 of the 60 have any; five more stand in the file and bought nothing, so they are nobody here."""
    with duckdb.connect() as con:
        load(con, journey)
        known = dict(con.execute("SELECT user_id, attributes FROM users").fetchall())
        assert con.execute("SELECT count(description) FROM users").fetchall() == [(0,)]
    assert sum(map(bool, known.values())) == 13
    assert known["1024"] == ["age=25-34", "income=Under 15K", "home_ownership=Homeowner", "marital_status=Married",
                             "household_size=4", "household_comp=2 Adults Kids", "kids_count=2"]  # fmt: skip


def test_the_first_purchase_of_a_product_is_the_one_that_counts(journey: Path) -> None:
    raw = SLICES / "complete-journey" / "transactions_sample.parquet"
    household, product, first, times = rows(
        f"SELECT household_id, product_id, min(transaction_timestamp), count(*) FROM '{raw}' GROUP BY 1, 2 "
        "ORDER BY count(*) DESC, household_id, product_id LIMIT 1"
    )[0]
    assert times > 1
    with duckdb.connect() as con:
        load(con, journey)
        kept = con.execute(
            "SELECT event_timestamp::TIMESTAMP FROM interactions WHERE user_id = ? AND item_id = ?",
            [household, product],
        ).fetchall()
    assert kept == [(first,)]


def test_answers_become_pairs_and_posts_of_other_types_nothing(quantum: Path) -> None:
    """171 answers to 101 of the 110 questions; somebody answered one question twice."""
    with duckdb.connect() as con:
        load(con, quantum)
        interactions = read_interactions(con)
        types = con.execute("SELECT DISTINCT event_type FROM interactions").fetchall()
    assert (len(interactions), len(interactions.item_ids), len(interactions.user_ids)) == (170, 101, 57)
    assert types == [("interaction",)]


def test_a_question_is_its_title_then_its_tags_then_its_body_without_markup(quantum: Path) -> None:
    """An encoder reads 256 tokens, so what tells most comes first; `&gt;` is a sign again, `<p>` is gone."""
    (text,) = rows(f"SELECT description FROM '{quantum}/items.parquet' WHERE item_id = '{QUESTION}'")[0]
    assert text == (
        r"What is the $\left| 22\right>$ state? (qubit qubit state quantum state) I came across with a problem that "
        r"involves $2$ quantum trits in state $\left| 22 \right>.$ What is it's tensor product interpretation and a "
        "matrix interpretation?"
    )
    marked = rows(f"SELECT count(*) FROM '{quantum}/items.parquet' WHERE regexp_matches(description, '</?(p|a|code)>')")
    assert marked == [(0,)]


def test_who_says_nothing_about_himself_has_no_description(quantum: Path) -> None:
    said = rows(f"SELECT count(*), count(description), min(length(description)) > 0 FROM '{quantum}/users.parquet'")
    assert said == [(57, 34, True)]
    words = rows(f"SELECT description FROM '{quantum}/users.parquet' WHERE user_id = '391'")
    assert words == [("PhD student researching Architectures for Quantum Computation.",)]


def test_without_a_file_of_users_those_who_answer_are_the_users(tmp_path: Path) -> None:
    """stackexchange-beer has posts alone."""
    (tmp_path / "raw").mkdir()
    shutil.copy(SLICES / "stackexchange-quantum" / "posts.parquet", tmp_path / "raw")
    counts = contract_tables("stackexchange-beer", tmp_path / "raw", tmp_path / "out")
    assert counts == {"items": 101, "users": 57, "interactions": 170}
    assert rows(f"SELECT count(description) FROM '{tmp_path}/out/users.parquet'") == [(0,)]


@pytest.mark.parametrize("name", ["polis-vtaiwan", "polis-austria"])
def test_who_agrees_with_a_statement_takes_it_and_other_votes_are_nothing(name: str, tmp_path: Path) -> None:
    with duckdb.connect() as con:
        con.execute("""CREATE TABLE statements AS SELECT * FROM (VALUES
            ('0', 'u2', '計程車應該合法', TIMESTAMP '2016-01-04'), ('1', 'u1', 'Uber 比較方便', TIMESTAMP '2016-01-05'),
            ('2', 'u1', 'nobody agrees', TIMESTAMP '2016-01-06')) AS t(item_id, author_id, description, created)""")
        con.execute("""CREATE TABLE votes AS SELECT * FROM (VALUES
            ('u1', '1', 1), ('u1', '0', -1), ('u2', '0', 1), ('u2', '2', 0), ('u3', '0', 1), ('u3', '1', 1),
            ('u4', '1', -1), ('u3', '9', 1)) AS t(user_id, item_id, vote)""")
        for table in ("statements", "votes"):
            con.execute(f"COPY {table} TO '{tmp_path / table}.parquet' (FORMAT parquet)")
    assert contract_tables(name, tmp_path, tmp_path / "out") == {"items": 2, "users": 3, "interactions": 4}
    pairs = rows(f"SELECT user_id, item_id FROM '{tmp_path}/out/interactions.parquet' ORDER BY ALL")
    assert pairs == [("u1", "1"), ("u2", "0"), ("u3", "0"), ("u3", "1")]
    texts = rows(f"SELECT item_id, description FROM '{tmp_path}/out/items.parquet' ORDER BY 1")
    assert texts == [("0", "計程車應該合法"), ("1", "Uber 比較方便")]
    # What u1 wrote is what u1 agrees with: as their description it would give the answer away.
    assert rows(f"SELECT count(description) FROM '{tmp_path}/out/users.parquet'") == [(0,)]


def test_online_retail_gets_the_stem_that_variants_share(tmp_path: Path) -> None:
    retail = Path(__file__).resolve().parents[3] / "examples" / "online_retail"
    assert contract_tables("online-retail", retail, tmp_path) == {
        "items": 3_659, "users": 4_334, "interactions": 266_221,
    }  # fmt: skip
    variants = rows(f"SELECT list(item_id ORDER BY item_id) FROM '{tmp_path}/items.parquet' WHERE stem = '15056'")
    assert variants == [(["15056BL", "15056N", "15056P"],)]


@pytest.mark.parametrize(
    ("name", "said"),
    [("movielens", "unknown data set 'movielens'; choose one of complete-journey, stackexchange"),
     ("complete-journey", "has no transactions_sample.parquet, products.parquet, demographics.parquet; pass the")],
)  # fmt: skip
def test_a_folder_without_the_raw_files_is_an_error_that_names_them(tmp_path: Path, name: str, said: str) -> None:
    with pytest.raises(ColdStartError, match=said):
        prepare(name, tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()
