"""Addresses in Chinese and Japanese: from the province or prefecture down to the house, in one run."""

from __future__ import annotations

from collections.abc import Iterator

import regex

from coldstart_udfs.text.redaction.scripts import Span

_PROVINCES = (
    r"(?:北京|天津|上海|重庆|重慶|河北|山西|辽宁|吉林|黑龙江|江苏|浙江|安徽|福建|江西|山东|河南|湖北|湖南|广东|海南|四川|贵州|云南|陕西|"
    r"甘肃|青海|台湾|臺灣|台灣|内蒙古|广西|西藏|宁夏|新疆|香港|澳门|澳門|九龍|九龙|新界)(?:省|市|(?:[\p{Han}]{0,4})自治区|特别行政区)?"
)
# What leads to an address in a sentence: anywhere before it, or as a row of words at the start of the run.
_LEAD = regex.compile(
    r"^.*(?:(?:寄|送|发|發|搬|放|邮寄|配送|收货|收貨)(?:到|至|往|给|去)了?|快递放|(?:地址|住址|老家|(?:我|回|在)家)(?:是|为|在|改成|改为|改到|变成)?|"
    r"(?:改成|改为|改到|换成|换到)|住在|家住|我住|位于|改?[寄送](?=[\p{Han}]{2,3}市)|(?<![\p{Han}])(?:我|请|在|住)|是|"
    r"到(?=[\p{Han}]{2,4}(?:市|区|區|县|路|街)))"
)
_LEADING = regex.compile(
    r"(?:我们?|你们?|请|麻烦|帮忙?|就|再|先|把|现在|目前|以后|最近|直接|快递|包裹|新家|老家|宿舍|公司|单位|学校|门牌|楼下|家庭|地址|住址|收货|收件|寄件|"
    r"发货|配送|邮寄|[寄送发發放住租搬改换到去往给在是为了的]|家(?=[\p{Han}]{2}))+(?=[\p{Han}]{2})"
)
_UNIT = r"(?:号楼|號樓|号院|號院|栋|棟|幢|座|塔|斋|期|单元|單元|层|層|楼(?!下|梯|道)|樓(?!下|梯)|室(?!内|外)|房(?!间|屋)|户(?!型|外)|号(?!码)|號(?!碼)|门(?!口))(?:之\d{1,2})?"
_SMALL = r"[A-Za-z0-9一二三四五六七八九十甲乙丙丁]{1,5}"
_BUILDING = r"[\p{Han}]{2,10}?(?:大厦|大廈|广场|廣場|中心|公寓|花园|小区|大学|学院|医院|商场|写字楼|校区|宿舍|工业园|科技园|产业园|创意园)"
_PARTS = rf"(?:(?:[, ]{{1,2}}|[\p{{Han}}]{{0,8}}?){_SMALL}(?:-\d{{1,4}})?{_UNIT}){{0,6}}(?:{_BUILDING}(?:[A-Z]座)?)?(?:(?:\d{{1,4}}-\d{{1,4}}|[A-Z]?\d{{3,4}})(?![\d\p{{Latin}}年月日元件个折]))?"
_ROAD = r"(?:大道|路|街|巷|弄|胡同)(?:[东南西北中東]?[一二三四五六七八九十]{0,2}[段路街巷])?[东西南北中東]?"
_CHINESE = (
    # 北京市朝阳区建国路88号3栋502室
    regex.compile(rf"[\p{{Han}}]{{2,32}}{_ROAD}\s?(?:\d{{1,5}}[巷弄]){{0,3}}\d{{1,5}}(?:-\d{{1,4}})?\s?(?:号|號|弄)(?!线|線|店|款|色)(?:之\d{{1,2}}|-\d{{1,3}}(?!\d))?{_PARTS}"),
    # In a village or lane whose name also ends other words ("这里"): with its province or district before it.
    regex.compile(
        rf"(?:{_PROVINCES}[\p{{Han}}]{{0,12}}|[\p{{Han}}]{{2,8}}[市区区縣县镇乡])[\p{{Han}}]{{1,12}}[道里村屯段区][东西南北中東]?\s?\d{{1,5}}(?:-\d{{1,4}})?\s?(?:号楼|号|號)(?!线|線|店|款|色){_PARTS}"
    ),
    # 幸福小区6号楼2单元301
    regex.compile(
        rf"[\p{{Han}}]{{2,24}}(?:小区|小區|花园|花園|公寓|大厦|大廈|家园|新村|苑|城|广场)(?:\d{{1,2}}期|[一二三四五六七八九十东西南北]区)?\s?{_SMALL}(?:号楼|號樓|栋|棟|幢|座|单元|單元){_PARTS}"
    ),
)
_PREFECTURES = (
    r"(?:北海道|東京都|(?:大阪|京都)府|(?:青森|岩手|宮城|秋田|山形|福島|茨城|栃木|群馬|埼玉|千葉|神奈川|新潟|富山|石川|福井|山梨|長野|岐阜|静岡|"
    r"愛知|三重|滋賀|兵庫|奈良|和歌山|鳥取|島根|岡山|広島|山口|徳島|香川|愛媛|高知|福岡|佐賀|長崎|熊本|大分|宮崎|鹿児島|沖縄)県)"
)
_LOT = r"(?:北|南|東|西)?\d{1,4}(?:(?:条|丁目|番地?|号|-|ー|の)(?:北|南|東|西)?\d{1,4}){0,4}(?:条|丁目|番地?|号)?(?:室|号室)?"
_ROOM = r"(?:[ ]?[\p{Katakana}\p{Han}ー]{2,15}[ ]?(?:\d{1,3}(?:階|F)|\d{2,4}(?:号室|号)?(?![\d\p{Latin}年月日円個])))?"
_NAME = r"[\p{Han}\p{Hiragana}\p{Katakana}ーケヶ]"
_JAPANESE = (
    regex.compile(rf"(?:〒?\d{{3}}-\d{{4}}[ ]?)?{_PREFECTURES}{_NAME}{{1,30}}?{_LOT}{_ROOM}"),
    # A city without its prefecture, at the start of a phrase.
    regex.compile(
        rf"(?:〒?\d{{3}}-\d{{4}}[ ]?|(?<![\p{{L}}\d])){_NAME}{{2,6}}?[市区](?![場街立民内外長])(?:{_NAME}{{1,4}}?[区町村])?{_NAME}{{1,12}}?\d{{1,4}}(?:(?:丁目|番地?|-|の)\d{{1,4}}){{1,3}}(?:番地?|号)?{_ROOM}"
    ),
)
_POSTCODE = regex.compile(r"(?:(?<=〒\s?)|(?<=郵便番号\s?(?:は|:)?\s?))\d{3}-?\d{4}(?!\d)")


def east_asian_address_spans(text: str) -> Iterator[Span]:
    """Chinese and Japanese addresses with the number of a house or a lot, and Japanese postcodes after their sign."""
    if text.isascii():
        return
    for pattern in _JAPANESE:
        for found in pattern.finditer(text):
            yield *found.span(), "ADDRESS"
    for found in _POSTCODE.finditer(text):
        yield *found.span(), "ADDRESS"
    for pattern in _CHINESE:
        for found in pattern.finditer(text):
            yield _start(found), found.end(), "ADDRESS"


def _start(found: regex.Match[str]) -> int:
    """Where the address begins in a run of Han characters: at the province, or after the words that lead to it."""
    run = regex.match(r"[\p{Han}]*", found[0])
    name = run[0] if run else ""
    province = regex.search(rf"{_PROVINCES}(?=[\p{{Han}}]{{2}})(?![中东西南北]?[路街])", name)
    if province and not regex.search("[市区區县縣]", name[: province.start()]):
        return found.start() + province.start()
    lead = _LEAD.match(name[:-2])
    start = lead.end() if lead else 0
    leading = _LEADING.match(name, start)
    return found.start() + (leading.end() if leading else start)
