"""Words for colours, materials and audiences in German, Spanish, French, Chinese and Japanese, by the labels of `vocabulary`.

Words that mean something else in an English product text (German "rot", French "or" and "rose", Spanish "lino") are left
out, so that no language has to be guessed.
"""

from __future__ import annotations

import regex

# Stems of German adjectives; their endings are added by `words`.
_GERMAN_ADJECTIVES: dict[str, str] = {
    "black": "schwarz", "white": "weiß weiss cremeweiß", "grey": "grau hellgrau dunkelgrau", "silver": "silbern silberfarben",
    "gold": "golden goldfarben", "red": "dunkelrot weinrot hellrot", "pink": "rosafarben", "yellow": "gelb hellgelb senfgelb",
    "green": "grün hellgrün dunkelgrün olivgrün", "turquoise": "türkis", "blue": "blau hellblau dunkelblau marineblau",
    "purple": "violett", "brown": "braun hellbraun dunkelbraun", "multicoloured": "bunt mehrfarbig", "wood": "hölzern",
}  # fmt: skip
_ENDINGS = ("", "e", "er", "es", "en", "em")

# "_" joins the words of a phrase, as in `vocabulary`.
_SPACED: dict[str, dict[str, str]] = {
    "colour": {
        "black": "negro negra noir noire", "white": "blanco blanca blanc blanche", "grey": "gris grise grises",
        "silver": "plateado plateada argenté argentée", "gold": "dorado dorada doré dorée",
        "red": "rote roter rotes roten rotem rojo roja rouge", "pink": "rosa rosado rosada",
        "orange": "naranja", "yellow": "amarillo amarilla jaune", "green": "verde vert verte vertes",
        "turquoise": "turquesa", "blue": "azul azules bleu bleue bleues bleu_marine",
        "purple": "lila morado morada violeta violette", "brown": "marrón marrones marron", "multicoloured": "multicolore",
    },
    "material": {
        "wood": "holz massivholz eiche kiefer bambus madera roble bambú bois chêne bambou",
        "metal": "metall edelstahl stahl eisen messing kupfer acero acero_inoxidable hierro latón cobre aluminio métal acier inox "
                 "laiton cuivre",
        "glass": "glas kristall vidrio cristal verre",
        "ceramic": "keramik porzellan steingut cerámica porcelana loza céramique porcelaine faïence",
        "plastic": "kunststoff plastik acryl plástico acrílico resina plastique acrylique résine",
        "paper": "papier pappe karton papel cartón",
        "fabric": "baumwolle leinen wolle seide samt filz algodón lana seda terciopelo fieltro coton laine soie velours feutre",
        "leather": "leder wildleder kunstleder cuero cuir",
        "rubber": "gummi silikon silicona caucho caoutchouc",
        "stone": "marmor schiefer mármol pizarra granito marbre ardoise",
        "wax": "wachs bienenwachs", "wicker": "mimbre ratán osier rotin",
    },
    "audience": {
        "children": "kinder kindern jungs mädchen niño niña niños niñas infantil infantiles enfant enfants garçon fille fillette",
        "women": "damen frauen für_sie mujer mujeres señora para_ella femme femmes pour_elle",
        "men": "herren männer männern für_ihn hombre hombres caballero para_él homme hommes pour_lui",
        "babies": "babys säugling säuglinge neugeborene kleinkind kleinkinder bebé bebés recién_nacido bébé bébés nourrisson "
                  "nouveau_né",
        "pets": "haustier haustiere für_hunde für_katzen mascota mascotas para_perro para_perros para_gato para_gatos "
                "pour_chien pour_chiens pour_chat pour_chats animal_de_compagnie animaux_de_compagnie",
    },
}  # fmt: skip

# First parts of German compounds (Damenschuhe, Kinderbett, Hundefutter), and compounds that mean something else.
_COMPOUNDS = {
    "children": "kinder mädchen jungen", "women": "damen", "men": "herren", "babies": "baby säuglings",
    "pets": "hunde katzen haustier welpen",
}  # fmt: skip
_OTHER_COMPOUNDS = (
    "kinderleicht kinderlos jungenhaft herrenlos herrenhaus herrenhäuser herrentorte hundert hundekalt hundemüde katzenauge "
    "babyblau babyrosa babylon babydoll babyspinat babysitter babysitting babybel babyliss"
)
_COMPOUND = regex.compile(
    rf"(?!{'|'.join(_OTHER_COMPOUNDS.split())})(?:"
    + "|".join(f"(?P<{label}>{'|'.join(words.split())})" for label, words in _COMPOUNDS.items())
    + r")\p{L}{3,}"
)

