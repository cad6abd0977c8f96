"""Personal names: one spelling for what looks the same, and a key without titles for comparing.

The stored form keeps what the person wrote, title included. Only differences that no reader can
see are removed: width, zero-width characters, and the several code sequences with which Thai
keyboards and old systems write one syllable.
"""

import re
import unicodedata
from typing import Final

from members.normalise.result import Formats, Normal, Normalised, Refused
from members.normalise.text import says_nothing, single_line

MAX_NAME_CHARS: Final = 200
_WITHOUT_LOOK: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zs", "Zl", "Zp"})

_TONE: Final = "\u0e48-\u0e4b"
_VOWEL_ABOVE: Final = "\u0e31\u0e34-\u0e37\u0e47"
_MARKS: Final = "\u0e31\u0e34-\u0e39\u0e47-\u0e4c"
# In the order in which they must run: NFKC takes sara am apart, so it is put together last.
_THAI_SPELLINGS: Final = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        ("\u0e40\u0e40", "\u0e41"),  # two sara e typed for sara ae
        (f"([{_TONE}\u0e4c])([{_VOWEL_ABOVE}\u0e38\u0e39])", r"\2\1"),  # mark before its vowel
        (f"([{_TONE}{_VOWEL_ABOVE}\u0e38\u0e39\u0e4c\u0e4d])\\1+", r"\1"),  # a mark typed twice
        (f"\u0e4d([{_TONE}]?)\u0e32", "\\1\u0e33"),  # nikhahit (tone) sara aa
        (f"([{_TONE}])\u0e4d\u0e32", "\\1\u0e33"),  # tone nikhahit sara aa
        (f"\u0e33([{_TONE}])", "\\1\u0e33"),  # tone typed after sara am
    )
)

# One look that tells whether any of them could apply; most names pass here.
_THAI_SUSPECT = re.compile(f"\u0e40\u0e40|\u0e4d|[{_MARKS}][{_MARKS}]|\u0e33[{_TONE}]")

_TITLE_BEFORE = re.compile(
    r"(?:นางสาว|นาง|นาย|น\.\s?ส\.|ด\.\s?ช\.|ด\.\s?ญ\.|เด็กชาย|เด็กหญิง|คุณ|ดร\."
    r"|(?:mrs|mr|ms|miss|mx|dr)(?:\.\s?|\s))\s*"
    # A title is followed by a name, and no Thai word begins with a vowel sign or a mark.
    "(?=[^\\s\u0e30-\u0e3a\u0e45-\u0e4e])"
)
_TITLE_AFTER = re.compile(r"(?<=\S)\s*(?:先生|小姐|女士|太太)")


def name(raw: str, _formats: Formats) -> Normalised:
    """Bring a name to one spelling; titles, case and script stay."""
    line = single_line(raw)
    if not line.isascii():
        line = thai_spelling(line)
    if not line or says_nothing(line):
        return Refused("empty")
    return Refused("too_long") if len(line) > MAX_NAME_CHARS else Normal(line)


def name_key(normal: str) -> str:
    """Return the form under which two writings of a name are compared: no title, one case.

    A key proposes candidates and never proves that two names belong to one person.
    """
    folded = normal.casefold()
    before = _TITLE_BEFORE.match(folded)
    if before is not None:
        folded = folded[before.end() :]
    after = _TITLE_AFTER.search(folded)
    if after is not None and after.end() == len(folded):
        folded = folded[: after.start()]
    return folded


def search_form(text: str) -> str:
    """Return the form under which a piece of a name is looked for in another.

    NFKC, one case, and no character without a look: spaces, zero-width and control characters.
    Case folding may undo the normal form, so it is made again behind it.
    """
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    seen = "".join(one for one in folded if unicodedata.category(one) not in _WITHOUT_LOOK)
    # What went may have kept apart what belongs together: "a", a space and a macron are one letter.
    return thai_spelling(seen) if len(seen) == len(folded) else search_form(seen)


def thai_spelling(line: str) -> str:
    """Unify the code sequences that display as the same Thai syllable."""
    while _THAI_SUSPECT.search(line) is not None:
        spelled = line
        for pattern, replacement in _THAI_SPELLINGS:
            spelled = pattern.sub(replacement, spelled)
        if spelled == line:
            break
        line = spelled
    return line
