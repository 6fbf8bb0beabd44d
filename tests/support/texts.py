"""Texts that nobody planned for, made from a seed: 40 scripts, mark-up, SQL, control characters, a megabyte."""

from __future__ import annotations

import random

# A phrase in each of 40 scripts, of their own Unicode blocks.
SCRIPTS = (
    "a red lamp", "красная лампа", "κόκκινη λάμπα", "կարմիր լամպ",
    "წითელი ნათურა", "מנורה אדומה", "مصباح أحمر", "ܫܪܓܐ ܣܘܡܩܐ", "ދޮން ބައްތި",
    "लाल दीपक", "লাল বাতি", "ਲਾਲ ਦੀਵਾ", "લાલ દીવો", "ଲାଲ ବତି",
    "சிவப்பு விளக்கு", "ఎరుపు దీపం", "ಕೆಂಪು ದೀಪ", "ചുവന്ന വിളക്ക്", "රතු පහන",
    "โคมไฟสีแดง", "ໂຄມໄຟສີແດງ", "ແສງ", "མར་མེ་དམར་པོ", "မီးအိမ်အနီ",
    "អំពូលក្រហម", "ቀይ መብራት", "ᎩᎦᎨ ᎠᏨᏍᏙᏗ", "ᖁᓪᓕᖅ ᐊᐅᐸᖅᑐᖅ", "ᚱᛖᛞ ᛚᚨᛗᛈ", "ᠤᠯᠠᠭᠠᠨ",
    "红色的台灯", "赤いランプ", "빨간 램프", "ㄏㄨㄥˊ ㄉㄥ", "ꆈꌠꁱꂷ", "ⴰⵙⵉⴷ ⴰⵣⴳⴳⴰⵖ", "ߟߊߡߊ ߥߎߟߋ߲",
    "ⲟⲩϩⲏⲃⲥ", "𐌰𐌱𐌲 𐌳𐌴", "𞤤𞤢𞤥𞤨𞤢", "ᜀᜎᜀᜏ", "ꦭꦩ꧀ꦥꦸ",
)  # fmt: skip
PIECES = (
    "\x00", "\x07", "\x1b[31m", "\r\n", "\t", "\u200b", "\u200d", "\u202e",
    "\u2066", "\ufeff", "\u00ad", "\ufffd", "\U000e0041",
    "e\u0301\u0302\u0303", "🫖", "👩‍👩‍👧‍👦", "🇬🇧", "👍🏽", "﷽", "ﬁ", "１２", "½",
    "٣", "'; DROP TABLE items; --", "SELECT * FROM t WHERE a = 'b'",
    "<b>bold</b>", "<script>alert(1)</script>", "<!-- x",
    "&lt;&amp;&#x41;&bogus;", "<EMAIL>", "[a](https://example.org)", "**x**",
    "`", "jo@example.com", "jo (at) example.com", "+44 20 7946 0958",
    "4111 1111 1111 1111", "GB82 WEST 1234 5698 7654 32",
    "12 Baker Street, London NW1 6XE", "https://u:p@example.org/?token=abc",
    "my password is x1y2", "£12.50", "$0", "1,000,000.00 EUR", "SET OF 6",
    "10 x 12 cm", '36"', "NULL", "nan", "inf", "-0", "{}", "[]", "\\", "%s",
    "{0}", "$1", "…", "---", "!!!!", "   ", "RED VINTAGE CHRISTMAS TIN",
    "not made of glass", "query: ", "passage: ",
)  # fmt: skip
WHOLE = ("", " ", "\u200b", "🫖🫖🫖", "\x00", "<br>", "&nbsp;", "\u3000", "a")
MEGABYTES = ("lamp " * 200_000, "红色的台灯" * 70_000, "<b>" * 330_000)


def generated_texts(count: int, seed: int = 0) -> list[str]:
    """`count` different texts; the same ones for a seed."""
    random_ = random.Random(seed)
    texts = dict.fromkeys((*WHOLE, *MEGABYTES, *SCRIPTS, *PIECES))
    while len(texts) < count:
        kind = random_.random()
        if kind < 0.1:  # any code points but surrogates, which DuckDB refuses
            points = (random_.randrange(0xD800), random_.randrange(0xE000, 0x110000), random_.randrange(0x3000))
            text = "".join(map(chr, points * 2))
        else:
            parts = random_.choices(SCRIPTS + PIECES, k=random_.randint(1, 6))
            text = random_.choice((" ", "", ", ")).join(parts) + (f" {random_.randrange(10_000)}" if kind < 0.7 else "")
        texts[text] = None
    return list(texts)[:count]
