"""The words by which free texts are searched for special categories of data, as a pack has them.

A kind is a name and its words; words that are too short would find something in every text, and
a word of two kinds would make two findings of one place, so both are refused at load.
"""

from collections.abc import Mapping
from types import MappingProxyType

from policies.model import SpecialWords
from policies.reading import PackReader, Table

WORDS_FILE = "pii/words.toml"
_MOST_WORDS, _MOST_CHARS, _MOST_SCORE = 200, 64, 100
_LEAST_LATIN, _LEAST_OTHER = 3, 2


def read_special_words(reader: PackReader) -> Mapping[str, SpecialWords]:
    """Read `pii/words.toml`; every fault becomes a finding."""
    file = reader.file(WORDS_FILE)
    kinds: dict[str, SpecialWords] = {}
    seen: dict[str, str] = {}
    for kind, table in file.entries():
        words, score = table.texts("words"), table.number("score")
        if not words or len(words) > _MOST_WORDS:
            table.fault("words", "is empty or too long", f"List 1 to {_MOST_WORDS} words")
        if not 1 <= score <= _MOST_SCORE:
            table.fault("score", "is not between 1 and 100", "Say how sure a finding is")
        for word in words:
            _check(table, word, seen)
            seen[word.casefold()] = kind
        kinds[kind] = SpecialWords(kind, words, score)
        table.close()
    file.close()
    return MappingProxyType(kinds)


def _check(table: Table, word: str, seen: Mapping[str, str]) -> None:
    least = _LEAST_LATIN if word.isascii() else _LEAST_OTHER
    if not least <= len(word.strip()) <= _MOST_CHARS or word != word.strip():
        table.fault(
            "words",
            f"holds {word!r}, which is too short, too long or has blanks around it",
            f"Use {_LEAST_LATIN} Latin letters or {_LEAST_OTHER} others at least",
        )
    if word.casefold() in seen:
        table.fault("words", f"holds {word!r} a second time", "Keep it in one kind, once")
