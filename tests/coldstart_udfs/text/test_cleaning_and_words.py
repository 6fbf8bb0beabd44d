"""clean_text, redact and tokens as Python functions; SQL calls the same ones."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coldstart_udfs.text.cleaning import PLACEHOLDERS, clean_text
from coldstart_udfs.text.function_words import content_words
from coldstart_udfs.text.redaction import redact
from coldstart_udfs.text.words import tokens


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("<p>A &amp; B:   <b>red</b> lamp!!!</p>", "A & B: red lamp!"),
        ("wo<b>o</b>d", "wood"),
        ("one<br>two<li>three", "one two three"),
        ("a < b and c > d", "a < b and c > d"),
        ("&amp;amp;lt;b&amp;amp;gt;bold", "bold"),
        ("x <script>if (a<b) alert('!')</script> y <!-- z --> <style>p {}</style>w", "x y w"),
        ("[the shop](https://example.org/a) and **bold**, `code`", "the shop and bold, code"),
        ("# Title\n* item\n> quoted", "Title item quoted"),
        ("wait... what???  \t really -- yes", "wait. what? really - yes"),
        ("https://example.org/a", "https://example.org/a"),
        ("Nice lamp. All rights reserved.", "Nice lamp."),
        ("Works.\nSent from my iPhone", "Works."),
        ("Blue mug! Click here to see more. Dishwasher safe.", "Blue mug! Dishwasher safe."),
        ("the right to click here is reserved", "the right to click here is reserved"),
        ("ﬁne １２ ｃｍ\u00a0wide\u200b\ufeff", "fine 12 cm wide"),
        ("a\x00b\x07c\u202ed", "a b cd"),
        ("نمی‌خواهم", "نمی‌خواهم"),
        ("👩‍👧 tea", "👩‍👧 tea"),
        ("-5 degrees", "-5 degrees"),
        ("(C) 16 CT", "(C) 16 CT"),
        ("lamp,", "lamp,"),
        (" , lamp - ", "lamp"),
        ("mail <EMAIL> now", "mail <EMAIL> now"),
        ("<b></b> \u200b", ""),
        ("1½ inch, 2½ litre, 3¼\" board", "1½ inch, 2½ litre, 3¼\" board"),
        ("10² puzzle, 10⁻³, １０²", "10² puzzle, 10⁻³, 10²"),
        ("½ inch, 5 m², x¹⁰", "1⁄2 inch, 5 m2, x10"),
        ("5① ①②", "5① ①②"),
        ("A+++ energy class, C++ primer", "A+++ energy class, C++ primer"),
        ("C++11, wow++++++ + + yes", "C++11, wow+ yes"),
        ("lone \ud800 surrogate", "lone surrogate"),
        ("<b>น้ำหอม</b>", "น้ำหอม"),
    ],
)
def test_clean_text_leaves_what_was_said(text: str, cleaned: str) -> None:
    assert clean_text(text) == cleaned


@given(st.text(alphabet=st.sampled_from("<>/&;ab*_`[]()#!.-+, \n\u200bpltgscript\ufb01EMAIL1１½²①"), max_size=60))
@settings(max_examples=400, deadline=None)
def test_cleaning_twice_changes_nothing_more(text: str) -> None:
    assert clean_text(clean_text(text)) == clean_text(text)


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ("Mail jo@example.com or jo.b+shop@mail.example.org.", "Mail <EMAIL> or <EMAIL>."),
        ("jo (at) example.com, jo at example dot com", "<EMAIL>, <EMAIL>"),
        ("ring 020 7946 0958, +49 30 901820 or (212) 555-0142", "ring <PHONE>, <PHONE> or <PHONE>"),
        ("card 4111 1111 1111 1111", "card <CARD>"),
        ("card 4111 1111 1111 1112", "card 4111 1111 1111 1112"),  # the check digit is wrong
        ("IBAN GB82 WEST 1234 5698 7654 32 thanks", "IBAN <ACCOUNT> thanks"),
        ("sort code 12-34-56 account 12345678", "sort code <ACCOUNT> account <ACCOUNT>"),
        ("I live at 12 Baker Street, London NW1 6XE please", "I live at <ADDRESS> please"),
        ("Wohne Hauptstraße 5, 10115 Berlin", "Wohne <ADDRESS>"),
        ("12 rue de la Paix, 75002 Paris", "<ADDRESS>"),
        ("Habite rue de la Paix 12, 75002 Paris", "Habite <ADDRESS>"),
        # pragma: allowlist nextline secret
        ("https://bob:pw1@example.org/a?token=abc123&x=1", "https://<SECRET>@example.org/a?token=<SECRET>&x=1"),
        ("my password is hunter2.", "my password is <SECRET>."),
        ("apikey: abcdefgh", "apikey: <SECRET>"),
        ("use glpat-abcdefghij", "use <SECRET>"),
    ],
)
def test_private_data_are_replaced_by_what_they_were(text: str, redacted: str) -> None:
    assert redact(text) == redacted


@pytest.mark.parametrize(
    "text",
    [
        "PACK OF 72 RETROSPOT CAKE CASES",
        "1 WAY STREET SIGN",
        "RED 3 PIECE PLACE SETTING",
        "order number 12345678901",
        "ISBN 978-3-16-148410-0",
        "2024-01-02 12:30, version 1.2.3, 10 x 12 cm, 4.99",
        "my password is wrong",
        "meet @anna at 5",
        "https://example.org/lamps?page=3",
        "N0 SINGING METAL SIGN 23166",
        "22151 PLACE SETTING WHITE HEART",
        "SCOURING PADS & CLOTH 55111910 CT",
        "5 Star Hotel Drive Belt 2023",
        "https://example.org/lamp_1024x1024@2x.jpg",
        "Spielplatz 4 Kinder, Rosenweg 3-teilig",
        "Plaza set 4 sillas, 12 cours de cuisine",
        "Ventil 1.2.3.4 DN15, firmware 10.0.0.1",
        "ring 16 17 18 19 20 mm, text 2000 1500 1000",
        "the pin is bent, the password was changed yesterday",
        "订单号202411230001234567，货号13812345678",
        "电饭煲5升 199元，南京路步行街，从这里15号出发",
        "密码箱20寸，QQ糖 30g*20包，微信支付可以吗",
        "商品コード4901234567894、伝票番号 123456789012、3丁目の夕日",
        "Artikelnummer 123.456.78, 23.11.2024 14 Uhr, von 12.11.2024 bis 15.11.2024",
    ],
)
def test_what_only_looks_private_stays(text: str) -> None:
    assert redact(text) == text


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ("my number is 07700 900123", "my number is <PHONE>"),
        ("tel.02079460958", "tel.<PHONE>"),
        ("for the order call 020 7946 0777", "for the order call <PHONE>"),
        ("order number 020 7946 0777", "order number 020 7946 0777"),
        ("06.12.34.56.78, le 06.12.2034", "<PHONE>, le 06.12.2034"),
        ("rappel au0612345678", "rappel au<PHONE>"),
        ("i paid order 5512 with card 4111 1111 1111 1111", "i paid order 5512 with card <CARD>"),
        ("invoice 4111111111111111", "invoice <CARD>"),
        ("the password was changed to Tulip2024", "the password was changed to <SECRET>"),
        ("Passwort geändert in Neu_1234", "Passwort geändert in <SECRET>"),
        ("client_secret=9f8e7d6c5b4a", "client_secret=<SECRET>"),
        ("AWS_SECRET_ACCESS_KEY=wJalrXUtnFEMI/K7M", "AWS_SECRET_ACCESS_KEY=<SECRET>"),
        ("hf_abcdefghijABCDEFGHIJ1234, npm_abcdefghijABCDEFGHIJ1234", "<SECRET>, <SECRET>"),
        # pragma: allowlist nextline secret
        ("-----BEGIN PRIVATE KEY-----\nMIIEvQ+/=\n-----END PRIVATE KEY----- is mine", "<SECRET> is mine"),
        # pragma: allowlist nextline secret
        ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.dBjftJeZ4C", "<SECRET>"),
        ("verification code 583920", "verification code <SECRET>"),
        ("login from 203.0.113.17 and 2001:db8::ff00:42:8329", "login from <IP> and <IP>"),
        ("btc 1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa", "btc <ACCOUNT>"),
        ("0xde709f2102306220921060314715629080e2fb77", "<ACCOUNT>"),
        ("DNI 12345678Z, CPF 390.533.447-05", "DNI <ACCOUNT>, CPF <ACCOUNT>"),
        ("passport number 533401234", "passport number <ACCOUNT>"),
        ("我的电话是13812345678。", "我的电话是<PHONE>。"),
        ("手机１３８００１３８０００，座机0755-86001234", "手机<PHONE>，座机<PHONE>"),
        ("身份证11010519491231002X，微信号wxid_7k3m9q2p1n", "身份证<ACCOUNT>，微信号<ACCOUNT>"),
        ("QQ：384756120", "QQ：<ACCOUNT>"),
        ("密码是Abc12345，验证码583920", "密码是<SECRET>，验证码<SECRET>"),
        ("麻烦送到上海市浦东新区碧波路690号2号楼301室，谢谢", "麻烦送到<ADDRESS>，谢谢"),
        ("现在住武汉市江汉区解放大道686号世贸大厦4902室，请发", "现在住<ADDRESS>，请发"),
        ("放翠湖小区3号楼1单元402门口", "放<ADDRESS>门口"),
        ("公司在石家庄市裕华区槐安东路158号D座", "公司在<ADDRESS>"),
        ("新北市板橋區文化路一段188巷5弄10號3樓", "<ADDRESS>"),
        ("密码从abc123改成xyz789", "密码从<SECRET>改成<SECRET>"),
        ("Kaiser-Wilhelm-Ring 27-29, 50672 Köln", "<ADDRESS>"),
        ("Cra 15 No. 93-60, Bogotá", "<ADDRESS>"),
        ("携帯は090-1234-5678、住所は大阪府大阪市北区梅田3-1-3です", "携帯は<PHONE>、住所は<ADDRESS>です"),
        ("メールはtanaka@example.jpです", "メールは<EMAIL>です"),
        ("Am Alten Markt 3, 50667 Köln", "<ADDRESS>"),
        ("Unter den Linden 77, 10117 Berlin und Wien", "<ADDRESS> und Wien"),
        ("C/ Almendro 12, 3º B, 41003 Sevilla", "<ADDRESS>"),
        ("27 bis, boulevard Gambetta, 06000 Nice", "<ADDRESS>"),
        ("رقمي ٠٥٠١٢٣٤٥٦٧", "رقمي <PHONE>"),
    ],
)  # fmt: skip
def test_private_data_are_found_in_any_script_and_beside_any_word(text: str, redacted: str) -> None:
    assert redact(text) == redacted


@given(st.lists(st.sampled_from([
    "密码是", "Abc12345", "我的电话是13812345678", "１３８", "上海市碧波路690号", "203.0.113.17", "my password",
    "changed to", "微信号",
    "jo@example.com", "020 7946 0958", "4111 1111 1111 1111", "12 Baker Street", "my password is x1y2z3", "<EMAIL>",
    "token=abc", "https://a:b@c.org/?key=x", " ", "call ", "account 12345678", "@", "order ", "7",
]), max_size=8).map(" ".join))  # fmt: skip
@settings(max_examples=300, deadline=None)
def test_redacting_twice_changes_nothing_more(text: str) -> None:
    assert redact(redact(text)) == redact(text)


def test_cleaning_keeps_every_placeholder_of_redact() -> None:
    text = " ".join(f"<{name}>" for name in PLACEHOLDERS)
    assert clean_text(text) == text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("SET OF 6 HERB-POTS", ["set", "of", "6", "herb", "pots"]),
        ("I'm 10.5cm, 2,000 mugs", ["i'm", "10.5", "cm", "2,000", "mugs"]),
        ("红色的台灯 for 3 years", ["红色", "的", "台灯", "for", "3", "years"]),
        ("LED台灯", ["led", "台灯"]),
        ("京都の抹茶、電話番号 3点セット", ["京都", "の", "抹茶", "電話", "番号", "3", "点", "セット"]),
        ("กระเป๋าหนังสีแดง M size", ["กระเป๋า", "หนัง", "สี", "แดง", "m", "size"]),
        ("ກະເປົາໜັງ", ["ກະເປົາ", "ໜັງ"]),
        ("น้ำหอม", ["น้ำหอม"]),
        ("weiße STRASSE Straße", ["weisse", "strasse", "strasse"]),
        ("İSTANBUL istanbul ISIL ışıl", ["istanbul", "istanbul", "isil", "işil"]),
        ("Café CAFÉ cafe\u0301", ["café", "café", "café"]),
        ("ΟΔΟΣ οδός", ["οδοσ", "οδόσ"]),
        ("हिन्दी किताब", ["हिन्दी", "किताब"]),
        ("ﬁne ＡＢＣ", ["fine", "abc"]),
        ("1½ inch, 10² and ½", ["1½", "inch", "10²", "and", "1", "2"]),
        ("A+++ or A+, C++ 3+4", ["a+++", "or", "a", "c++", "3", "4"]),
        ("🫖 ... !", []),
        ("", []),
    ],
)
def test_tokens_are_words(text: str, words: list[str]) -> None:
    assert tokens(text) == words


@pytest.mark.parametrize(
    ("text", "language", "words"),
    [
        ("抹茶茶碗", None, ["抹", "茶", "茶碗"]),
        ("抹茶茶碗", "zh", ["抹", "茶", "茶碗"]),
        ("抹茶茶碗", "ja", ["抹茶", "茶碗"]),
        ("抹茶茶碗 set", "JA_jp", ["抹茶", "茶碗", "set"]),
        ("抹茶茶碗", "de", ["抹", "茶", "茶碗"]),
        ("优の良品 加厚拖鞋", "zh", ["优", "の", "良品", "加厚", "拖鞋"]),
        ("Straße", "de", ["strasse"]),
        ("Straße", "", ["strasse"]),
    ],
)
def test_the_language_says_what_han_characters_are(text: str, language: str | None, words: list[str]) -> None:
    assert tokens(text, language) == words


@pytest.mark.parametrize("call", [clean_text, redact, tokens])
@pytest.mark.parametrize(
    "unit",
    ["<", "<!--", "<script>", "&amp;", "`", " -,", "A-", "at ", "1", "1 a ", "a@b.c ", "?key=", "[", "**a", "红色的",
     "赤い", "กระเป๋า", "密码a", "路1号", "Calle a 1", "A1 ", "1."],
)
def test_a_megabyte_is_read_in_linear_time(call: object, unit: str) -> None:
    """Quadratic, one of these would take hours: that it ends is what is tested."""
    assert call(unit * (1_000_000 // len(unit))) is not None  # type: ignore[operator]


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        ("I'm looking for presents for my niece", "looking presents niece"),
        ("Wir suchen Geschenke für unsere Nichte", "suchen geschenke nichte"),
        ("Me gusta el café y no tengo cafetera", "gusta café cafetera"),
        ("J'ai un petit jardin dans la ville", "petit jardin ville"),
        ("我想给女儿买一个书包", "想 女儿 买 书包"),
        ("私は猫のためのおもちゃを探しています", "猫 おもちゃ 探"),
        # No sentences: a single word of a list, a name of function words alone, an unknown language.
        ("car cleaning kit for winter", "car cleaning kit for winter"),
        ("To Be or Not to Be", "to be or not to be"),
        ("dárky pro mou neteř", "dárky pro mou neteř"),
        ("", ""),
    ],
)
def test_content_words_are_those_that_name_something(sentence: str, expected: str) -> None:
    assert content_words(tokens(sentence)) == expected.split()
