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
    "purple": "violett", "brown": "braun hellbraun dunkelbraun sandfarben", "multicoloured": "bunt mehrfarbig", "wood": "hölzern",
    "vintage": "nostalgisch antik altmodisch traditionell", "rustic": "rustikal", "romantic": "romantisch", "nautical": "maritim",
    "modern": "modern minimalistisch skandinavisch zeitgenössisch", "sporty": "sportlich", "christmas": "weihnachtlich",
}  # fmt: skip
_OTHER_GROUPS = {"wood": "material", "christmas": "occasion"} | dict.fromkeys(("vintage", "rustic", "romantic", "nautical", "modern", "sporty"), "style")
_ENDINGS = ("", "e", "er", "es", "en", "em")

# "_" joins the words of a phrase, as in `vocabulary`.
_SPACED: dict[str, dict[str, str]] = {
    "colour": {
        "black": "negro negra noir noire", "white": "elfenbein elfenbeinfarben blanco blanca blanc blanche ivoire", "grey": "anthrazit gris grise grises antracita anthracite",
        "silver": "plateado plateada argenté argentée", "gold": "dorado dorada doré dorée",
        "red": "rote roter rotes roten rotem rojo roja granate burdeos rouge grenat", "pink": "rosa rosado rosada fucsia",
        "orange": "naranja orangé", "yellow": "amarillo amarilla jaune", "green": "oliv verde caqui vert verte vertes kaki",
        "turquoise": "turquesa", "blue": "azul azules azul_marino bleu bleue bleues bleu_marine",
        "purple": "lila flieder morado morada violeta violette", "brown": "marrón marrones beis marron", "multicoloured": "farbenfroh multicolor multicolore",
    },
    "material": {
        "wood": "holz massivholz eiche kiefer bambus nussbaum mahagoni madera roble bambú nogal caoba teca bois chêne bambou noyer acajou teck",
        "metal": "metall edelstahl stahl eisen messing kupfer acero acero_inoxidable hierro latón cobre aluminio métal acier inox "
                 "laiton cuivre legierung zink aleación alliage zingué",
        "glass": "glas kristall vidrio cristal verre",
        "ceramic": "keramik porzellan steingut steinzeug cerámica porcelana loza gres céramique porcelaine faïence",
        "plastic": "kunststoff plastik acryl kunstharz plástico acrílico resina plastique acrylique résine",
        "paper": "papier pappe karton papel cartón en_carton",
        "fabric": "baumwolle leinen wolle seide samt filz leinwand mikrofaser elastan algodón lana seda terciopelo fieltro lona de_punto encaje yute pana "
                  "poliéster nailon microfibra coton laine soie velours feutre en_toile de_toile tricoté tricotée dentelle élasthanne polaire mousseline jute",
        "leather": "leder wildleder kunstleder cuero de_piel en_piel gamuza cuir daim peau_de_chamois",
        "rubber": "gummi silikon silicona caucho látex goma_eva caoutchouc",
        "stone": "marmor schiefer beton mármol pizarra granito hormigón marbre ardoise béton",
        "wax": "wachs bienenwachs", "wicker": "weide seegras mimbre ratán esparto osier rotin paille",
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
        "vintage": "nostalgie antiguo antigua nostálgico tradicional rétro ancien ancienne nostalgique traditionnel traditionnelle",
        "floral": "blume blumen blumenmuster geblümt sonnenblume tulpe flores girasol fleur fleurs fleuri fleurie tournesol",
        "rustic": "landhaus landhausstil rústico rústica rustique champêtre",
        "modern": "moderne moderno moderna minimalista nórdico nórdica minimaliste scandinave",
        "romantic": "herz herzen romántico romántica corazón corazones romantique cœur coeur coeurs",
        "whimsical": "einhorn dinosaurier prinzessin unicornio dinosaurio princesa hada licorne dinosaure princesse fée",
        "natural": "schmetterling vogel vögel blätter wald pflanze pflanzen mariposa pájaro pájaros bosque papillon oiseau oiseaux forêt plante plantes",
        "nautical": "anker leuchtturm segelboot muschel muscheln muschelförmig muschelförmige strand marinero ancla velero barco playa ancre voilier bateau plage marin",
        "religious": "kruzifix kirche crucifijo iglesia église",
        "sporty": "fußball rennrad deporte deportivo deportiva fútbol baloncesto de_carreras para_carreras sportif sportive de_course en_course",
    },
    "occasion": {
        "christmas": "weihnachten navidad navideño navideña noël", "easter": "ostern pascua pâques",
        "valentines": "valentinstag san_valentín saint_valentin", "birthday": "geburtstag cumpleaños anniversaire",
        "wedding": "hochzeit braut boda bodas mariage mariée",
        "baby": "babys säugling säuglinge taufe schnuller windel windeln bebé bebés bautizo pañal pañales bébé bébés baptême layette",
        "party": "luftballon luftballons guirnalda guirlande",
        "garden": "garten gärtner gießkanne blumentopf blumentöpfe jardín jardinería maceta macetas regadera jardin jardinage arrosoir",
        "picnic": "picknick brotdose trinkflasche fiambrera pique_nique", "tea time": "teekanne teetasse teeservice tetera théière",
        "bath": "badezimmer dusche seife badewanne zahnbürste baño ducha jabón champú salle_de_bain salle_de_bains savon shampoing "
                "baignoire",
        "school": "schule bleistift federmäppchen radiergummi radiergummis anspitzer escuela escolar lápiz lápices sacapuntas école scolaire cartable gomme gommes taille_crayon",
        "kitchen": "küche kochen backen bratpfanne kochtopf schneidebrett besteck cocina sartén cazuela de_cuisine ustensile ustensiles",
        "sewing": "nähen nähmaschine nähgarn stricken häkeln stickerei costura coser bordado aguja à_coudre aiguille broderie",
        "travel": "reise koffer reisepass rucksack rucksäcke viaje maleta equipaje pasaporte mochila mochilas de_voyage valise bagage passeport sac_à_dos",
        "pets": "haustier haustiere mascota mascotas animal_de_compagnie animaux_de_compagnie",
        "toys": "spielzeug spielsachen brettspiel kuscheltier puppe juguete juguetes muñeca peluche rompecabezas jouet jouets poupée doudou",
    },
}  # fmt: skip

