"""German translations of the most frequent words in Online Retail's product texts, for the robustness benchmark.

Words that are the same in both languages (set, design, retro, party) are omitted.
"""

from __future__ import annotations

_PAIRS = """
pink rosa; of aus; blue blau; heart herz; vintage nostalgie; red rot; glass glas; bag tasche; white weiß;
christmas weihnachten; box schachtel; flower blume; metal metall; small klein; holder halter; light licht;
black schwarz; candle kerze; rose rosen; green grün; retrospot retropunkt; hanging hängend; large groß;
decoration dekoration; silver silber; necklace halskette; cake kuchen; card karte; paper papier; wall wand; with mit;
and und; in im; garden garten; pack packung; bracelet armband; mug becher; polkadot punktmuster; cover hülle;
sign schild; wrap geschenkpapier; ivory elfenbein; assorted sortiert; art kunst; egg ei; tea tee; love liebe;
tree baum; bowl schale; cushion kissen; star stern; crystal kristall; cream creme; gift geschenk; easter ostern;
earrings ohrringe; mirror spiegel; wooden hölzern; zinc zink; home zuhause; frame rahmen; clock uhr; bird vogel;
ceramic keramik; french französisch; tin dose; bottle flasche; hook haken; candles kerzen; garland girlande;
diamante strass; wood holz; photo foto; key schlüssel; purple lila; dolly püppchen; tray tablett; girl mädchen;
felt filz; enamel emaille; butterfly schmetterling; antique antik; fairy fee; round rund; colour farbe;
lights lichter; bead perle; tile fliese; cup tasse; jar glasdose; hearts herzen; letter buchstabe;
notebook notizbuch; painted bemalt; stand ständer; charm anhänger; drawer schublade; sweetheart liebling;
plate teller; birthday geburtstag; hot heiß; rabbit kaninchen; cases etuis; cutlery besteck; water wasser;
kit bausatz; doormat fußmatte; woodland wald; kitchen küche; table tisch; flowers blumen; hair haar;
incense räucherstäbchen; childrens kinder; jumbo riesig; chocolate schokolade; gingham karo; magic zauber;
pantry speisekammer; tube röhre; daisy gänseblümchen; purse geldbörse; yellow gelb; spot punkt; drop tropfen;
lunch mittagessen; sweet süß; cabinet schrank; magnets magnete; storage aufbewahrung; pencils bleistifte;
strawberry erdbeere; pot topf; coffee kaffee; door tür; basket korb; bunny häschen; number zahl; on auf; wire draht;
book buch; trinket schmuckstück; tins dosen; reel rolle; shell muschel; knob knauf; ribbon schleife; dog hund;
baroque barock; pen stift; cat katze; skull totenkopf; skulls totenköpfe; wicker weide; leaf blatt;
stickers aufkleber; acrylic acryl; dish schüssel; ribbons schleifen; dinner abendessen; style stil; floral geblümt;
lantern laterne; square quadratisch; warmer wärmer; doily deckchen; tape klebeband; toy spielzeug; hanger bügel;
tissues taschentücher; english englisch; shape form; cherry kirsche; blossom blüte; bell glocke; boxes schachteln;
classic klassisch; jam marmelade; cosy gemütlich; botanical botanisch; cards karten; hen henne; travel reise;
new neu; parasol sonnenschirm
"""

GERMAN = dict(pair.split() for pair in _PAIRS.split(";"))
