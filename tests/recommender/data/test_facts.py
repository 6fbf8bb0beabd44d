"""The table facts of the data contract, and the columns of items that `coldstart facts` makes of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import duckdb
import pytest

from coldstart_udfs.errors import ColdStartError, ColdStartWarning
from recommender.data.contract import ContractError
from recommender.data.dataset import files_in, read_dataset
from recommender.data.facts import exclusions, fact_columns, warn_of_idle
from recommender.data.tables import ingest, load
from recommender.pipeline.facts import FactColumn, add_facts
from tests.support.word_model import BACKEND, word_model

TEMPLATE = Path(__file__).resolve().parents[3] / "feature_repo"
Fact = tuple[str, str, str]


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """Eight films, two of which have a genre."""
    folder = tmp_path / "raw"
    folder.mkdir()
    films = "\n".join(f"f{n},,{'Slasher' if n < 2 else ''}" for n in range(8))
    (folder / "items.csv").write_text(f"item_id,description,genre\n{films}\n", encoding="utf-8")
    (folder / "users.csv").write_text("user_id,description\nu1,\n", encoding="utf-8")
    (folder / "interactions.csv").write_text("user_id,item_id\nu1,f0\n", encoding="utf-8")
    return folder


def write(raw: Path, facts: Sequence[Fact]) -> None:
    lines = "".join(",".join(fact) + "\n" for fact in facts)
    (raw / "facts.csv").write_text(f"subject,predicate,object\n{lines}", encoding="utf-8")


def added(raw: Path, facts: Sequence[Fact], **how: int) -> dict[str, list[str | None]]:
    """The columns that facts become: the values of f0 to f7, joined by "+"."""
    write(raw, facts)
    out = raw.parent / "data"
    ingest(raw, out)
    add_facts(out, TEMPLATE, **how)
    return columns(out)


def columns(out: Path) -> dict[str, list[str | None]]:
    with duckdb.connect() as con:
        table = con.sql(f"FROM '{out / 'items.parquet'}' ORDER BY item_id")
        names, rows = table.columns, table.fetchall()
    own = fact_columns(out / "items.parquet")
    return {name: ["+".join(row[names.index(name)]) if row[names.index(name)] else None for row in rows]
            for name in own}  # fmt: skip


# -- the contract --------------------------------------------------------------------------------------


def test_ingest_writes_facts_once_each(raw: Path) -> None:
    write(raw, [("f0", "director", " Kubrick "), ("f0", "director", "Kubrick"), ("007", "code", "1")])
    found = ingest(raw, raw.parent / "data")
    with duckdb.connect() as con:
        rows = con.sql(f"FROM '{raw.parent / 'data' / 'facts.parquet'}'").fetchall()
    assert rows == [("007", "code", "1"), ("f0", "director", "Kubrick")]
    assert found.rows["facts"] == 2


def test_without_facts_the_file_of_an_earlier_ingest_goes(raw: Path) -> None:
    write(raw, [("f0", "director", "Kubrick")])
    ingest(raw, raw.parent / "data")
    (raw / "facts.csv").unlink()
    ingest(raw, raw.parent / "data")
    assert not (raw.parent / "data" / "facts.parquet").exists()


def test_a_fact_lacks_a_part(raw: Path) -> None:
    write(raw, [("f0", "director", ""), ("f1", "director", "Lynch"), ("", "director", "Lynch")])
    with pytest.raises(ContractError) as error:
        ingest(raw, raw.parent / "data")
    first, second = str(error.value).splitlines()
    assert "facts.csv: column 'subject': 1 row has no subject. The first: row 3" in first
    assert "facts.csv: column 'object': 1 row has no object. The first: row 1" in second
    assert not (raw.parent / "data").exists()


def test_a_column_is_missing(raw: Path) -> None:
    (raw / "facts.csv").write_text("subject,relation,object\nf0,director,Lynch\n", encoding="utf-8")
    with pytest.raises(ContractError, match=r"column 'predicate' is missing; the columns are"):
        ingest(raw, raw.parent / "data")


def test_ids_that_a_tool_stored_as_floats_are_whole_numbers(raw: Path) -> None:
    with duckdb.connect() as con:
        con.execute(
            f"COPY (SELECT 7.0::DOUBLE AS subject, 'a' AS predicate, 'b' AS object) TO '{raw / 'facts.parquet'}'"
        )
    ingest(raw, raw.parent / "data")
    with duckdb.connect() as con:
        assert con.sql(f"FROM '{raw.parent / 'data' / 'facts.parquet'}'").fetchall() == [("7", "a", "b")]


def test_rdf_is_read_by_local_names(raw: Path) -> None:
    (raw / "facts.ttl").write_text(
        "@prefix x: <http://shop/item/> . @prefix s: <http://schema/#> .\n"
        'x:f0 s:director <http://people/Stanley%20Kubrick> ; s:title "Glanz"@de ; s:maker [ s:land "UK" ] .\n'
        "<http://a/same> s:is <http://b/same> .\n",
        encoding="utf-8",
    )
    ingest(raw, raw.parent / "data")
    with duckdb.connect() as con:
        rows = con.sql(f"FROM '{raw.parent / 'data' / 'facts.parquet'}'").fetchall()
    assert rows == [
        ("_:0", "land", "UK"), ("f0", "director", "Stanley Kubrick"), ("f0", "maker", "_:0"), ("f0", "title", "Glanz"),
        ("http://a/same", "is", "http://b/same"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "text"), [("facts.ttl", "x:f0 s:director"), ("facts.nt", "nothing"), ("facts.rdf", "<rdf>")]
)
def test_broken_rdf_is_an_error_with_its_file(raw: Path, name: str, text: str) -> None:
    (raw / name).write_text(text, encoding="utf-8")
    with pytest.raises(ContractError, match=rf"{name} cannot be read as "):
        ingest(raw, raw.parent / "data")


def test_rdf_reads_no_other_file(raw: Path) -> None:
    secret = raw.parent / "secret"
    secret.write_text("hidden", encoding="utf-8")
    (raw / "facts.rdf").write_text(
        f'<!DOCTYPE r [<!ENTITY e SYSTEM "{secret.as_uri()}">]>'
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" xmlns:s="http://s/">'
        '<rdf:Description rdf:about="http://x/f0"><s:a>&e;</s:a><s:b>b</s:b></rdf:Description></rdf:RDF>',
        encoding="utf-8",
    )
    try:
        ingest(raw, raw.parent / "data")
    except ContractError:
        return
    with duckdb.connect() as con:
        rows = con.sql(f"FROM '{raw.parent / 'data' / 'facts.parquet'}'").fetchall()
    assert "hidden" not in str(rows)


# -- attributes of items -------------------------------------------------------------------------------


def test_one_and_two_facts_away(raw: Path) -> None:
    facts = [("f0", "director", "Kubrick"), ("f1", "director", "Kubrick"), ("f2", "director", "Lynch"),
             ("Kubrick", "born", "US"), ("Lynch", "born", "US"), ("US", "in", "America")]  # fmt: skip
    none = [None] * 5
    assert added(raw, facts) == {
        "director": ["Kubrick", "Kubrick", None, *none], "director>born": ["US", "US", "US", *none],
    }  # fmt: skip
    assert added(raw, facts, hops=1) == {"director": ["Kubrick", "Kubrick", None, *none]}


def test_circles_and_facts_of_a_thing_with_itself_end(raw: Path) -> None:
    facts = [("f0", "like", "f1"), ("f1", "like", "f0"), ("f0", "like", "f0"), ("f2", "like", "f1")]
    found = added(raw, facts)
    assert found["like"][:3] == ["f1", None, "f1"]
    assert "like>like" not in found  # f0 → f1 → f0 is no path; f2 → f1 → f0 has one item


def test_a_hub_leads_no_further(raw: Path) -> None:
    makers = [("f0", "maker", "Big"), ("f1", "maker", "Big"), ("f2", "maker", "Small"), ("f3", "maker", "Small")]
    facts = [*makers, *(("Big", "sells", f"thing {n}") for n in range(21)), ("Small", "sells", "pins")]
    assert added(raw, facts)["maker>sells"] == [None, None, "pins", "pins", *[None] * 4]


def test_a_number_is_a_value_and_no_way(raw: Path) -> None:
    facts = [("f0", "stars", "5"), ("f1", "stars", "5"), ("5", "director", "Kubrick")]
    assert list(added(raw, facts)) == ["stars"]


def test_what_says_nothing_is_left_out(raw: Path) -> None:
    everywhere = [(f"f{n}", "made of", "celluloid") for n in range(5)]
    once = [("f0", "shown in", "Rome")]
    long = [(f"f{n}", "plot", "x" * 101) for n in range(2)]
    assert added(raw, [*everywhere, *once, *long]) == {}


def test_the_most_informative_values_are_kept(raw: Path) -> None:
    rare = [(f"f{n}", "studio", "Small") for n in range(2)]
    wide = [(f"f{n}", "country", "US") for n in range(4)]
    assert list(added(raw, [*rare, *wide], most=1)) == ["studio"]
    assert set(added(raw, [*rare, *wide], most=2)) == {"studio", "country"}
    none = [None] * 4
    assert added(raw, [*rare, *wide], most_of_an_item=1) == {
        "country": [None, None, "US", "US", *none], "studio": ["Small", "Small", None, None, *none],
    }  # fmt: skip


def test_a_column_that_items_have_keeps_its_values(raw: Path) -> None:
    facts = [("f2", "genre", "Noir"), ("f3", "genre", "Noir"), ("f0", "genre", "Slasher"), ("f1", "genre", "Slasher")]
    assert added(raw, facts) == {"genre (facts)": [None, None, "Noir", "Noir", *[None] * 4]}


def test_a_second_run_replaces_the_columns_of_the_first(raw: Path) -> None:
    facts = [("f0", "director", "Kubrick"), ("f1", "director", "Kubrick")]
    first = added(raw, facts)
    add_facts(raw.parent / "data", TEMPLATE)
    assert columns(raw.parent / "data") == first


def test_a_dry_run_writes_nothing(raw: Path) -> None:
    write(raw, [("f0", "director", "Kubrick"), ("f1", "director", "Kubrick")])
    out = raw.parent / "data"
    ingest(raw, out)
    before = (out / "items.parquet").read_bytes()
    (found,) = add_facts(out, TEMPLATE, dry_run=True)
    assert found == FactColumn("director", 2, 1, pytest.approx(0.3139, abs=1e-4), ("Kubrick",))  # ln(9/3) · 2/7
    assert (out / "items.parquet").read_bytes() == before


def test_rules_imply_and_do_not_run_in_circles(raw: Path) -> None:
    facts = [("genre=Slasher", "implies", "audience=adult"), ("audience=adult", "implies", "shelf=top"),
             ("shelf=top", "implies", "audience=adult")]  # fmt: skip
    none = [None] * 6
    assert added(raw, facts) == {"audience": ["adult", "adult", *none], "shelf": ["top", "top", *none]}


def test_what_a_rule_excludes_is_kept_on_one_item_alone(raw: Path) -> None:
    facts = [("f3", "rated", "X"), ("age=child", "excludes", "rated=X")]
    assert added(raw, facts) == {"rated": [None, None, None, "X", *[None] * 4]}
    assert exclusions(raw.parent / "data") == (("age=child", "rated=X"),)


def test_levels_of_columns_become_paths(raw: Path) -> None:
    rows = ["a,x,1", "a,x,1", "a,y,1", "b,x,1", "b,x,", "b,,1", ",x,1", "a,y,2"]
    lines = "".join(f"f{n},,{row}\n" for n, row in enumerate(rows))
    (raw / "items.csv").write_text(f"item_id,description,one,two,three\n{lines}", encoding="utf-8")
    out = raw.parent / "data"
    ingest(raw, out)
    add_facts(out, TEMPLATE, levels=["one", "two", "three"])
    assert columns(out) == {
        "one>two": ["a / x", "a / x", "a / y", "b / x", "b / x", None, None, "a / y"],
        "one>two>three": ["a / x / 1", "a / x / 1", *[None] * 6],
    }


@pytest.mark.parametrize(
    ("levels", "said"),
    [([], "has no table facts"), (["genre", "kind"], "has no column 'kind'"), (["genre", "genre"], "one twice")],
)
def test_there_is_nothing_to_make_facts_of(raw: Path, levels: list[str], said: str) -> None:
    ingest(raw, raw.parent / "data")
    with pytest.raises(ColdStartError, match=said):
        add_facts(raw.parent / "data", TEMPLATE, levels=levels)


def test_a_script_that_fails_is_named(raw: Path, tmp_path: Path) -> None:
    write(raw, [("f0", "director", "Kubrick")])
    ingest(raw, raw.parent / "data")
    script = tmp_path / "repo" / "sql" / "facts.sql"
    script.parent.mkdir(parents=True)
    script.write_text("CREATE TABLE item_facts AS SELECT nothing FROM facts", encoding="utf-8")
    with pytest.raises(ColdStartError, match=r"facts\.sql failed: .*nothing"):
        add_facts(raw.parent / "data", tmp_path / "repo")


def test_an_evaluation_reads_the_columns_and_can_leave_them_out(raw: Path, tmp_path: Path) -> None:
    model = word_model(tmp_path / "words", ("lamp",))
    added(raw, [("f2", "director", "Kubrick"), ("f3", "director", "Kubrick")])
    files = files_in(raw.parent / "data")
    assert read_dataset(*files, model=model, backend=BACKEND).items.attributes[2] == ["director=Kubrick"]
    left = read_dataset(*files, model=model, backend=BACKEND, left_out=fact_columns(files[0])).items.attributes
    assert [list(labels) for labels in left] == [["genre=Slasher"]] * 2 + [[]] * 6


def test_predicates_that_differ_in_case_alone_are_an_error(raw: Path) -> None:
    write(raw, [(f"f{n}", name, "Kubrick") for n in range(2) for name in ("director", "Director")])
    out = raw.parent / "data"
    ingest(raw, out)
    before = (out / "items.parquet").read_bytes()
    with pytest.raises(ColdStartError, match="'Director' and 'director', which are one name"):
        add_facts(out, TEMPLATE)
    assert (out / "items.parquet").read_bytes() == before


@pytest.mark.parametrize("predicate", ["item", "items", "found", "value", "item_id"])
def test_a_predicate_may_have_a_name_of_the_query(raw: Path, predicate: str) -> None:
    (values,) = added(raw, [("f0", predicate, "x"), ("f1", predicate, "x")]).values()
    assert values == ["x", "x", *[None] * 6]


def test_an_exclusion_holds_for_the_column_of_facts_beside_one_of_the_items(raw: Path) -> None:
    facts = [("f3", "genre", "Noir"), ("age=child", "excludes", "genre=Noir")]
    assert added(raw, facts) == {"genre (facts)": [None, None, None, "Noir", *[None] * 4]}
    assert exclusions(raw.parent / "data") == (("age=child", "genre (facts)=Noir"), ("age=child", "genre=Noir"))


@pytest.mark.parametrize(
    ("name", "text"),
    [("facts.csv", "Subject,PREDICATE,object\n age=child , excludes, rated=X\n"),
     ("facts.nt", '<http://s/age=child> <http://p/excludes> "rated=X" .\n')],
)  # fmt: skip
def test_exclusions_of_raw_files_are_those_of_ingested_ones(raw: Path, name: str, text: str) -> None:
    (raw / name).write_text(text, encoding="utf-8")
    ingest(raw, raw.parent / "data")
    assert exclusions(raw) == exclusions(raw.parent / "data") == (("age=child", "rated=X"),)


def test_exclusions_that_keep_nothing_are_warned_of(raw: Path) -> None:
    write(raw, [("age=child", "excludes", "genre=Slasher"), ("age=child", "excludes", "genre=slasher")])
    with duckdb.connect() as con:
        load(con, raw)
        with pytest.warns(ColdStartWarning, match="no user has 'age=child'; no item has 'genre=slasher'. A label is"):
            warn_of_idle(con, raw)


def test_what_implies_an_excluded_label_is_excluded_too(raw: Path) -> None:
    rules = [("age=child", "excludes", "shelf=top"), ("audience=adult", "implies", "shelf=top"),
             ("genre=Slasher", "implies", "audience=adult"), ("shelf=top", "implies", "audience=adult"),
             ("genre=Drama", "implies", "mood=slow")]  # fmt: skip
    write(raw, rules)
    labels = ["audience=adult", "genre=Slasher", "shelf=top"]
    assert exclusions(raw) == tuple(("age=child", label) for label in labels)
    with duckdb.connect() as con:
        load(con, raw)
        with pytest.warns(ColdStartWarning, match=r"no user has 'age=child'\. A label"):
            warn_of_idle(con, raw)
