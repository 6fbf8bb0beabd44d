"""The languages of texts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

# The languages that the detector distinguishes. With all 139 of its languages there are 1.5 times as many false alarms:
# short English texts are taken for Latin or Hausa. Norwegian is one language here.
LANGUAGES = (
    "ar be bg bs ca cs da de el en es et eu fa fi fr gl he hi hr hu id is it ja ka kk ko lt lv mk mr ms ne nl no pl pt "
    "ro ru sk sl sq sr sv th tl tr uk ur vi zh"
)
# A language with a smaller share of the texts is more often a false alarm.
_SMALLEST_SHARE = 0.05
# Shorter texts do not tell; a letter that is not Latin tells as much as five.
_MIN_LETTERS = 20
_GREEK = "\u0370"


def frequent_languages(texts: Sequence[str]) -> dict[str, float]:
    """Return the share of texts by language, the most frequent first; languages of few texts are left out.

    >>> frequent_languages(["a red lamp for the garden", "eine rote Lampe für den Garten"])
    {'en': 0.5, 'de': 0.5}
    """
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    long = [text for text in texts if sum(1 if char < _GREEK else 5 for char in text if char.isalpha()) >= _MIN_LETTERS]
    if not long:
        return {}
    identifier = LanguageIdentifier.from_model_file(MODEL_FILE)
    identifier.set_languages(LANGUAGES.split())
    found = Counter(identifier.classify(text.lower())[0] for text in long)
    return {name: times / len(long) for name, times in found.most_common() if times >= _SMALLEST_SHARE * len(long)}
