"""Cleaning that every kind of value needs before it can be judged.

Zero-width characters, full-width forms, digits of other scripts and three spellings of one Thai
vowel look the same on screen and differ in every comparison. They are removed here, once, so
that the normalisers see what a reader sees.
"""

import re
import unicodedata
from typing import Final

from members.normalise.result import Formats, Normal, Normalised, Refused

MAX_TEXT_CHARS: Final = 4_000

# Format characters that carry no meaning in a value: soft hyphen, zero-width space and joiners,
# bidirectional marks, byte order mark. Compatibility normalisation keeps all of them.
_INVISIBLE_CHARS: Final = (
    "\u00ad\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff"
    "\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f"
)
_INVISIBLE = re.compile(f"[{_INVISIBLE_CHARS}]")
_LINE_ENDS = re.compile("\r\n|[\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")
_DIGIT = re.compile(r"\d")
_NOTHING = re.compile(rf"[\s.\-_\u2010-\u2015\u2212\uff0d{_INVISIBLE_CHARS}]*")

# Words people write into a cell that has no value. A name or a note reads them as "nothing";
# an identifier or a date does not, because there a wrong entry must be reported.
_NOTHING_WORDS: Final = frozenset(
    {"n/a", "N/A", "#N/A", "ไม่มี", "ไม่ระบุ", "無", "无", "沒有", "没有", "未填", "不詳", "不详"}
)


def is_well_formed(raw: str) -> bool:
    """Say whether `raw` can be encoded; lone surrogates from hand-made JSON cannot."""
    if raw.isprintable():  # no surrogate is
        return True
    try:
        raw.encode()
    except UnicodeEncodeError:
        return False
    return True


def is_blank(raw: str) -> bool:
    """Say whether a cell holds nothing: blanks, invisible characters, dashes and dots only."""
    return _NOTHING.fullmatch(raw) is not None


def says_nothing(line: str) -> bool:
    """Say whether a cleaned line is a word for "no value" in Thai, Chinese or English."""
    return line in _NOTHING_WORDS


def single_line(raw: str) -> str:
    """Return `raw` compatibility-normalised (NFKC), visible, on one line, without outer blanks."""
    # Nothing invisible is printable, so the common value is spared the substitution.
    line = raw if raw.isprintable() else _INVISIBLE.sub("", raw)
    if not line.isascii():
        line = unicodedata.normalize("NFKC", line)
    return " ".join(line.split())


def typed(raw: str) -> str:
    """Return what was meant to be typed into a strict field.

    On top of `single_line`: digits of every script become ASCII digits (NFKC leaves Thai digits
    alone) and the apostrophe goes with which spreadsheets mark a number as text.
    """
    line = single_line(raw)
    if not line.isascii():
        line = _DIGIT.sub(lambda digit: str(unicodedata.decimal(digit[0])), line)
    return line.lstrip("' ")


def text(raw: str, _formats: Formats) -> Normalised:
    """Normalise free text: NFC, visible, lines ended by line feeds; wording and width stay."""
    if raw.isprintable():
        tidy = " ".join(unicodedata.normalize("NFC", raw).split())
    else:
        visible = unicodedata.normalize("NFC", _INVISIBLE.sub("", _LINE_ENDS.sub("\n", raw)))
        tidy = "\n".join(" ".join(line.split()) for line in visible.split("\n")).strip()
    if not tidy or says_nothing(tidy):
        return Refused("empty")
    return Refused("too_long") if len(tidy) > MAX_TEXT_CHARS else Normal(tidy)