# Words of one language that mean something else in others; "_" and the labels are as above.
ONLY_IN: dict[str, dict[str, dict[str, str]]] = {
    "de": {
        "colour": {"red": "rot bordeaux", "silver": "silber", "turquoise": "petrol", "brown": "camel"},
        "material": {"stone": "stein naturstein", "metal": "blech zinn", "fabric": "stoff"},
    },
    "es": {
        "colour": {"gold": "oro", "silver": "plata", "brown": "camel", "blue": "celeste"},
        "material": {"fabric": "lino tela", "wood": "pino", "stone": "piedra", "wax": "cera"},
        "style": {"floral": "flor"},
    },
    "fr": {
        "colour": {"gold": "or", "silver": "argent", "pink": "rose", "red": "bordeaux", "brown": "camel"},
        "material": {"fabric": "lin", "wood": "pin", "stone": "pierre", "metal": "fer", "ceramic": "grès", "wax": "cire", "paper": "carton"},
    },
}  # fmt: skip

# First parts of German compounds (Damenschuhe, Kinderbett, Hundefutter), and compounds that mean something else.
_COMPOUNDS: dict[str, dict[str, str]] = {
    "colour": {"white": "elfenbein"},
    "material": {
        "wood": "holz eichen kiefern bambus nussbaum", "metal": "metall edelstahl stahl eisen messing kupfer aluminium", "glass": "glas(?!s(?!ch|p|t)|go|no|e|ur|fa|fi|ke|wo) kristall",
        "ceramic": "keramik porzellan", "plastic": "kunststoff plastik acryl", "paper": "papier papp(?=[bkmst]) karton",
        "fabric": "baumwoll leinen woll(?=[dhjkmps]) seiden samt filz jute mikrofaser", "leather": "leder kunstleder", "rubber": "gummi silikon",
        "stone": "marmor granit schiefer", "wicker": "rattan",
    },
    "audience": {
        "children": "kinder mädchen jungen", "women": "damen", "men": "herren", "babies": "baby säuglings",
        "pets": "hunde katzen haustier welpen",
    },
    "style": {"floral": "blumen", "nautical": "anker strand", "sporty": "fußball renn"},
    "occasion": {
        "christmas": "weihnachts", "easter": "oster", "birthday": "geburtstags", "wedding": "hochzeits braut",
        "garden": "garten", "picnic": "picknick", "tea time": "teekannen", "bath": "bade", "school": "schul bleistift",
        "kitchen": "küchen", "travel": "reise", "toys": "spielzeug",
    },
}  # fmt: skip
_OTHER_COMPOUNDS = (
    "kinderleicht kinderlos jungenhaft herrenlos herrenhaus herrenhäuser herrentorte hundert hundekalt hundemüde katzenauge "
    "babyblau babyrosa babylon babydoll babyspinat babysitter babysitting babybel babyliss blumenkohl ankerkraut schulter reisessig "
    "reisend gartenkresse gartensalat badeanzug bademode badehose badeshorts badeort badenburg baden brautpaste ostern osteria osteo "
    "holzkohle eisenhower eisenbahn metallic papierkorb papierformat papierfach papierstau papierkram plastiktüte "
    "filzstift gummibär gummibar gummibe gummiband kristallklar rennen rennst stranding kartonage kartonier strandkorb seidenmatt seidenglänz samtig samtweich "
    "stahlblau stahlgrau kupferstich leinensamen"
)
# Last parts that say what a product is made for, not of: Lederpflege, Glasreiniger, Holzbohrer, Papierhalter.
_NOT_MADE_OF = (
    "reiniger pflege politur leim kleber lack lasur öl schutz bohrer säge schraube schrauben dübel farbe farben spray fett creme beize balsam halter "
    "spender schneider presse größe verarbeitung optik look imitat design effekt"
)
# Last parts of compounds that are made of it: Weinglas, Teakholz, Knochenporzellan.
_LAST_PARTS: dict[str, dict[str, str]] = {
    "material": {
        "wood": "holz", "glass": "glas gläser gläsern", "ceramic": "porzellan keramik", "leather": "leder", "metal": "stahl metall",
        "plastic": "kunststoff", "paper": "papier karton", "fabric": "wolle leinen", "rubber": "kautschuk", "stone": "marmor granit",
    }
}  # fmt: skip
_OTHER_LAST_PARTS = "diebstahl fernglas ferngläser opernglas vergrößerungsglas brennholz stahlwolle glaswolle edelmetall toilettenpapier backpapier schleifpapier sandpapier fensterleder douglas fiberglas"
_SHORTEST_COMPOUND = 7
_MEANINGS = [(group, label) for group, labels in _COMPOUNDS.items() for label in labels]
_COMPOUND = regex.compile(
    rf"(?!{'|'.join(_OTHER_COMPOUNDS.split())})(?:"
    + "|".join(f"({'|'.join(words.split())})" for labels in _COMPOUNDS.values() for words in labels.values())
    + rf")\p{{L}}{{3,}}(?<!{'|'.join(_NOT_MADE_OF.split())})"
)
_LAST_MEANINGS = [(group, label) for group, labels in _LAST_PARTS.items() for label in labels]
_LAST_PART = regex.compile(
    rf"(?!(?:{'|'.join(_OTHER_LAST_PARTS.split())})$)\p{{L}}{{3,}}(?:"
    + "|".join(f"({'|'.join(words.split())})" for labels in _LAST_PARTS.values() for words in labels.values())
    + ")"
)

