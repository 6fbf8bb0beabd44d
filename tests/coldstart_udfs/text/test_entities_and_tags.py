from __future__ import annotations

import duckdb
import pytest

from coldstart_udfs import Encoder
from coldstart_udfs.text.entities import entities, stated_price
from coldstart_udfs.text.tags import Tagger
from coldstart_udfs.text.vocabulary import mentions

Connection = duckdb.DuckDBPyConnection


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("SET OF 6 RED TINS", [("quantity", "6"), ("colour", "red"), ("material", "metal")]),
        ("SET/3 GINGHAM BOXES", [("quantity", "3")]),
        ("36 PENCILS TUBE WOODLAND", [("quantity", "36")]),
        ("3 DRAWER CABINET", []),
        ("12 RED ROSE PEG PLACE SETTINGS", [("quantity", "12"), ("colour", "red")]),
        ("5 STRAND GLASS NECKLACE", [("material", "glass")]),
        ("PACK/2 LT ROSE, 65CMx65CM", [("quantity", "2"), ("size", "65 cm x 65 cm")]),
        ("pack of 24, 1.5 L", [("quantity", "24"), ("size", "1.5 l")]),
        ("a pair of gloves, size M", [("quantity", "2"), ("size", "size m")]),
        ("TOWELS / 2 PK / 30 X 40 IN", [("quantity", "2"), ("size", "30 x 40 in")]),
        ("tray 30 x 40 cm, was £20", [("size", "30 x 40 cm"), ("price", "20.00 GBP")]),
        ("only 4,99 EUR", [("price", "4.99 EUR")]),
        ("1½ inch pipe", [("size", "1 1/2 inch")]),
        ("1 1/2 inch pipe", [("size", "1 1/2 inch")]),
        ("1-1/2 inch pipe", [("size", "1 1/2 inch")]),
        ("3/8-1/2 inch pipe", [("size", "3/8-1/2 inch")]),
        ("½ inch pipe, 1/4 oz", [("size", "1/2 inch"), ("size", "1/4 oz")]),
        ("2½ litre kettle", [("size", "2 1/2 litre")]),
        ('3¼" board', [("size", '3 1/4 "')]),
        ("2½ x 3¼ in", [("size", "2 1/2 x 3 1/4 in")]),
        ("SET OF 2 1/2 inch pipes", [("quantity", "2"), ("size", "1/2 inch")]),
        ("duck egg blue bowl", [("colour", "turquoise")]),
        ("not made of glass, PVC-free", []),
        ("orange juice, cream cheese", []),
        ("电饭煲5升 红色 199元", [("size", "5升"), ("colour", "red"), ("price", "199.00 CNY")]),
        ("不锈钢保温杯", [("material", "metal")]),
        ("原价￥1299现价899元", [("price", "1299.00 CNY"), ("price", "899.00 CNY")]),
        ("3盒装 每盒12片", [("quantity", "3"), ("quantity", "12")]),
        ("不含塑料，第3件半价", []),
        ("赤いワンピース Mサイズ ￥1,980", [("colour", "red"), ("size", "m"), ("price", "1980.00 JPY")]),
        ("単3電池24本パック 水筒500ml", [("quantity", "24"), ("size", "500 ml")]),
        ("Rotes Kleid Größe 38, Baumwolle", [("colour", "red"), ("size", "größe 38"), ("material", "fabric")]),
        ("6er-Set Keramik, 1,5 l, 1.299,00 €", [
            ("quantity", "6"), ("material", "ceramic"), ("size", "1,5 l"), ("price", "1299.00 EUR")]),
        ("Juego de 6 vasos azules, 20 uds", [("quantity", "6"), ("colour", "blue"), ("quantity", "20")]),
        ("Lot de 6, bois blanc, Prix 1 299,00 €", [
            ("quantity", "6"), ("material", "wood"), ("colour", "white"), ("price", "1299.00 EUR")]),
        ("Pinot Noir, ohne Holz", []),
        ("Karton, Inhalt 750, zehn Packungen zu 500 Blatt", [
            ("material", "paper"), ("quantity", "750"), ("quantity", "10"), ("quantity", "500")]),
        ("Glas, 230 bis 350 ml, 8 Unzen", [("material", "glass"), ("size", "230 bis 350 ml"), ("size", "8 unzen")]),
        ("Caja de cartón, 400 de contenido, 6 pies", [("material", "paper"), ("quantity", "400"), ("size", "6 pies")]),
        ("Camiseta de mangas cortas, G", [("size", "g")]),
        ("Caja de 2 docenas de lápices", [("quantity", "24")]),
        ("Boîte en plastique de 500 vis, mémoire 16 Mo", [
            ("quantity", "500"), ("material", "plastic"), ("size", "16 mo")]),
        ("Lot de trois tee-shirts, taille 28 mm", [("quantity", "3"), ("size", "28 mm")]),
        ("Jus 6 x 20 cl, Oceamix 13x40g", [
            ("quantity", "6"), ("size", "20 cl"), ("quantity", "13"), ("size", "40 g")]),
        ("papier 75 g/m2, 4G", [("material", "paper")]),
        ("全棉四件套, 椅子（两把）", [("material", "fabric"), ("quantity", "4"), ("quantity", "2")]),
        ("铅笔两打, 打印机2台", [("quantity", "24")]),
        ("200克/4枚入 160*230地毯 二英寸", [
            ("size", "200克"), ("quantity", "4"), ("size", "160*230"), ("size", "二英寸")]),
        ("鉛筆2ダース 70オンス 25枚用", [("quantity", "24"), ("size", "70オンス")]),
        ("サイズ21 x 27.5cm, ケーブルPR/S/6", [("size", "21 x 27.5 cm")]),
        ("Jacke-Blau-Gelb-L", [("colour", "blue"), ("colour", "yellow"), ("size", "l")]),
        ("no idea", []),
        ("", []),
    ],
)  # fmt: skip
def test_what_a_text_states(text: str, found: list[tuple[str, str]]) -> None:
    assert [(one.kind, one.value) for one in entities(text)] == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("复古碎花 餐具", [("style", "vintage"), ("style", "floral"), ("occasion", "kitchen")]),
        ("宠物玩具", [("audience", "pets"), ("occasion", "pets"), ("occasion", "toys")]),
        ("玫瑰金手表 安溪铁观音", []),
        ("クリスマス ぬいぐるみ", [("occasion", "christmas"), ("occasion", "toys")]),
        ("Gartenschere, Hochzeitsdeko", [("occasion", "garden"), ("occasion", "wedding")]),
        ("rustikal, Blumenkohl, Schultertuch", [("style", "rustic")]),
        ("juguetes de Navidad", [("occasion", "toys"), ("occasion", "christmas")]),
        ("théière rétro à fleurs", [("occasion", "tea time"), ("style", "vintage"), ("style", "floral")]),
        ("no cuisine, bad couch, mar 15", []),
        ("Weingläser, Keramikteller, Teakholz", [("material", "glass"), ("material", "ceramic"), ("material", "wood")]),
        ("Glasreiniger, Lederpflege, Douglas, Glasgow", []),
        ("traditioneller Sessel, minimalistischem Tisch", [("style", "vintage"), ("style", "modern")]),
        ("alliage d'aluminium", [("material", "metal"), ("material", "metal")]),
        ("Espárragos extra blancos, haricots verts, grüne Bohnen", []),
        ("corazones de alcachofa, coeur de laitue", []),
        ("钢笔, 钢琴, 螺钉: 钢, (黑, 蓝)", [("material", "metal"), ("colour", "black"), ("colour", "blue")]),
        ("灰黄条纹 价格 黄金", [("colour", "grey"), ("colour", "yellow")]),
        ("彩色打印机, 玻璃纤维, 大人用おむつ", []),
        ("婴童水手裙", [
            ("audience", "children"), ("audience", "babies"), ("occasion", "baby"), ("style", "nautical")]),
    ],
)
def test_styles_and_occasions_are_known_in_six_languages(text: str, found: list[tuple[str, str]]) -> None:
    assert [(one.group, one.label) for one in mentions(text)] == found


