from __future__ import annotations

import json
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from coldstart_udfs import Encoder
from coldstart_udfs.encoder.model_files import ModelFiles
from coldstart_udfs.errors import ColdStartError
from coldstart_udfs.text.coverage import Counts, Coverage, Example, coverage
from recommender.cli.app import app
from tests.support.commands import RAW, must, run

LAMP = "a red lamp for the desk"
GERMAN = "Eine rote Lampe für den Schreibtisch"

#   text                    category   what is wrong with it
ROWS = [
    (LAMP, "lamps"),  #                repeated (row 2)
    (f"{LAMP} \n", "rugs"),  #         repeated (row 1): white space at the ends does not count
    (GERMAN, "lamps"),  #              other language
    ("лампа", "lamps"),  #             short, other language
    ("wool rug", "rugs"),  #           short
    (None, "rugs"),  #                 no text
    (" \t\u00a0", "rugs"),  #          no text
    ("lamp " * 300, "lamps"),  #       cut: the embedded model reads 256 tokens
]


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder(cache=False)


def write(folder: Path, rows: list[tuple[str | None, str | None]]) -> Path:
    texts, categories = zip(*rows, strict=True)
    path = folder / "items.parquet"
    columns = {"description": pa.array(texts, pa.string()), "category": pa.array(categories, pa.string())}
    pq.write_table(pa.table(columns), path)
    return path


def of_texts(folder: Path, texts: list[str], encoder: Encoder) -> Coverage:
    return coverage(write(folder, [(text, None) for text in texts]), encoder=encoder)


def cli(*arguments: str | Path) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return " ".join(result.output.split())


def model(folder: Path, card: str | None) -> Path:
    """The embedded model with another card, or none."""
    target = folder / "model"
    target.mkdir()
    for path in ModelFiles(None).folder.iterdir():
        if path.name != "README.md":
            (target / path.name).symlink_to(path)
    if card is not None:
        (target / "README.md").write_text(card, encoding="utf-8")
    return target


def test_each_problem_is_counted_overall_and_by_category(tmp_path: Path, encoder: Encoder) -> None:
    found = coverage(write(tmp_path, ROWS), by="category", encoder=encoder)
    assert found.languages == ("en",)
    assert found.total == Counts(8, without_text=2, repeated=2, short=2, truncated=1, other_language=2)
    assert found.categories == {
        "lamps": Counts(4, without_text=0, repeated=1, short=1, truncated=1, other_language=2),
        "rugs": Counts(4, without_text=2, repeated=1, short=1, truncated=0, other_language=0),
    }
    assert found.others is None
    assert found.total.share("without_text") == 0.25


def test_examples_come_with_their_first_row_those_of_most_rows_first(tmp_path: Path, encoder: Encoder) -> None:
    found = coverage(write(tmp_path, [*ROWS, ("wool rug", None), ("oak", None), ("ash", None)]), encoder=encoder)
    assert found.examples["without_text"] == (Example(None, row=6, rows=1), Example(None, row=7, rows=1))
    assert found.examples["repeated"] == (Example(LAMP, row=1, rows=2), Example("wool rug", row=5, rows=2))
    assert [one.text for one in found.examples["short"]] == ["wool rug", "лампа", "oak"]
    assert [one.row for one in found.examples["truncated"]] == [8]
    assert [one.text for one in found.examples["other_language"]] == [GERMAN, "лампа"]


def test_csv_counts_like_parquet(tmp_path: Path, encoder: Encoder) -> None:
    parquet = write(tmp_path, ROWS)
    pyarrow.csv.write_csv(pq.read_table(parquet), tmp_path / "items.csv")
    ours = coverage(tmp_path / "items.csv", by="category", encoder=encoder).as_dict()
    theirs = coverage(parquet, by="category", encoder=encoder).as_dict()
    assert {**ours, "path": ""} == {**theirs, "path": ""}