# Found anywhere in a text, the longest first: single characters that are parts of other words are left out.
UNSPACED: dict[str, dict[str, str]] = {
    "colour": {
        "black": "黑色 纯黑 黒色 黒い ブラック", "white": "白色 纯白 米白 乳白 白い ホワイト オフホワイト アイボリー",
        "grey": "灰色 浅灰 深灰 グレー", "silver": "银色 銀色 シルバー", "gold": "金色 ゴールド",
        "red": "红色 紅色 大红 酒红 枣红 赤い 赤色 レッド ワインレッド", "pink": "粉色 粉红 粉紅 桃红 ピンク",
        "orange": "橙色 橘色 オレンジ色", "yellow": "黄色 姜黄 黄色い イエロー", "green": "绿色 綠色 墨绿 军绿 緑色 グリーン カーキ",
        "turquoise": "青绿 湖蓝 ターコイズ 水色", "blue": "蓝色 藍色 藏青 天蓝 深蓝 宝蓝 青い 青色 ブルー ネイビー 紺色",
        "purple": "紫色 パープル ラベンダー色", "brown": "棕色 咖啡色 米色 卡其 茶色 ブラウン ベージュ", "multicoloured": "彩色 多色 マルチカラー 虹色",
    },
    "material": {
        "wood": "实木 實木 木质 木質 原木 竹制 竹製 松木 橡木 木製 天然木",
        "metal": "不锈钢 不鏽鋼 铝合金 铸铁 铁艺 黄铜 纯铜 ステンレス アルミ 鉄製 真鍮 銅製 スチール",
        "glass": "玻璃 水晶 ガラス クリスタル", "ceramic": "陶瓷 骨瓷 陶器 磁器 セラミック",
        "plastic": "塑料 塑膠 亚克力 树脂 プラスチック アクリル 樹脂", "paper": "牛皮纸 卡纸 纸质 紙製 和紙 段ボール",
        "fabric": "纯棉 純棉 全棉 棉质 棉麻 亚麻 羊毛 真丝 雪纺 涤纶 绒布 帆布 綿100 コットン リネン ウール シルク デニム フリース",
        "leather": "真皮 牛皮 皮革 皮质 本革 レザー 牛革 合皮", "rubber": "硅胶 矽膠 橡胶 シリコン ゴム製",
        "stone": "大理石 花岗岩 岩板 石製", "wax": "蜂蜡 大豆蜡 蜜蝋", "wicker": "藤编 竹编 柳编 ラタン 籐",
    },
    "audience": {
        "children": "儿童 兒童 小孩 小朋友 孩子 男童 女童 男孩 女孩 童装 童裝 童鞋 幼儿园 子供 子ども こども 児童 男の子 女の子 小学生 "
                    "キッズ ボーイズ ガールズ",
        "women": "女士 女式 女款 女装 女裝 女鞋 女包 女性 女人 妇女 孕妇 婦人 レディース ウィメンズ ウイメンズ マタニティ",
        "men": "男士 男式 男款 男装 男裝 男鞋 男包 男性 男人 紳士 メンズ",
        "babies": "婴儿 嬰兒 婴幼儿 幼儿 宝宝 寶寶 新生儿 赤ちゃん 乳児 幼児 新生児 ベビー",
        "pets": "宠物 寵物 狗粮 猫粮 貓糧 猫砂 狗窝 猫窝 猫抓板 犬用 猫用 愛犬 愛猫 ペット ドッグフード キャットフード",
    },
}  # fmt: skip

# Words that do not count, nor do the words in them: unisex, baby pink, plastic bottles, out of reach of children.
UNSPACED_WITHOUT = (
    "男女款 男女装 男女鞋 男女式 男女同款 男女通用 婴儿蓝 婴儿粉 儿童不宜 儿童接触不到 儿童触及 ベビーブルー ベビーピンク ベビーリーフ "
    "ベビーチーズ ペットボトル"
)


def words() -> dict[str, dict[str, list[str]]]:
    """Group → label → words of languages with spaces between words."""
    found = {group: {label: text.split() for label, text in labels.items()} for group, labels in _SPACED.items()}
    for label, stems in _GERMAN_ADJECTIVES.items():
        group = "material" if label == "wood" else "colour"
        found[group].setdefault(label, []).extend(f"{stem}{end}" for stem in stems.split() for end in _ENDINGS)
    return found


def compound_audience(word: str) -> str | None:
    """The audience that the first part of a German compound names, in lower case; None if there is none.

    >>> compound_audience("damenschuhe"), compound_audience("kinderleicht")
    ('women', None)
    """
    found = _COMPOUND.fullmatch(word)
    return found.lastgroup if found else None
