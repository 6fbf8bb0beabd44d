"""Passwords, one-time codes, keys and tokens."""

from __future__ import annotations

from collections.abc import Iterator

import regex

from coldstart_udfs.text.characters import LETTER
from coldstart_udfs.text.redaction.scripts import CJK, Span, has_any

_PARAMETERS = (
    r"(?:access_?|auth_?|refresh_?|id_?|session_?|csrf_?)?token|api[_-]?key|apikey|access_?key|secret(?:_?key)?|client_?secret|"
    r"password|passwd|passwort|pwd|signature|sig|auth|session(?:_?id)?|sid|otp|key|code"
)
_URL_USER = regex.compile(r"(?<![a-z0-9])[a-z][a-z0-9+.-]{1,20}://([^\s/@:?#]{1,128}:[^\s/@?#]{1,128})@", regex.I)
_URL_SECRET = regex.compile(rf"[?&#;](?:{_PARAMETERS})=([^\s&#;\"'<>)\]{CJK}]{{3,}})", regex.I)
# passwd=…, client_secret=…, AWS_SECRET_ACCESS_KEY=…
_ASSIGNED = regex.compile(
    rf"(?:secret|token|passw(?:or)?d|passwort|pwd|(?:api|access|private|account)[_-]?key)[\w-]{{0,20}}[\"']?\s?=\s?[\"']?"
    rf"([^\s\"'<>&;,{CJK}]{{4,}})",
    regex.I,
)