# Found anywhere in a text, the longest first: single characters that are parts of other words are left out.
UNSPACED: dict[str, dict[str, str]] = {
    "colour": {
        "black": "黑色 纯黑 黒色 黒い 黒皮 黒革 ブラック", "white": "白色 纯白 米白 乳白 奶白 象牙白 白い 生成り 乳白色 ホワイト オフホワイト アイボリー",
        "grey": "灰色 浅灰 深灰 雾霾灰 グレー チャコール", "silver": "银色 銀色 シルバー", "gold": "金色 香槟金 ゴールド",
        "red": "红色 紅色 大红 酒红 枣红 中国红 正红 赤い 赤色 レッド ワインレッド ボルドー エンジ", "pink": "粉色 粉红 粉紅 桃红 玫红 藕粉 浅粉 樱花粉 桃色 ピンク",
        "orange": "橙色 橘色 オレンジ色", "yellow": "黄色 姜黄 柠檬黄 明黄 黄色い イエロー マスタード色", "green": "绿色 綠色 墨绿 军绿 草绿 薄荷绿 果绿 豆绿 緑色 黄緑 グリーン カーキ",
        "turquoise": "青绿 湖蓝 孔雀蓝 蒂芙尼蓝 ターコイズ 水色", "blue": "蓝色 藍色 藏青 天蓝 深蓝 宝蓝 浅蓝 星空蓝 雾霾蓝 克莱因蓝 湛蓝 藏蓝 海军蓝 青い 青色 ブルー ネイビー 紺色",
        "purple": "紫色 香芋紫 薰衣草紫 パープル バイオレット ラベンダー色", "brown": "棕色 咖啡色 咖色 米色 驼色 杏色 焦糖色 卡其 褐色 茶色 キャメル ブラウン ベージュ", "multicoloured": "彩色 多色 撞色 混色 マルチカラー 虹色",
    },
    "material": {
        "wood": "实木 實木 木质 木質 原木 竹制 竹製 松木 橡木 胡桃木 樱桃木 红木 榉木 柚木 桦木 檀木 黑檀 檀香木 木製 天然木 オーク ウォールナット チーク材 マホガニ",
        "metal": "不锈钢 不鏽鋼 合金 铝制 铝镁 全铝 铸铁 铁艺 铁制 黄铜 纯铜 钢材 钢制 碳钢 钢结构 珐琅 琺瑯 搪瓷 锌合金 ステンレス アルミ 鉄製 錬鉄 真鍮 真ちゅう 亜鉛 "
                 "銅製 スチール ホーロー",
        "glass": "玻璃 水晶 琉璃 ガラス クリスタル", "ceramic": "陶瓷 骨瓷 白瓷 青瓷 瓷器 粗陶 紫砂 陶器 磁器 セラミック 陶磁器 有田焼 美濃焼 波佐見焼",
        "plastic": "塑料 塑膠 亚克力 树脂 プラスチック アクリル 樹脂",
        "paper": "牛皮纸 卡纸 纸质 纸张 硬纸 纸板 纸盒 纸箱 纸袋 纸杯 紙製 和紙 段ボール 紙袋 紙コップ メモ用紙 コピー用紙 画用紙 折り紙 厚紙",
        "fabric": "纯棉 純棉 全棉 棉质 棉麻 长绒棉 水洗棉 精梳棉 棉布 棉纱 亚麻 丝麻 天丝 莫代尔 羊毛 羊绒 羊羔毛 羊羔绒 真丝 蚕丝 丝绸 纱布 珊瑚绒 法兰绒 摇粒绒 灯芯绒 "
                  "雪纺 涤纶 聚酯纤维 锦纶 尼龙 氨纶 莱卡 腈纶 丙烯酸纤维 针织 蕾丝 绒布 帆布 牛仔布 牛仔裤 牛仔短裤 牛仔裙 牛仔衣 牛仔外套 纱帘 綿100 コットン リネン ウール シルク "
                  "デニム フリース ニット ナイロン ポリエステル マイクロファイバー スパンデックス ライクラ キャンバス 化学繊維 化繊 ガーゼ",
        "leather": "真皮 牛皮 皮革 皮质 麂皮 羊皮 本革 レザー 牛革 合皮 皮製 革製 シャモア スエード", "rubber": "硅胶 矽膠 橡胶 橡皮 シリコン ゴム製 天然ゴム ゴム手袋 ゴム底 ラバー",
        "stone": "大理石 花岗岩 岩板 石製", "wax": "蜂蜡 大豆蜡 蜜蝋", "wicker": "藤编 藤椅 藤制 竹编 柳编 草编 草帽 草席 蔺草 ラタン 籐 い草",
    },
    "audience": {
        "children": "儿童 兒童 小孩 小朋友 孩子 男童 女童 男孩 女孩 童装 童裝 童鞋 婴童 嬰童 幼儿园 子供 子ども こども 児童 男の子 女の子 小学生 "
                    "キッズ ボーイズ ガールズ",
        "women": "女士 女式 女用 女款 女装 女裝 女鞋 女包 女性 女人 妇女 孕妇 婦人 レディース ウィメンズ ウイメンズ マタニティ",
        "men": "男士 男式 男用 男款 男装 男裝 男鞋 男包 男性 男人 紳士 メンズ",
        "babies": "婴儿 嬰兒 婴幼儿 婴童 嬰童 男婴 女婴 幼儿 宝宝 寶寶 新生儿 赤ちゃん 乳児 幼児 新生児 ベビー",
        "pets": "宠物 寵物 狗粮 猫粮 貓糧 猫砂 狗窝 猫窝 猫抓板 犬用 猫用 鳥用 愛犬 愛猫 犬小屋 犬用おむつ 狗狗 萌宠 ペット ドッグフード キャットフード",
    },
    "style": {
        "vintage": "复古 復古 古风 怀旧 懷舊 古典 中古 ヴィンテージ ビンテージ レトロ アンティーク",
        "floral": "碎花 花卉 花朵 绣球花 玫瑰 牡丹 郁金香 向日葵 樱花 花柄 桜柄 ひまわり",
        "rustic": "田园 田園 乡村 做旧 カントリー", "modern": "现代风 現代風 简约 簡約 极简 北欧 工业风 モダン ミニマル",
        "romantic": "爱心 愛心 心形 浪漫 情侣 ハート柄 ハート型", "whimsical": "卡通 独角兽 恐龙 童话 可爱 ユニコーン 恐竜 プリンセス 妖精",
        "natural": "森系 树叶 蜻蜓 蝴蝶 小鸟 森林 植物柄 リーフ柄 人工植物 観葉植物", "nautical": "海洋风 海魂 水手 航海 船锚 地中海风 沙滩 灯台",
        "religious": "佛像 佛珠 十字架 仏像 数珠", "sporty": "运动 運動 足球 篮球 网球 羽毛球 瑜伽 健身 比赛 竞赛 赛车 スポーツ サイクリング 競技用 レース用 ランニング サッカー テニス ヨガ ゴルフ",
    },
    "occasion": {
        "christmas": "圣诞 聖誕 クリスマス", "easter": "复活节 復活節 イースター", "halloween": "万圣节 萬聖節 ハロウィン",
        "valentines": "情人节 情人節 七夕 バレンタイン", "birthday": "生日 誕生日 バースデー",
        "wedding": "婚礼 婚禮 结婚 婚庆 新娘 伴娘 結婚式 ウェディング ウエディング",
        "baby": "婴儿 嬰兒 婴幼儿 婴童 嬰童 男婴 女婴 宝宝 寶寶 新生儿 尿不湿 纸尿裤 赤ちゃん 新生児 出産祝い おむつ ベビー",
        "party": "派对 派對 聚会 气球 パーティー", "garden": "园艺 園藝 花盆 庭院 浇水壶 洒水壶 園芸 植木鉢 プランター じょうろ ガーデニング",
        "picnic": "野餐 便当盒 饭盒 水瓶 ピクニック 弁当箱 水筒", "tea time": "茶具 茶壶 茶壺 茶杯 茶盘 下午茶 盖碗 紫砂壶 公道杯 急須 湯呑 ティーポット ティーカップ",
        "bath": "浴室 沐浴 洗澡 牙刷 牙膏 洗发水 浴巾 毛巾 面巾 浴袍 香皂 お風呂 入浴剤 歯ブラシ 石鹸 シャンプー シャワー ボディソープ バスタオル",
        "school": "文具 铅笔 鉛筆 校服 书包 橡皮擦 开学 学生 文房具 筆箱 ランドセル 消しゴム",
        "kitchen": "厨房 廚房 厨具 厨师 锅具 汤锅 煎锅 奶锅 平底锅 不粘锅 高压锅 珐琅锅 菜刀 炒锅 铁锅 砂锅 蒸笼 砧板 菜板 锅铲 烘焙 餐具 キッチン 台所 包丁 フライパン まな板",
        "sewing": "缝纫 針線 针线 刺绣 毛线 十字绣 裁縫 ミシン 手芸 刺繍 毛糸", "travel": "旅行 旅游 出行 登机 拉杆箱 双肩包 行李箱 护照 トラベル リュック スーツケース パスポート",
        "pets": "宠物 寵物 狗粮 猫粮 貓糧 猫砂 狗窝 猫窝 猫抓板 犬用 猫用 鳥用 愛犬 愛猫 犬小屋 犬用おむつ 狗狗 萌宠 ペット ドッグフード キャットフード",
        "toys": "玩具 积木 積木 拼图 桌游 公仔 玩偶 おもちゃ 積み木 パズル ぬいぐるみ ボードゲーム",
    },
}  # fmt: skip