@pytest.mark.parametrize(
    ("text", "audiences"),
    [
        ("Women's running shoes", "women"), ("LADIES CASUAL SHOES", "women"),
        ("Shirts for men and boys", "men children"), ("CHILDRENS CUTLERY", "children"),
        ("Bib for a newborn baby", "babies babies"), ("BABIES' SOCKS", "babies"), ("Aftershave for him", "men"),
        ("Dog food, 2 kg", "pets"), ("A collar for small dogs", "pets"),
        ("Damenschuhe aus Leder", "women"), ("Uhr für Damen und Herren", "women men"), ("Kinderbett, weiß", "children"),
        ("Mütze für Mädchen", "children"), ("Herrenhemd", "men"), ("Babydecke aus Wolle", "babies"),
        ("Hundefutter, 5 kg", "pets"),
        ("Zapatos para niños y niñas", "children children"), ("Bolso de mujer", "women"), ("Regalo para ella", "women"),
        ("Camisas de hombres", "men"), ("Manta de bebé", "babies"), ("Correa para perros", "pets"),
        ("Chaussures pour femmes", "women"), ("Montre homme", "men"), ("Lit pour enfants", "children"),
        ("Body bébé en coton", "babies"), ("Jouet pour chat, animaux de compagnie", "pets pets"),
        ("儿童餐具套装", "children"), ("兒童雨衣", "children"), ("女士手提包", "women"), ("男装夹克", "men"),
        ("婴儿毛毯", "babies"), ("宠物零食", "pets"),
        ("子供用レインコート", "children"), ("キッズ スニーカー", "children"), ("レディース 腕時計", "women"),
        ("ウィメンズ コート", "women"), ("メンズ シャツ", "men"), ("ベビー毛布", "babies"), ("ペット用ベッド", "pets"),
    ],
)  # fmt: skip
def test_for_whom_a_product_is(text: str, audiences: str) -> None:
    assert [one.value for one in entities(text) if one.kind == "audience"] == audiences.split()