def test_the_largest_twenty_categories_are_told_apart(tmp_path: Path, encoder: Encoder) -> None:
    large = [(LAMP, f"large {number:02}") for number in range(19) for _ in range(3)]
    without = [(LAMP, None)] * 2
    small = [("oak", f"small {number}") for number in range(5)]
    found = coverage(write(tmp_path, [*small, *without, *large]), by="category", encoder=encoder)
    assert list(found.categories) == [*(f"large {number:02}" for number in range(19)), None]
    assert found.categories[None].rows == 2
    assert found.other_categories == 5
    assert found.others == Counts(5, without_text=0, repeated=5, short=5, truncated=0, other_language=0)
    assert found.total.rows == 19 * 3 + 2 + 5


def test_words_of_scripts_without_spaces_are_told_by_their_length(tmp_path: Path, encoder: Encoder) -> None:
    assert of_texts(tmp_path, ["红色金属台灯", "บ้านนกไม้", "木製の鳥小屋"], encoder).total.short == 0
    assert of_texts(tmp_path, ["台灯", "- lamp - / -", "2 rugs"], encoder).total.short == 3


def in_another_language(folder: Path, texts: list[str], encoder: Encoder) -> list[str]:
    """Those of up to 20 texts that are found to be in another language."""
    found = coverage(write(folder, [(text, text) for text in texts]), by="category", encoder=encoder)
    return [text for text in texts if found.categories[text].other_language]


def test_a_text_that_may_be_english_is_no_false_alarm(tmp_path: Path, encoder: Encoder) -> None:
    # Upper case, names, loan words, few letters, letters that are signs.
    hard = ["DOORMAT UNION FLAG", "SAUERKRAUT", "IKEA BILLY", "CAFE AU LAIT", "5 Ω", "Ω", "25 × 4", "β-carotene", "№ 1"]
    assert in_another_language(tmp_path, [*hard, LAMP, LAMP.upper()], encoder) == []


def test_a_text_in_another_language_is_found(tmp_path: Path, encoder: Encoder) -> None:
    latin = [
        GERMAN, GERMAN.upper(), "Bougie parfumée à la vanille", "Lámpara de mesa roja de metal",
        "Lampada da tavolo rossa in metallo", "Czerwona lampa stołowa z metalu", "Kırmızı metal masa lambası",
    ]  # fmt: skip
    # Certain, however short.
    scripts = [
        "Красная лампа LED", "лампа", "φωτιστικό", "مصباح", "टेबल लैंप",
        "木製の鳥小屋", "木制鸟屋", "나무 새집", "บ้านนกไม้",
    ]  # fmt: skip
    assert in_another_language(tmp_path, [*latin, *scripts, LAMP], encoder) == [*latin, *scripts]


@pytest.mark.parametrize(
    ("card", "languages"),
    [
        ("---\nlanguage: en\nlicense: mit\n---\n# A model\n", ("en",)),
        ("---\r\nlanguage:\r\n- zh-cn\r\n- de\r\n- de-AT\r\n---\r\n", ("zh", "de")),
        ("---\nlanguage: no\n---\n", ("no",)),
        ("---\nlanguage: [nb, multilingual]\n---\n", ("no",)),
        ("---\nlanguage: multilingual\n---\n", ()),
        ("---\nlicense: mit\n---\nlanguage: en\n", ()),
        ("---\nlanguage: [en\n---\n", ()),
        ("# A model\n", ()),
        (None, ()),
    ],
)
def test_the_card_says_which_languages(tmp_path: Path, card: str | None, languages: tuple[str, ...]) -> None:
    assert ModelFiles(str(model(tmp_path, card))).languages == languages


def test_the_language_is_unknown_where_the_model_does_not_say(tmp_path: Path) -> None:
    found = coverage(write(tmp_path, ROWS), by="category", encoder=Encoder(model(tmp_path, None), cache=False))
    assert found.languages == ()
    assert found.total == Counts(8, without_text=2, repeated=2, short=2, truncated=1, other_language=None)
    assert found.categories["lamps"].share("other_language") is None
    assert found.examples["other_language"] == ()