# Characters that count where no other character of a word is beside them.
SINGLE: dict[str, tuple[str, str]] = {
    "黑": ("colour", "black"), "黒": ("colour", "black"), "白": ("colour", "white"), "灰": ("colour", "grey"), "银": ("colour", "silver"),
    "金": ("colour", "gold"), "红": ("colour", "red"), "紅": ("colour", "red"), "赤": ("colour", "red"), "橙": ("colour", "orange"),
    "黄": ("colour", "yellow"), "绿": ("colour", "green"), "緑": ("colour", "green"), "蓝": ("colour", "blue"), "青": ("colour", "blue"),
    "紺": ("colour", "blue"), "紫": ("colour", "purple"), "棕": ("colour", "brown"), "茶": ("colour", "brown"),
    "钢": ("material", "metal"), "铝": ("material", "metal"), "锌": ("material", "metal"), "铜": ("material", "metal"), "铁": ("material", "metal"),
    "木": ("material", "wood"), "革": ("material", "leather"), "綿": ("material", "fabric"), "棉": ("material", "fabric"),
}  # fmt: skip

# Words that do not count, nor do the words in them: unisex, baby pink, plastic bottles, out of reach of children.
UNSPACED_WITHOUT = (
    "灯台灯 彩色打印 彩色激光 彩色喷墨 彩色显示 彩色屏 玻璃纤维 面巾纸 橡皮泥 橡皮筋 大人用おむつ 介護用おむつ 成人纸尿裤 成人尿不湿 グラスファイバー ガラス繊維 スクラバー 玫瑰金 向日葵籽 男女款 男女装 男女鞋 男女式 男女同款 男女通用 婴儿蓝 婴儿粉 儿童不宜 儿童接触不到 儿童触及 ベビーブルー ベビーピンク ベビーリーフ "
    "ベビーチーズ ペットボトル"
)