@pytest.mark.parametrize(
    "text",
    [
        # Parts of other words
        "Documents, ornaments and a mental game", "Menthol", "Kidney beans", "Catalogue", "Manchester, petrol",
        # Colours, food, materials, motifs
        "Baby blue cushion", "BABY SPINACH", "Kid leather purse", "Gingerbread men", "Mother of pearl", "HOT DOG BUNS",
        "PET bottle", "DOLLY GIRL MUG", "CAT STICKERS", "Lady Grey tea", "HARDY MUMS", "Kinder Surprise",
        # Not for them
        "Not suitable for children", "Keep out of reach of children", "nicht für Kinder geeignet", "不适合儿童",
        # German, Spanish and French
        "kinderleicht zu reinigen", "hundert Stück, hundertprozentig", "Herrenhaus", "Babyblau", "Juego de damas",
        "amenas, hombro, mascarilla", "un chat", "fomenter, l'hommage",
        # Chinese and Japanese
        "男女通用", "男女款卫衣", "婴儿蓝", "カーペット", "ペットボトル", "ベビーリーフ", "スキッズ", "トランペット",
    ],
)  # fmt: skip
def test_words_that_look_like_an_audience(text: str) -> None:
    assert [one.value for one in entities(text) if one.kind == "audience"] == []


@pytest.mark.parametrize(
    ("text", "language", "labels"),
    [
        ("Robe rose en lin", "fr", ["pink", "fabric"]),
        ("Robe rose en lin", "fr-CA", ["pink", "fabric"]),
        ("Robe rose en lin", "en", []),
        ("Tea rose", None, []),
        ("Camisa de lino", "es", ["fabric"]),
        ("Vase, rot, aus Stein", "de", ["red", "stone"]),
        ("Dry rot treatment", "en", []),
        ("Dry rot treatment for damp walls, one litre", None, []),
        # The text tells.
        ("Eine schöne große Tasse in rot", None, ["red"]),
        ("Une belle robe rose pour les soirées d'été", None, ["pink"]),
        # Only words with two meanings depend on it.
        ("rote Vase aus Glas", "fr", ["red", "glass"]),
        ("红色玻璃花瓶", "de", ["red", "glass"]),
    ],
)
def test_the_language_decides_about_words_with_two_meanings(text: str, language: str | None, labels: list[str]) -> None:
    found = [one.value for one in entities(text, language=language) if one.kind in ("colour", "material")]
    assert found == labels


def test_a_language_may_differ_from_row_to_row_in_sql(con: Connection) -> None:
    con.execute("""CREATE TABLE t AS SELECT i, 'rose' AS s, ['acme'] AS b,
                   CASE i % 4 WHEN 0 THEN 'fr' WHEN 1 THEN 'en' WHEN 2 THEN '' END AS language FROM range(3000) r(i)""")
    values = "list_transform(entities(s, brands := b, language := language), lambda e: e.value)"
    rows = con.sql(f"SELECT DISTINCT i % 4, {values} FROM t ORDER BY 1").fetchall()
    assert rows == [(0, ["pink"]), (1, []), (2, []), (3, [])]
    words = "list_sort(list_transform(tags(s, language := language), lambda t: t.label))"
    rows = con.sql(f"SELECT DISTINCT i % 4, {words} FROM t ORDER BY 1").fetchall()
    assert [labels for _, labels in rows] == [["pink"], ["floral"], ["floral"], ["floral"]]


