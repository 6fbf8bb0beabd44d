"""English words for colours, materials, audiences, styles and occasions of products, and finding them in texts.

They are also found in the languages of `vocabulary_by_language`, under the English labels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import regex

from coldstart_udfs.text import vocabulary_by_language
from coldstart_udfs.text.languages import Detector, known_language

# group → label → words, without plurals; "_" joins the words of a phrase. The first word of each label is encoded for
# `tags`, so it is a common one.
WORDS: dict[str, dict[str, str]] = {
    "colour": {
        "black": "black ebony jet_black",
        "white": "white ivory off_white cream creme snow_white",
        "grey": "grey gray charcoal_grey anthracite",
        "silver": "silver silvery",
        "gold": "gold golden gilt",
        "red": "red scarlet crimson burgundy maroon ruby",
        "pink": "pink fuchsia magenta blush pastel_pink",
        "orange": "orange tangerine apricot terracotta",
        "yellow": "yellow mustard_yellow lemon_yellow",
        "green": "green khaki emerald olive_green sage_green mint_green lime_green",
        "turquoise": "turquoise teal aqua aquamarine duck_egg_blue",
        "blue": "blue navy azure cobalt indigo sapphire",
        "purple": "purple lilac violet mauve amethyst lavender_coloured",
        "brown": "brown beige chocolate_brown taupe tan caramel_coloured",
        "multicoloured": "multicoloured multicolored multicolour multicolor multi_coloured multi_colour rainbow "
                         "assorted_colour assorted_color assorted_coloured asstd_colour ass_col ass_colour "
                         "colourful colorful mixed_colour",
    },
    "material": {
        "wood": "wood wooden timber oak pine bamboo mango_wood driftwood plywood wooden_framed",
        "metal": "metal metallic tin enamel iron zinc steel wire aluminium aluminum brass copper bronze pewter nickel "
                 "chrome alloy galvanised sterling_silver silver_plated gold_plated foil biscuit_tin cake_tin spice_tin tea_tin",
        "glass": "glass crystal wine_glass",
        "ceramic": "ceramic porcelain pottery earthenware stoneware bone_china fine_china terracotta china",
        "plastic": "plastic acrylic resin pvc melamine polypropylene vinyl bakelite oilcloth",
        "paper": "paper card cardboard tissue papier_mache decoupage wrapping_paper playing_card paper_plate paper_cup "
                 "paper_chain napkin doily",
        "fabric": "fabric cotton linen felt wool woollen woolen silk fleece lace canvas velvet jute hessian feltcraft "
                  "crochet knitted embroidered tweed satin denim corduroy cloth calico fur chenille muslin burlap polyester nylon microfibre microfiber lycra spandex "
                  "elastane",
        "leather": "leather suede leatherette",
        "rubber": "rubber silicone latex",
        "stone": "stone marble slate granite soapstone sandstone concrete",
        "wax": "wax beeswax",
        "wicker": "wicker rattan straw willow seagrass",
    },
    "audience": {
        "children": "child children kid boys girls little_boy little_girl schoolchild schoolchildren junior childrenswear",
        "women": "women woman ladies for_her womenswear ladieswear feminine maternity bride wife girlfriend mother grandmother "
                 "grandma for_mum for_mom",
        "men": "men for_him gents gentlemen menswear husband boyfriend father dad daddy grandfather grandad grandpa every_man "
               "for_man",
        "babies": "baby newborn infant toddler nursery babywear baby_boy baby_girl",
        "pets": "pet dog_bowl cat_bowl dog_food cat_food dog_lead dog_collar cat_collar dog_bed cat_bed dog_coat dog_treat "
                "cat_treat dog_biscuit dog_chew dog_toy cat_toy dog_shampoo cat_litter cat_flap dog_owner cat_owner dog_accessory "
                "cat_accessory dog_supply cat_supply for_dog for_cat small_dog large_dog indoor_cat puppy_food kitten_food "
                "for_puppy for_kitten small_animal scratching_post",
    },
    "style": {
        "vintage": "vintage retro antique victorian edwardian regency shabby_chic shabby old_fashioned fifties 1950 "
                   "art_deco art_nouveau nostalgic traditional baroque penny_farthing heritage georgian",
        "floral": "floral flower rose daisy botanical blossom petal peony tulip sunflower orchid poppy hydrangea "
                  "bouquet sweet_pea pansy cherry_blossom lily chrysanthemum flowery rosebud geranium",
        "rustic": "rustic country farmhouse cottage homespun weathered distressed",
        "modern": "modern contemporary minimalist sleek industrial scandinavian",
        "romantic": "romantic heart love lace angel cherub cupid sweetheart kiss lovebird",
        "whimsical": "whimsical fairy circus unicorn dinosaur robot princess toadstool dolly gnome mermaid "
                     "spaceboy babushka bear duck clown monster owl elephant rabbit bunny teddy cat dog kitten puppy pirate soldier "
                     "monkey pig dolly_girl cowboy ballerina superhero funky fun giraffe frog hedgehog piggy zoo",
        "natural": "natural herb woodland bird butterfly leaf leaves plant forest nature feather fern bee tree dragonfly "
                   "robin ladybird nest animal acorn mushroom botanical dove duck toadstool pine_cone",
        "nautical": "nautical seaside anchor sailor boat ship shell beach ocean sea lighthouse mermaid sailing marine "
                    "seashell starfish fish",
        "religious": "religious cross crucifix nativity madonna buddha rosary church bible prayer angel_wing shrine hindu",
        "sporty": "sporty sport football golf tennis cricket rugby cycling fitness yoga skiing running jogging volleyball basketball gym",
    },
    "occasion": {
        "christmas": "christmas xmas santa advent reindeer snowman snowflake bauble mistletoe stocking_filler nativity "
                     "noel rudolph father_christmas sleigh festive christmas_tree robin",
        "easter": "easter easter_egg egg_hunt easter_bunny",
        "halloween": "halloween pumpkin_lantern trick_or_treat spooky",
        "valentines": "valentine",
        "birthday": "birthday happy_birthday",
        "wedding": "wedding bride bridal groom confetti just_married bridesmaid",
        "baby": "baby nursery newborn christening toddler diaper nappy infant",
        "party": "party celebration bunting balloon cake_case fairy_cake paper_plate paper_cup party_bag invite "
                 "paper_chain",
        "garden": "garden gardening gardener planter plant_pot flower_pot watering_can trowel seed outdoor lawn herb_pot "
                  "bird_feeder birdhouse greenhouse hose parasol",
        "picnic": "picnic lunch_box lunchbox lunch_bag snack_box cool_bag hamper water_bottle thermos",
        "tea time": "tea teapot teacup tea_cup cake_stand cakestand tea_set sugar_bowl milk_jug tea_cosy teaspoon "
                    "saucer cake_fork",
        "bath": "bath bathroom soap shower shampoo toilet towel_bathroom body_wash bubble_bath bath_salt washbag "
                "wash_bag lotion deodorant toothbrush toothpaste wash_bowl",
        "school": "school pencil ruler pencil_case eraser rubbers sharpener chalk satchel crayon blackboard chalkboard "
                  "abacus exercise_book stationery",
        "kitchen": "kitchen cooking baking recipe spice_tin cake_tin bread_bin apron oven cookie_cutter jam_jar pantry "
                   "measuring_jug mixing_bowl spatula chopping_board cutlery biscuit_tin storage_jar cookery casserole "
                   "frying_pan saucepan butter_dish egg_cup toast_rack jelly_mould food_cover oven_glove kitchenware "
                   "measuring_spoon cake_mix flour rolling_pin cook bake squeezer cake_decoration",
        "sewing": "sewing knitting button needle thread haberdashery yarn embroidery patchwork pin_cushion sewing_kit "
                  "tape_measure stitching sew ribbon",
        "travel": "travel passport luggage suitcase luggage_tag travel_card_wallet trip journey backpack",
        "pets": "pet dog_bowl cat_bowl dog_food cat_food dog_lead dog_collar pet_food puppy_food kitten_food dog_treat "
                "cat_litter dog_toy cat_toy",
        "toys": "toy game playhouse jigsaw puzzle dolls_house doll_house doll playing_card skittles building_block domino "
                "board_game spinning_top rocking_horse soft_toy yo_yo harmonica play skipping_rope marbles ludo bingo",
    },
}  # fmt: skip

# A colour before one of the first words, or "cream" after one of the second, is food. "not", "no" or "without" before a word
# negates it.
_FOODS = frozenset(
    "juice wine tea pepper peppercorn bean rice bread sugar onion grape meat fish tuna chicken lentil olive cabbage currant "
    "mustard squash peel marmalade cheese soup sauce flour flavor flavored flavour flavoured soda egg potato turkey apple "
    "delicious smith mountain label diamond lobster snapper velvet_cake plum tomato seedless leaf bell eye box_wine "
    "flesh corn oat wheat pea bohne bohnen spargel linse linsen pfeffer wein zwiebel zwiebeln schokolade kohl traube trauben".split()
)  # fmt: skip
_FOOD_COLOURS = frozenset(
    "black white red green brown orange yellow purple blue golden schwarzer schwarze weißer weiße grüner grüne rote roter".split()
)
# In Spanish and French the colour comes after the food, often with a word between.
_FOODS_BEFORE = frozenset(
    "espárrago esparrago judía judia alubia té te vino pan arroz pimiento ajo pimienta azúcar habichuela aceituna cebolla lenteja vinagre "
    "asperge haricot thé vin pain riz poivron lentille poivre chocolat olive citron navet radis sucre oignon chou "
    "zumo néctar nectar sabor mermelada confitura jus goût saveur confiture marmelade".split()
)
_CREAM_OF = frozenset("ice hand face body shaving sour whipped whipping foot sun heavy double clotted cold eye skin of".split())
# A word does not count before one of these: a candle holder is not made of wax.
_VOID_BEFORE = {
    "candle": frozenset("holder pot plate lantern sconce snuffer stick stand ring garden".split()),
    "light": frozenset("holder pot lantern".split()),
    "baby": frozenset(
        "spinach leaf leave carrot corn sweetcorn potato tomato pea beet back rib swiss clam lima lettuce greens grand doll "
        "blue pink elephant owl bear animal dinosaur boomer".split()
    ),
    "nursery": frozenset("plant pot".split()),
    "kid": frozenset("leather glove suede".split()),
    "kinder": frozenset("to on than surprise bueno".split()),
    "pet": frozenset("bottle plastic film hair".split()),
    "mother": frozenset("earth nature board tongue".split()),
    "father": frozenset("time".split()),
    "tealight": frozenset("holder pot lantern".split()),
    "card": frozenset("holder game wallet organizer organiser".split()),
    "fish": frozenset("sauce oil finger cake stick fillet".split()),
    "corazón": frozenset(("de",)), "corazone": frozenset(("de",)), "coeur": frozenset(("de",)), "cœur": frozenset(("de",)),
    "napkin": frozenset("charm ring holder".split()),
    "orange": frozenset("squeezer peeler".split()),
    "silver": frozenset("plated".split()),
    "gold": frozenset("plated".split()),
}
# The plural has another meaning: a game, an eraser. A boy or a lady is rather the motif than the one it is for.
_NO_PLURALS = frozenset(("marbles", "rubbers", "boys", "girls", "ladies", "gents"))
# Phrases whose words do not count by themselves.
_PHRASES_WITHOUT = ("hot_water_bottle", "marble_effect", "wood_effect", "pine_nut", "reading_glass", "pinot_noir", "film_noir", "sauvignon_blanc", "chenin_blanc",
                    "mont_blanc", "vinho_verde", "berliner_weisse", "gingerbread_men", "wise_men", "mother_of_pearl", "reach_of_children",
                    "away_from_children", "juego_de_dama", "hot_dog", "blood_orange", "cristal_líquido", "cristaux_liquide", "fibra_de_vidrio",
                    "fibre_de_verre", "sur_chenille", "porte_bagage", "chemin_de_fer", "al_natural", "au_naturel", "de_girasol", "de_tournesol")
_NEGATIONS = frozenset("not no without non never isn't aren't nor ohne kein keine nicht sans".split())
_AFTER_NEGATION = 4

_WORD = regex.compile(r"[\p{L}\p{M}\p{N}]+(?:['’][\p{L}]+)*")
_ELISION = regex.compile(r"^(?:[ldnsjmtc]|qu)'(?=\p{L}{2})")  # French d'aluminium, l'eau
_KATAKANA = regex.compile(r"\p{Katakana}")
_LONGEST = 3


# A single character counts alone or in a list, (黑, 蓝), and as one of the colours of a pattern, 灰黄条纹.
_SINGLE = regex.compile(
    r"(?<![\p{Han}\p{Hiragana}\p{Katakana}ー])\L<characters>(?![\p{Han}\p{Hiragana}\p{Katakana}ー])"
    r"|\L<colours>(?=\L<colours>{0,2}(?:格|条纹|拼接|相间))",
    characters=list(vocabulary_by_language.SINGLE),
    colours=[character for character, (group, _) in vocabulary_by_language.SINGLE.items() if group == "colour"],
)


@dataclass(frozen=True)
class Mention:
    """A word of the vocabulary in a text, at `text[start:stop]`."""

    group: str
    label: str
    start: int
    stop: int


def mentions(text: str, language: str | None = None) -> Iterator[Mention]:
    """The words of the vocabulary in a text, in order; the longest phrase counts ("olive green" is one).

    Args:
        text: a product text.
        language: an ISO 639-1 code. It decides about words that mean something else in other languages, such as French
            "rose" and German "rot"; the words of `vocabulary_by_language.ONLY_IN` count in their language. By default
            the text tells, and counts as English if it does not.

    Raises:
        ColdStartError: the language is not known.

    >>> [(found.group, found.label) for found in mentions("A RED tin, no glass")]
    [('colour', 'red'), ('material', 'metal')]
    >>> [(found.group, found.label) for found in mentions("rote Vase aus Glas, 红色玻璃花瓶")]
    [('colour', 'red'), ('material', 'glass'), ('colour', 'red'), ('material', 'glass')]
    >>> [found.label for found in mentions("Robe rose", "fr")], [found.label for found in mentions("English rose")]
    (['pink'], ['floral'])
    """
    code = known_language(language)
    if text.isascii():
        return _spaced(text, code)
    return iter(sorted([*_spaced(text, code), *_unspaced(text)], key=lambda one: one.start))


def _unspaced(text: str) -> Iterator[Mention]:
    pattern, meanings = _unspaced_words()
    for one in pattern.finditer(text):
        for meaning in meanings[one[0]]:
            yield Mention(*meaning, *one.span())
    for one in _SINGLE.finditer(text):
        yield Mention(*vocabulary_by_language.SINGLE[one[0]], *one.span())


@cache
def _unspaced_words() -> tuple[regex.Pattern[str], dict[str, list[tuple[str, str]]]]:
    meanings: dict[str, list[tuple[str, str]]] = {
        word: [] for word in vocabulary_by_language.UNSPACED_WITHOUT.split()
    }
    for group, labels in vocabulary_by_language.UNSPACED.items():
        for label, words in labels.items():
            for word in words.split():
                meanings.setdefault(word, []).append((group, label))
    # In katakana, words that are neither colours nor materials are also ends of other words: カーペット is a carpet.
    ends = [word for word, given in meanings.items()
            if given and given[0][0] not in ("colour", "material") and _KATAKANA.match(word)]  # fmt: skip
    others = [word for word in meanings if word not in ends]
    pattern = r"(?<![无無非]|不含|不适合|不適合|远离)(?:\L<others>|(?<![\p{Katakana}ー])\L<ends>)"
    return regex.compile(pattern, ends=ends, others=others), meanings


def _spaced(text: str, language: str | None) -> Iterator[Mention]:
    found = list(_WORD.finditer(text))
    spelled = [match[0].lower().replace("’", "'") for match in found]
    words = [singular(_ELISION.sub("", word) if "'" in word else word) for word in spelled]
    if language is None and not _words_of_one_language().isdisjoint(words):
        language = _of_english().language(text)
    known = _phrases(language if language in vocabulary_by_language.ONLY_IN else None)
    place = 0
    while place < len(words):
        for length in range(min(_LONGEST, len(words) - place), 0, -1):
            meanings = known.get(tuple(words[place : place + length]))
            if meanings is None and length == 1 and (meaning := vocabulary_by_language.compound(spelled[place])):
                meanings = [meaning]
            if meanings is None:
                continue
            after = words[place + length] if place + length < len(words) else ""
            negated = not _NEGATIONS.isdisjoint(words[max(0, place - _AFTER_NEGATION) : place]) or after == "free"
            void = after in _VOID_BEFORE.get(words[place + length - 1], ())
            if not negated and not void:
                start, stop = found[place].start(), found[place + length - 1].end()
                for group, label in meanings:
                    if group != "colour" or not _is_food(words, place, after):
                        yield Mention(group, label, start, stop)
            place += length - 1
            break
        place += 1


def _is_food(words: list[str], place: int, after: str) -> bool:
    if words[place] in ("cream", "creme"):
        before = words[place - 1] if place else ""
        return before in _CREAM_OF or after in ("cheese", "cake", "cracker", "puff", "soda", "cleanser", "pie")
    if not _FOODS_BEFORE.isdisjoint(words[max(0, place - 2) : place]):
        return True
    return after in _FOODS and words[place] in _FOOD_COLOURS


@cache
def _of_english() -> Detector:
    """Finds another language than English only where it is certain."""
    return Detector(("en",))


@cache
def _words_of_one_language() -> frozenset[str]:
    return frozenset(
        singular(word)
        for language in vocabulary_by_language.ONLY_IN
        for labels in vocabulary_by_language.words_only_in(language).values()
        for words in labels.values() for word in words
    )  # fmt: skip


@cache
def _phrases(language: str | None) -> dict[tuple[str, ...], list[tuple[str, str]]]:
    """The vocabulary by the words of each phrase, with those that count in one language alone."""
    if language is not None:
        only = vocabulary_by_language.words_only_in(language)
        return _phrases(None) | {
            (singular(word),): [(group, label)]
            for group, labels in only.items() for label, words in labels.items() for word in words
        }  # fmt: skip
    phrases: dict[tuple[str, ...], list[tuple[str, str]]] = {}
    for phrase in _PHRASES_WITHOUT:
        phrases[tuple(map(singular, phrase.split("_")))] = []
    for group, labels in WORDS.items():
        for label, words in labels.items():
            for phrase in words.split():
                key = tuple(singular(word) for word in phrase.split("_"))
                phrases.setdefault(key, [])
                if (group, label) not in phrases[key]:
                    phrases[key].append((group, label))
    others: dict[tuple[str, ...], list[tuple[str, str]]] = {}
    for group, by_label in vocabulary_by_language.words().items():
        for label, words_of in by_label.items():
            for phrase in words_of:
                meanings = others.setdefault(tuple(singular(word) for word in phrase.split("_")), [])
                if (group, label) not in meanings:
                    meanings.append((group, label))
    return others | phrases


def singular(word: str) -> str:
    """A word without its plural ending ("daisies", "boxes", "mugs"): crude, but used on both sides of comparisons."""
    word = word.removesuffix("'s")
    if len(word) < 4 or word.endswith(("ss", "us", "is")) or word in _NO_PLURALS:
        return word
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    if word.endswith(("shes", "ches", "xes", "sses")):
        return word[:-2]
    return word[:-1] if word.endswith("s") else word