def words() -> dict[str, dict[str, list[str]]]:
    """Group → label → words of languages with spaces between words."""
    found = {group: {label: text.split() for label, text in labels.items()} for group, labels in _SPACED.items()}
    for label, stems in _GERMAN_ADJECTIVES.items():
        group = _OTHER_GROUPS.get(label, "colour")
        found[group].setdefault(label, []).extend(f"{stem}{end}" for stem in stems.split() for end in _ENDINGS)
    return found


def words_only_in(language: str) -> dict[str, dict[str, list[str]]]:
    """Group → label → words that count in texts of this language alone."""
    return {
        group: {label: text.split() for label, text in labels.items()} for group, labels in ONLY_IN[language].items()
    }


def compound(word: str) -> tuple[str, str] | None:
    """The (group, label) that a part of a German compound names, in lower case; None if there is none.

    >>> compound("damenschuhe"), compound("gartenschere"), compound("kinderleicht")
    (('audience', 'women'), ('occasion', 'garden'), None)
    >>> compound("keramikteller"), compound("weinglas"), compound("glasreiniger")
    (('material', 'ceramic'), ('material', 'glass'), None)
    """
    if len(word) < _SHORTEST_COMPOUND:
        return None
    if found := _COMPOUND.fullmatch(word):
        return _MEANINGS[found.lastindex - 1] if found.lastindex else None
    found = _LAST_PART.fullmatch(word)
    return _LAST_MEANINGS[found.lastindex - 1] if found and found.lastindex else None