_WORDS = (
    r"password|passwd|passwort|kennwort|pass ?code|pass ?phrase|pwd|pw|mot de passe|mdp|contrase[nñ]a|clave|senha|"
    r"wachtwoord|hasło|пароль"
)
_KEYS = r"api[ _-]?key|api-schlüssel|clé api|clave api|secret key|client secret|access token|token|bearer"
_WORDS_CJK = r"密码|密碼|口令|密[钥鑰]|令牌|パスワード|パスコード|トークン|APIキー|비밀번호"
# These mean other things too: only with a sign after them.
_SHORT = r"(?:pass|secret)(?=[\"']?\s?[:=])|pass(?=\s(?:is|was)\s)|x-api-key"
_STARTS = rf"(?<![{LETTER}-])(?:{_WORDS}|{_KEYS})(?![{LETTER}])"
_VALUE = rf"[^\s\"'”“»„«,;<>{CJK}]"
# With a digit or a sign, as words have none.
_STRONG = rf"(?={_VALUE}{{0,128}}(?:\d|[_#$%&@+=!*^](?!\s|$))){_VALUE}{{4,128}}"
_VALUE_END = rf"(?=[\"'”“»,;<>{CJK}]|[.?]?(?:\s|$))"
# "my password is hunter2". The word that follows must not be a common word in questions about passwords.
_SAID = regex.compile(
    rf"{_STARTS}(?:\s+(?:is|was)\b\s*:?|[\"']?\s*[:=]|(?<=bearer))\s*[\"'“„«]?"
    r"(?!(?:not|no|too|so|very|wrong|right|incorrect|expired|required|needed|the|a|an|my|being|been|still|always|never|"
    r"denied|rejected|refused|blocked|hacked|stolen|compromised|leaked|sent|saved|entered|accepted|typed|gone|"
    r"what|why|how|that|this|in|on|for|to|case|case-sensitive|weak|strong|invalid|correct|lost|forgotten|reset|changed|"
    r"only|just|now|is|vergessen|falsch|ungültig|oublié|incorrecte?|incorrecta|olvidada|erronée?|basic|bearer)\b)"
    rf"({_VALUE}{{3,128}}?){_VALUE_END}",
    regex.I,
)
# The same in other languages, after "changed to" and without a verb: only what no word looks like.
_SAID_STRONG = regex.compile(
    rf"(?:{_STARTS}|(?<![{LETTER}-])(?:{_SHORT}))(?:[ ](?:[^\s.,:;!?]+[ ]){{0,4}}?(?:is|was|ist|war|lautet|est|était|c'est|es|era|fue|é|to|to be|auf|in|zu|a|en|pour|por|als)[ :](?:[^\s.,:;!?\d]+[ ])?"
    rf"|(?:[ ][^\s.,:;!?\d]+){{0,3}}\s?[:=]|[\"']?\s*[:=]?)\s*[\"'“„«]?({_STRONG}?){_VALUE_END}",
    regex.I,
)  # fmt: skip
_QUOTED = regex.compile(
    rf"{_STARTS}(?:\s+(?:is|was|ist|war|lautet|est|es|era)\b\s*:?|[\"']?\s*[:=]|(?=\s))\s*[\"“„«]\s?([^\"”“»<>\n]{{3,64}}?)\s?[\"”“»]", regex.I
)
_AUTHORIZATION = regex.compile(r"authorization:?\s+(?:basic|bearer|token|digest)\s+([A-Za-z0-9+/=._~-]{4,})", regex.I)
_BESIDE = regex.compile(
    rf"(?:{_WORDS_CJK})(?:[是为為就了在被成改变變换換设設置重已は]|が|を|に|입니다|는|은|\s|[:=「『\"']){{0,6}}({_STRONG}?){_VALUE_END}", regex.I
)
_EXCHANGED = regex.compile(
    rf"(?:密[码碼]|パスワード)\s?[从由を]\s?({_STRONG}?)\s?(?:改成|改为|变成|换成|から)\s?(?:了\s?)?({_STRONG}?){_VALUE_END}", regex.I
)
_LOGIN = regex.compile(
    rf"(?<![{LETTER}])(?:zugangsdaten|credentials|login(?: data| details)?|identifiants|credenciales)\s*:?\s*[\w.@-]{{2,40}}"
    rf"\s*/\s*({_STRONG}?){_VALUE_END}",
    regex.I,
)
_CODE_WORDS = (
    rf"(?<![{LETTER}\d-])(?:pin(?:[ -]?code|[ -]?nummer)?|(?:my|mein|mon|mi) code|code pin|código pin|otp|cvv2?|cvc2?|"
    r"(?:one[ -]time|verification|security|confirmation|login|access) (?:pass)?code|"
    r"code de (?:v[ée]rification|s[ée]curit[ée]|confirmation)|c[óo]digo de (?:verificaci[óo]n|seguridad|confirmaci[óo]n)|"
    rf"(?:karten)?prüf(?:nummer|ziffer)|sms[ -]?code|code sms|código sms|bestätigungscode|sicherheitscode|prüfcode|clave|passwor[dt]|contrase[nñ]a|mot de passe|(?-i:m?TAN))(?![{LETTER}])"
)
_CODE_WORDS_CJK = r"验证码|驗證碼|校验码|动态码|密码|密碼|暗証番号|認証(?:コード|番号)|確認コード|인증번호"
_CODE = regex.compile(
    rf"(?:{_CODE_WORDS}[ ]?(?:[ ](?:is|was|ist|war|lautet|est|était|es|era)[ ](?:(?:el|la|le|der|die|the)[ ])?)?|(?:{_CODE_WORDS_CJK})\s?[是为為は]?)\s*[:=]?\s*"
    rf"(\d{{3,8}})(?![{LETTER}\d]|[.,-]\d|\s?(?:[-x×/]\s?\d|mm|cm|g|kg|ml|pieces|pcs)|[个個位字文桁])",
    regex.I,
)