@pytest.mark.parametrize("call", ["tokens('a'", "entities('a'", "tags('a'", "tags('a', labels := ['b']"])
def test_an_unknown_language_is_an_error_that_lists_those_known(con: Connection, call: str) -> None:
    with pytest.raises(duckdb.Error, match=r"language is 'german'; known are the codes af .* de .* zh"):
        con.sql(f"SELECT {call}, language := 'german')").fetchall()


def test_brands_come_from_the_given_list_the_longest_first() -> None:
    found = entities("acme home mugs, ACMES, Acme", ["Acme", "Acme Home"])
    assert [(one.kind, one.value, one.start, one.stop) for one in found] == [
        ("brand", "Acme Home", 0, 9), ("brand", "Acme", 23, 27),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "brand", "words"),
    [
        ("my ſony tv", "Sony", ["ſony"]), ("5 µm", "μm", ["µm"]), ("σοφοσ", "ΣΟΦΟΣ", ["σοφοσ"]),
        ("ıkea", "IKEA", []),  # a dotless i is another letter
    ],
)  # fmt: skip
def test_brands_whose_letters_fold_in_more_than_one_way(text: str, brand: str, words: list[str]) -> None:
    found = [one for one in entities(text, [brand]) if one.kind == "brand"]
    assert [text[one.start : one.stop] for one in found] == words
    assert {one.value for one in found} <= {brand}


def test_a_price_beyond_all_numbers_is_none() -> None:
    text = "£" + "9" * 400
    assert entities(text) == []
    assert stated_price(text) is None


def test_start_and_stop_cut_the_words_out_in_sql(con: Connection) -> None:
    rows = con.sql("""
        SELECT list_transform(entities(t, brands := ['Müller']), lambda e: t[e.start:e.stop])
        FROM (VALUES ('👩‍👧 é SET OF 6 müller rèd RED mugs, 10 cm'), (NULL), ('')) v(t)
    """).fetchall()
    assert rows == [(["SET OF 6", "müller", "RED", "10 cm"],), (None,), ([],)]


def test_brands_may_differ_from_row_to_row(con: Connection) -> None:
    rows = con.sql("""
        SELECT list_transform(entities('Acme and Bolt', brands := b), lambda e: e.value)
        FROM (VALUES (['Acme']), (['bolt']), (NULL), ([]), ([NULL, ' ', 'Acme'])) v(b)
    """).fetchall()
    assert [row[0] for row in rows] == [["Acme"], ["bolt"], [], [], ["Acme"]]


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder()


def test_default_tags_of_a_product(encoder: Encoder) -> None:
    (tags,) = Tagger(encoder).tag(["SET OF 6 RED VINTAGE CHRISTMAS TINS, now £12.50"])
    assert {(tag.group, tag.label) for tag in tags} >= {
        ("colour", "red"), ("material", "metal"), ("style", "vintage"), ("occasion", "christmas"), ("price", "2^3"),
    }  # fmt: skip
    scores = [tag.score for tag in tags]
    assert scores == sorted(scores, reverse=True)
    assert all(0.5 <= score <= 1 for score in scores)


def test_tags_say_for_whom_a_product_is(encoder: Encoder) -> None:
    english, chinese = Tagger(encoder).tag(["CHILDRENS CUTLERY POLKADOT BLUE", "男士皮革钱包"])
    assert ("audience", "children") in {(tag.group, tag.label) for tag in english}
    assert ("audience", "men") in {(tag.group, tag.label) for tag in chinese}


def test_the_encoder_finds_what_no_word_says(encoder: Encoder) -> None:
    tagger = Tagger(encoder, ["football", "cooking", "astronomy"])
    (tags,) = tagger.tag(["a telescope to watch the stars and planets at night"])
    assert [(tag.label, tag.group) for tag in tags] == [("astronomy", None)]
    assert not tagger.matches(["a telescope to watch the stars and planets at night"]).any()


def test_tags_in_sql_are_those_of_python(encoder: Encoder) -> None:
    from coldstart_udfs import connect

    texts = ["RED TIN", "a telescope to watch the stars", "SET OF 4 CHRISTMAS T-LIGHTS, £3"]
    expected = [[vars(tag) for tag in tags] for tags in Tagger(encoder).tag(texts)]
    with connect() as con:
        rows = con.execute("SELECT tags(t) FROM (SELECT unnest($1) AS t)", [[*texts, None, " "]]).fetchall()
        own = con.sql("SELECT list_transform(tags('watch the stars', ['astronomy', 'football']), lambda t: t.label)")
        assert own.fetchall() == [(["astronomy"],)]
        assert con.sql("SELECT tags('red', []::VARCHAR[]), tags('red', [NULL, ' '])").fetchall() == [([], [])]
    assert [row[0] for row in rows] == [*expected, None, []]