def test_a_model_of_several_languages_knows_each_of_them(tmp_path: Path) -> None:
    encoder = Encoder(model(tmp_path, "---\nlanguage: [en, de, ru]\n---\n"), cache=False)
    french, chinese = "Bougie parfumée à la vanille", "木制鸟屋"
    texts = [LAMP, GERMAN, "Красная лампа", french, chinese]
    assert in_another_language(tmp_path, texts, encoder) == [french, chinese]


def test_a_japanese_model_reads_names_in_latin_letters(tmp_path: Path) -> None:
    encoder = Encoder(model(tmp_path, "---\nlanguage: ja\n---\n"), cache=False)
    texts = ["USB Type-C ケーブル", "木製の鳥小屋", LAMP, "나무 새집"]
    assert in_another_language(tmp_path, texts, encoder) == [LAMP, "나무 새집"]


def test_online_retail(tmp_path: Path, encoder: Encoder) -> None:
    path = tmp_path / "products.parquet"
    with duckdb.connect() as con:
        con.execute(f"""
            COPY (SELECT DISTINCT stock_code, description FROM '{RAW}/transactions.parquet' ORDER BY ALL) TO '{path}'
        """)
        (rows, without, repeated), *_ = con.execute(f"""
            SELECT count(*), count(*) FILTER (trim(coalesce(description, '')) = ''), count(*) FILTER (n > 1)
            FROM '{path}' LEFT JOIN (SELECT trim(description) AS t, count(*) AS n FROM '{path}' GROUP BY 1)
            ON trim(description) = t
        """).fetchall()
    found = coverage(path, encoder=encoder)
    assert (found.total.rows, found.total.without_text, found.total.repeated) == (rows, without, repeated)
    assert found.total.truncated == 0
    # English throughout, but for names such as "SALLE DE BAIN HOOK".
    assert 0 < found.total.share("other_language") < 0.004


def test_the_command_prints_shares_and_writes_json(tmp_path: Path) -> None:
    write(tmp_path, [*ROWS, (LAMP.upper(), "[red]")])
    told = must("coldstart", "coverage", "items.parquet", "--by", "category", "--json", "found.json", cwd=tmp_path)
    assert "9 rows" in told
    assert "22.2 %" in told
    assert "[red]" in told
    written = json.loads((tmp_path / "found.json").read_text(encoding="utf-8"))
    assert written["total"]["without_text"] == {"rows": 2, "share": 2 / 9}
    assert [one["category"] for one in written["categories"]] == ["lamps", "rugs", "[red]"]
    assert written["languages"] == ["en"]


def test_the_command_says_which_languages_the_texts_are_in_and_which_encoder_knows_them(tmp_path: Path) -> None:
    german = [(f"{GERMAN} Nummer {number}", None) for number in range(2)]
    english = [(f"{LAMP} and number {number}", None) for number in range(7)]
    write(tmp_path, [*german, *english, ("红色金属台灯，适合书桌", None), (None, None)])
    told = cli("coverage", tmp_path / "items.parquet", "--json", tmp_path / "found.json")
    assert "languages of the texts: en 70.0 %, de 20.0 %, zh 10.0 %" in told
    assert "30 % of the texts are in languages that all-MiniLM-L6-v2 (embedded) does not know" in told
    assert "(de 20 %, zh 10 %); the encoder 'multilingual' knows them" in told
    assert "the encoder 'multilingual' knows them: coldstart init --language de, or set \"model\"" in told
    written = json.loads((tmp_path / "found.json").read_text(encoding="utf-8"))
    assert written["text_languages"]["de"] == {"rows": 2, "share_of_texts": 0.2}
    assert written["advice"] in told


def test_the_command_advises_nothing_where_the_encoder_knows_the_texts(tmp_path: Path) -> None:
    write(tmp_path, [(f"{LAMP} and number {number}", None) for number in range(7)])
    told = cli("coverage", tmp_path / "items.parquet", "--json", tmp_path / "found.json")
    assert "languages of the texts: en 100.0 %" in told
    assert "does not know" not in told
    assert json.loads((tmp_path / "found.json").read_text(encoding="utf-8"))["advice"] is None