_TOKEN = regex.compile(
    r"(?<![A-Za-z0-9_-])(?:sk-(?:[a-z]+-)?[A-Za-z0-9_-]{8,}|[sr]k_(?:live|test)_[A-Za-z0-9]{8,}|whsec_[A-Za-z0-9]{8,}|"
    r"gh[pousr]_[A-Za-z0-9]{8,}|github_pat_[A-Za-z0-9_]{8,}|gl(?:pat|dt|rt|soat|cbt)-[A-Za-z0-9_-]{8,}|"
    r"xox[abeoprs]-[A-Za-z0-9-]{8,}|xapp-[A-Za-z0-9-]{8,}|(?:AKIA|ASIA)[A-Z0-9]{12,}|AIza[A-Za-z0-9_-]{20,}|"
    r"ya29\.[A-Za-z0-9_-]{20,}|GOCSPX-[A-Za-z0-9_-]{8,}|hf_[A-Za-z0-9]{16,}|npm_[A-Za-z0-9]{16,}|pypi-[A-Za-z0-9_-]{16,}|"
    r"rubygems_[a-f0-9]{16,}|dckr_pat_[A-Za-z0-9_-]{8,}|SG\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}|key-[a-f0-9]{32}|"
    r"shp(?:at|ca|pa|ss)_[a-fA-F0-9]{8,}|do[opr]_v1_[a-f0-9]{8,}|sq0[a-z]{3}-[A-Za-z0-9_-]{8,}|EAAC[A-Za-z0-9]{16,}|"
    r"(?:AC|SK)[0-9a-f]{32}|ATATT[A-Za-z0-9_=-]{16,}|lin_api_[A-Za-z0-9]{8,}|figd_[A-Za-z0-9_-]{8,}|r8_[A-Za-z0-9]{16,}|"
    r"gsk_[A-Za-z0-9]{16,}|xai-[A-Za-z0-9]{16,}|nvapi-[A-Za-z0-9_-]{16,}|glsa_[A-Za-z0-9_]{16,}|hvs\.[A-Za-z0-9_-]{16,}|"
    r"NRAK-[A-Z0-9]{16,}|PMAK-[a-f0-9-]{16,}|tskey-[A-Za-z0-9-]{8,}|AGE-SECRET-KEY-1[A-Z0-9]{16,}|"
    r"eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{4,}\.[A-Za-z0-9_-]*|0x[0-9a-fA-F]{64}(?![A-Za-z0-9]))"
)
_TOKEN_SIGN = regex.compile(r"[A-Za-z0-9][_.-][A-Za-z0-9]|-----BEGIN|A[KS]IA|AIza|EAAC|AC[0-9a-f]|SK[0-9a-f]|0x")
# A key file to its last line, or as far as it goes.
_KEY_FILE = regex.compile(
    r"-----BEGIN [A-Z0-9 ]{0,30}PRIVATE KEY(?: BLOCK)?-----(?:[A-Za-z0-9+/=\s\\:,.]|-(?!----))*+"
    r"(?:-----END [A-Z0-9 ]{0,30}PRIVATE KEY(?: BLOCK)?-----)?"
)


# What stands in every text that the patterns of words match.
_WORD_HINTS = (
    "pass", "kennwort", "pwd", "pw", "mot de", "mdp", "contrase", "clave", "senha", "wachtwoord", "hasło", "пароль", "api", "secret",
    "token", "bearer", "authorization", "private", "access", "account", "密", "口令", "令牌", "パス", "トークン", "비밀", "login", "zugangsdaten", "credenc", "credent",
    "identifiant",
)  # fmt: skip
_CODE_HINTS = (
    "pin", "otp", "cv", "code", "código", "codigo", "clave", "pass", "contrase", "tan", "码", "碼", "番号", "コード", "인증",
)  # fmt: skip


def url_secret_spans(text: str) -> Iterator[Span]:
    """Users with passwords, and keys among the parameters, of web addresses."""
    if "=" in text or "://" in text:
        for pattern in (_URL_USER, _URL_SECRET):
            for found in pattern.finditer(text):
                if found[1] != "<SECRET>":
                    yield *found.span(1), "SECRET"


def secret_spans(text: str) -> Iterator[Span]:
    """Tokens by their prefix; passwords, codes and keys after their word."""
    for pattern in (_KEY_FILE, _TOKEN) if _TOKEN_SIGN.search(text) else ():
        for found in pattern.finditer(text):
            stop = found.end()
            while text[stop - 1].isspace():
                stop -= 1
            yield found.start(), stop, "SECRET"
    patterns = (_CODE,) if has_any(text, _CODE_HINTS) else ()
    if has_any(text, _WORD_HINTS):
        patterns = (_ASSIGNED, _AUTHORIZATION, *patterns, _QUOTED, _SAID, _SAID_STRONG, _EXCHANGED, _BESIDE, _LOGIN)
    for pattern in patterns:
        for found in pattern.finditer(text):
            for group in range(1, pattern.groups + 1):
                yield *found.span(group), "SECRET"
