"""Words that hold a sentence together and name nothing: articles, pronouns, prepositions, conjunctions, auxiliaries."""

from __future__ import annotations

from collections.abc import Sequence

_ENGLISH = """
a an the this that these those i me my mine myself you your yours yourself he him his himself she her hers herself it
its itself we us our ours ourselves they them their theirs themselves who whom whose which what where when why how and
or but nor if then than as of at by for with about between into through during before after to from in on over under
again further once here there all any both each few more most other some such no not only own same so too very just
also is am are was were be been being have has had having do does did doing will would shall should can could may
might must i'm i've i'd i'll you're you've he's she's it's we're we've they're they've that's there's don't doesn't
didn't can't won't isn't aren't wasn't
"""
_GERMAN = """
der die das den dem des ein eine einen einem einer eines ich mich mir mein meine meinen meinem meiner du dich dir dein
deine deinen er ihn ihm sein seine seinen seinem seiner sie ihr ihre ihren ihrem ihrer es wir uns unser unsere unseren
euch euer eure man sich wer wen wem wessen was welche welcher welches wo wann warum wie und oder aber denn weil dass
ob wenn als auch nicht nur noch schon sehr so zu zum zur von vom bei beim mit nach aus in im ins an am ans auf für
über unter vor durch gegen ohne um bis seit zwischen bin bist ist sind seid war waren gewesen habe hast hat haben habt
hatte hatten werde wirst wird werden wurde wurden kann können konnte muss müssen soll sollen will wollen darf dürfen
mag mögen möchte dieser diese dieses diesen diesem jeder jede jedes kein keine keinen hier dort
"""
_SPANISH = """
el la los las lo un una unos unas yo me mí mi mis mío tú te ti tu tus él ella ello le les se su sus suyo nosotros
nosotras nos nuestro nuestra nuestros nuestras vosotros os vuestro usted ustedes ellos ellas que qué quien quién
quienes cual cuál cuales donde dónde cuando cuándo como cómo y e o u pero sino porque si de del a al en con por para
sin sobre entre hasta desde hacia durante este esta estos estas esto ese esa esos esas eso aquel aquella no ni ya muy
más menos también solo tan soy eres es somos son era eran fue ser sido estoy estás está estamos están estaba estar he
has ha hemos han había haber tengo tiene tienen tener voy va vamos van hay todo toda todos todas algún alguna otro
otra
"""
_FRENCH = """
le la les un une des du de je me moi mon ma mes mien tu te toi ton ta tes il lui son sa ses elle on nous notre nos
vous votre vos ils elles leur leurs se soi qui que quoi dont où quand comment pourquoi quel quelle quels quelles et ou
mais ni car si comme donc parce puisque à au aux en dans avec par pour sans sur sous entre vers chez depuis pendant
avant après ce cet cette ces ça cela ceci celui celle ceux y ne pas plus moins très trop aussi bien suis es est sommes
êtes sont étais était étaient être été ai as a avons avez ont avais avait avoir vais va vont tout toute tous toutes
autre même j'ai j'aime c'est d'un d'une l'on qu'il qu'elle qu'on n'est n'ai
"""
_CHINESE = """
的 了 着 过 地 得 是 不 没 没有 也 都 就 还 又 很 太 更 最 我 你 您 他 她 它 我们 你们 他们 她们 自己 这 那 这个 那个
这些 那些 哪 什么 谁 怎么 和 与 或 跟 及 而 但 但是 因为 所以 如果 在 从 到 对 为 给 把 被 让 向 于 以 之 吗 呢 吧 啊
要 会 能 可以 有 个 一 一个 一些 刚 正在
"""
_JAPANESE = """
てい る は が を に へ で と も の や から まで より だ です ます でし でした まし ました である いる い ある あり
する し した て た ない なかっ なく な か ね よ これ それ あれ この その あの ここ そこ 私 僕 俺 あなた 彼 彼女 ため
ので けど しかし そして また とても もっと こと もの よう
"""
FUNCTION_WORDS = {
    language: frozenset(words.split())
    for language, words in (
        ("en", _ENGLISH), ("de", _GERMAN), ("es", _SPANISH), ("fr", _FRENCH), ("zh", _CHINESE), ("ja", _JAPANESE)
    )
}  # fmt: skip
# One word of a list does not make a sentence: "car" is French for "because".
_OF_A_SENTENCE = 2


def content_words(words: Sequence[str]) -> list[str]:
    """The words of a sentence that name something, in order.

    The language is the one that most of the function words are of: English, German, Spanish, French, Chinese or
    Japanese. A text with fewer than two of them, or with nothing else, is no sentence and keeps all its words.

    Args:
        words: of one text, as `tokens` gives them.

    >>> content_words(["i", "run", "a", "small", "garden", "cafe"])
    ['run', 'small', 'garden', 'cafe']
    >>> content_words(["car", "wash"])
    ['car', 'wash']
    """
    counts = {language: sum(word in known for word in words) for language, known in FUNCTION_WORDS.items()}
    language = max(counts, key=lambda one: counts[one])
    if counts[language] < _OF_A_SENTENCE:
        return list(words)
    left = [word for word in words if word not in FUNCTION_WORDS[language]]
    return left or list(words)