def test_the_advice_fits_the_encoder(tmp_path: Path) -> None:
    folder = model(tmp_path, "---\nlanguage: de\n---\n")
    path = write(tmp_path, [(GERMAN, None), (f"{LAMP} in the children's room", None)])
    found = coverage(path, encoder=Encoder(folder, cache=False))
    assert found.advice is not None
    assert "knows them: set \"model\" to \"multilingual\" in enrichment.json" in found.advice
    path = write(tmp_path, [(GERMAN, None), ("བོད་ཀྱི་སྐད་ཡིག", None)])
    found = coverage(path, encoder=Encoder(folder, cache=False))
    assert found.advice is not None
    assert "(bo 50 %); set \"model\" in enrichment.json to an encoder that knows them" in found.advice


def test_languages_are_told_without_advice_where_the_model_does_not_say_what_it_knows(tmp_path: Path) -> None:
    folder = model(tmp_path, None)
    found = coverage(write(tmp_path, [(GERMAN, None), (LAMP, None)]), encoder=Encoder(folder, cache=False))
    assert (found.text_languages, found.advice) == ({"de": 1, "en": 1}, None)


def test_what_a_terminal_would_obey_is_not_printed(tmp_path: Path) -> None:
    write(tmp_path, [("[bold]\x1b[31m\nlamp", "a")])
    assert "[bold] [31m lamp" in must("coldstart", "coverage", "items.parquet", cwd=tmp_path)


def test_more_categories_than_are_shown_are_announced(tmp_path: Path) -> None:
    write(tmp_path, [(LAMP, f"c{number}") for number in range(1_022)])
    told = must("coldstart", "coverage", "items.parquet", "--by", "category", cwd=tmp_path)
    assert "the 20 largest of 1,022 values of 'category'; the other 1,002 together" in told


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("absent.parquet",), "absent.parquet does not exist"),
        (("folder",), "folder is a folder"),
        (("notes.txt",), "notes.txt has an unknown ending"),
        (("broken.parquet",), "broken.parquet cannot be read as parquet"),
        (("broken.csv",), "broken.csv is not UTF-8 (line 3)"),
        (("empty.csv",), "empty.csv has no rows"),
        (("items.parquet", "--text", "title"), "has no column 'title'; it has ['description', 'category']"),
        (("items.parquet", "--by", "brand"), "has no column 'brand'; it has ['description', 'category']"),
        (("numbers.parquet", "--text", "price"), "column 'price' is DOUBLE, not text; columns of text are ['name']"),
        (("items.parquet", "--json", "folder"), "folder is a folder"),
        (("items.parquet", "--json", "items.parquet"), "items.parquet is the input"),
    ],
)
def test_input_that_cannot_be_used_is_named_and_nothing_is_written(
    tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    write(tmp_path, ROWS)
    pq.write_table(pa.table({"name": ["lamp"], "price": [1.5]}), tmp_path / "numbers.parquet")
    (tmp_path / "folder").mkdir()
    (tmp_path / "notes.txt").write_text("description\nlamp\n")
    (tmp_path / "broken.parquet").write_text("description\nlamp\n")
    (tmp_path / "broken.csv").write_bytes(b'description,category\n"lamp,rugs\n\xff\xfe,"x"y\n')
    (tmp_path / "empty.csv").write_text("description,category\n")
    before = {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    if "--json" not in arguments:
        arguments = (*arguments, "--json", "found.json")
    done = run("coldstart", "coverage", *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert said in done.stderr
    assert {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before


def test_an_unusable_table_is_an_error_in_python_too(tmp_path: Path, encoder: Encoder) -> None:
    with pytest.raises(ColdStartError, match=r"absent\.csv does not exist"):
        coverage(tmp_path / "absent.csv", encoder=encoder)
