"""Words for colours, materials, audiences, styles and occasions in German, Spanish, French, Chinese and Japanese, by the labels of `vocabulary`.

Words that mean something else in an English product text (German "rot", French "or" and "rose", Spanish "lino") are in
`ONLY_IN`: they count in texts of their language.
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
    "style": {
        "vintage": "nostalgie nostalgisch antik altmodisch antiguo antigua nostálgico rétro ancien ancienne nostalgique",
        "floral": "blume blumen blumenmuster geblümt sonnenblume tulpe flor flores girasol fleur fleurs fleuri fleurie tournesol",
        "rustic": "rustikal landhaus landhausstil rústico rústica rustique champêtre",
        "modern": "moderne moderner modernes minimalistisch skandinavisch moderno moderna minimalista nórdico nórdica minimaliste scandinave",
        "romantic": "romantisch herz herzen romántico romántica corazón corazones romantique cœur coeur coeurs",
        "whimsical": "einhorn dinosaurier prinzessin unicornio dinosaurio princesa hada licorne dinosaure princesse fée",
        "natural": "schmetterling vogel vögel blätter wald mariposa pájaro pájaros bosque papillon oiseau oiseaux forêt",
        "nautical": "maritim anker leuchtturm segelboot marinero ancla velero ancre voilier",
        "religious": "kruzifix kirche crucifijo iglesia église",
        "sporty": "fußball sportlich deporte deportivo deportiva fútbol baloncesto sportif sportive",
    },
    "occasion": {
        "christmas": "weihnachten weihnachtlich navidad navideño navideña noël", "easter": "ostern pascua pâques",
        "valentines": "valentinstag san_valentín saint_valentin", "birthday": "geburtstag cumpleaños anniversaire",
        "wedding": "hochzeit braut boda bodas mariage mariée",
        "baby": "babys säugling säuglinge taufe schnuller windel windeln bebé bebés bautizo pañal pañales bébé bébés baptême layette",
        "party": "luftballon luftballons guirnalda guirlande",
        "garden": "garten gärtner gießkanne blumentopf blumentöpfe jardín jardinería maceta macetas regadera jardin jardinage arrosoir",
        "picnic": "picknick brotdose trinkflasche fiambrera pique_nique", "tea time": "teekanne teetasse teeservice tetera théière",
        "bath": "badezimmer dusche seife badewanne zahnbürste baño ducha jabón champú salle_de_bain salle_de_bains savon shampoing "
                "baignoire",
        "school": "schule bleistift federmäppchen radiergummi escuela escolar lápiz école scolaire cartable",
        "kitchen": "küche kochen backen bratpfanne kochtopf schneidebrett besteck cocina sartén cazuela de_cuisine ustensile ustensiles",
        "sewing": "nähen nähmaschine nähgarn stricken häkeln stickerei costura coser bordado aguja à_coudre aiguille broderie",
        "travel": "reise koffer reisepass viaje maleta equipaje pasaporte de_voyage valise bagage passeport",
        "pets": "haustier haustiere mascota mascotas animal_de_compagnie animaux_de_compagnie",
        "toys": "spielzeug spielsachen brettspiel kuscheltier puppe juguete juguetes muñeca peluche rompecabezas jouet jouets poupée doudou",
    },
}  # fmt: skip

# Words of one language that mean something else in others; "_" and the labels are as above.
ONLY_IN: dict[str, dict[str, dict[str, str]]] = {
    "de": {
        "colour": {"red": "rot", "silver": "silber"},
        "material": {"stone": "stein naturstein", "metal": "blech zinn", "fabric": "stoff"},
    },
    "es": {
        "colour": {"gold": "oro", "silver": "plata"},
        "material": {"fabric": "lino tela", "wood": "pino", "stone": "piedra", "wax": "cera"},
    },
    "fr": {
        "colour": {"gold": "or", "silver": "argent", "pink": "rose"},
        "material": {"fabric": "lin", "wood": "pin", "stone": "pierre", "metal": "fer", "ceramic": "grès", "wax": "cire"},
    },
}  # fmt: skip

# First parts of German compounds (Damenschuhe, Kinderbett, Hundefutter), and compounds that mean something else.
_COMPOUNDS: dict[str, dict[str, str]] = {
    "audience": {
        "children": "kinder mädchen jungen", "women": "damen", "men": "herren", "babies": "baby säuglings",
        "pets": "hunde katzen haustier welpen",
    },
    "style": {"floral": "blumen", "nautical": "anker", "sporty": "fußball"},
    "occasion": {
        "christmas": "weihnachts", "easter": "oster", "birthday": "geburtstags", "wedding": "hochzeits braut",
        "garden": "garten", "picnic": "picknick", "tea time": "teekannen", "bath": "bade", "school": "schul",
        "kitchen": "küchen", "travel": "reise", "toys": "spielzeug",
    },
}  # fmt: skip
_OTHER_COMPOUNDS = (
    "kinderleicht kinderlos jungenhaft herrenlos herrenhaus herrenhäuser herrentorte hundert hundekalt hundemüde katzenauge "
    "babyblau babyrosa babylon babydoll babyspinat babysitter babysitting babybel babyliss blumenkohl ankerkraut schulter reisessig "
    "reisend gartenkresse gartensalat badeanzug bademode badehose badeshorts badeort badenburg baden brautpaste ostern osteria osteo"
)
_MEANINGS = [(group, label) for group, labels in _COMPOUNDS.items() for label in labels]
_COMPOUND = regex.compile(
    rf"(?!{'|'.join(_OTHER_COMPOUNDS.split())})(?:"
    + "|".join(f"({'|'.join(words.split())})" for labels in _COMPOUNDS.values() for words in labels.values())
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
    "style": {
        "vintage": "复古 復古 怀旧 懷舊 古典 中古 ヴィンテージ ビンテージ レトロ アンティーク",
        "floral": "碎花 花卉 花朵 玫瑰 牡丹 郁金香 向日葵 樱花 花柄 桜柄 ひまわり",
        "rustic": "田园 田園 乡村 做旧 カントリー", "modern": "现代风 現代風 简约 簡約 极简 北欧 轻奢 工业风 モダン ミニマル",
        "romantic": "爱心 愛心 心形 浪漫 情侣 ハート柄 ハート型", "whimsical": "卡通 独角兽 恐龙 童话 可爱 ユニコーン 恐竜 プリンセス 妖精",
        "natural": "森系 树叶 蝴蝶 小鸟 森林 植物柄 リーフ柄", "nautical": "海洋风 航海 船锚 地中海风 沙滩 灯台",
        "religious": "佛像 佛珠 十字架 仏像 数珠", "sporty": "运动 運動 足球 篮球 网球 羽毛球 瑜伽 健身 スポーツ サッカー テニス ヨガ ゴルフ",
    },
    "occasion": {
        "christmas": "圣诞 聖誕 クリスマス", "easter": "复活节 復活節 イースター", "halloween": "万圣节 萬聖節 ハロウィン",
        "valentines": "情人节 情人節 七夕 バレンタイン", "birthday": "生日 誕生日 バースデー",
        "wedding": "婚礼 婚禮 结婚 婚庆 新娘 伴娘 結婚式 ウェディング ウエディング",
        "baby": "婴儿 嬰兒 婴幼儿 宝宝 寶寶 新生儿 尿不湿 纸尿裤 赤ちゃん 新生児 出産祝い おむつ ベビー",
        "party": "派对 派對 聚会 气球 パーティー", "garden": "园艺 園藝 花盆 庭院 浇水壶 洒水壶 園芸 植木鉢 プランター じょうろ ガーデニング",
        "picnic": "野餐 便当盒 饭盒 ピクニック 弁当箱 水筒", "tea time": "茶具 茶壶 茶壺 茶杯 茶盘 下午茶 盖碗 紫砂壶 公道杯 急須 湯呑 ティーポット ティーカップ",
        "bath": "浴室 沐浴 洗澡 牙刷 牙膏 洗发水 浴巾 香皂 お風呂 入浴剤 歯ブラシ 石鹸 シャンプー バスタオル",
        "school": "文具 铅笔 鉛筆 书包 橡皮擦 开学 学生 文房具 筆箱 ランドセル 消しゴム",
        "kitchen": "厨房 廚房 菜刀 炒锅 铁锅 砂锅 蒸笼 砧板 菜板 锅铲 烘焙 餐具 キッチン 台所 包丁 フライパン まな板",
        "sewing": "缝纫 針線 针线 刺绣 毛线 十字绣 裁縫 ミシン 手芸 刺繍 毛糸", "travel": "旅行 旅游 行李箱 护照 トラベル スーツケース パスポート",
        "pets": "宠物 寵物 狗粮 猫粮 貓糧 猫砂 狗窝 猫窝 猫抓板 犬用 猫用 愛犬 愛猫 ペット ドッグフード キャットフード",
        "toys": "玩具 积木 積木 拼图 桌游 公仔 玩偶 おもちゃ 積み木 パズル ぬいぐるみ ボードゲーム",
    },
}  # fmt: skip

# Words that do not count, nor do the words in them: unisex, baby pink, plastic bottles, out of reach of children.
UNSPACED_WITHOUT = (
    "玫瑰金 向日葵籽 男女款 男女装 男女鞋 男女式 男女同款 男女通用 婴儿蓝 婴儿粉 儿童不宜 儿童接触不到 儿童触及 ベビーブルー ベビーピンク ベビーリーフ "
    "ベビーチーズ ペットボトル"
)


def words() -> dict[str, dict[str, list[str]]]:
    """Group → label → words of languages with spaces between words."""
    found = {group: {label: text.split() for label, text in labels.items()} for group, labels in _SPACED.items()}
    for label, stems in _GERMAN_ADJECTIVES.items():
        group = "material" if label == "wood" else "colour"
        found[group].setdefault(label, []).extend(f"{stem}{end}" for stem in stems.split() for end in _ENDINGS)
    return found


def words_only_in(language: str) -> dict[str, dict[str, list[str]]]:
    """Group → label → words that count in texts of this language alone."""
    return {
        group: {label: text.split() for label, text in labels.items()} for group, labels in ONLY_IN[language].items()
    }


def compound(word: str) -> tuple[str, str] | None:
    """The (group, label) that the first part of a German compound names, in lower case; None if there is none.

    >>> compound("damenschuhe"), compound("gartenschere"), compound("kinderleicht")
    (('audience', 'women'), ('occasion', 'garden'), None)
    """
    found = _COMPOUND.fullmatch(word)
    return _MEANINGS[found.lastindex - 1] if found and found.lastindex else None
