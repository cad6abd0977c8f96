"""What is asked of an index of names that lives in memory, and how a typed name is read for it.

The index is a port: whoever holds names is another process, which only proposes members.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from kernel import FieldProblem, InvalidRequestError, MemberId, id_bytes
from members import search_form

PART = "\x01"
"""Between the names of one record; `search_form` leaves no such character in a name."""
_SHORTEST = 2
_MOST_WORDS = 5
# One character of these is a name or half of one.
_HAN = re.compile("[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff]")


@dataclass(frozen=True, slots=True)
class Words:
    """What is looked for: alternatives, each of words that must all be there; never printed."""

    alternatives: tuple[tuple[str, ...], ...] = field(repr=False)

    def fit(self, form: str) -> bool:
        """Say whether a record holds every word of an alternative."""
        return any(all(word in form for word in words) for words in self.alternatives)


@dataclass(frozen=True, slots=True)
class NameHit:
    """Somebody the index proposes, and how well the name fits (0 is best)."""

    rank: int
    member_id: MemberId

    @property
    def position(self) -> bytes:
        """Its place in the order of hits."""
        return bytes([self.rank]) + id_bytes(self.member_id)


@dataclass(frozen=True, slots=True)
class NameHits:
    """Hits in their order; whether more follow, and whether too many fit to be ranked."""

    hits: tuple[NameHit, ...]
    more: bool
    cut: bool


class NameIndex(Protocol):
    """Holds names and birth months in memory; the service has it.

    Both raise `SearchUnavailableError` while it holds nothing or not all.
    """

    async def find(
        self, brand: str, words: Words, parts: int, *, after: NameHit | None, most: int
    ) -> NameHits:
        """Find members of a brand; `parts` is a bit for each name field that may be looked into."""
        ...

    async def born_in(self, brand: str, month: int) -> Sequence[MemberId]:
        """Give the members of a brand who have their birthday in a month."""
        ...


def search_words(text: str, *, pointer: str = "/name_contains") -> Words:
    """Read what somebody typed; `InvalidRequestError` when it says too little to search for.

    Words are looked for each on its own, in any order. A Chinese name is written in one piece:
    its first characters may be the family's name and the rest the given one.
    """
    words = sorted((w for w in map(search_form, text.split()) if w), key=len, reverse=True)
    if not words or (len(words[0]) < _SHORTEST and not _HAN.search(words[0])):
        raise InvalidRequestError(
            "type at least two letters, or one Chinese character",
            reason="too_short",
            errors=[FieldProblem(pointer, "too_short")],
        )
    if len(words) > _MOST_WORDS:
        raise InvalidRequestError(
            "type at most five words",
            reason="too_many_words",
            errors=[FieldProblem(pointer, "too_many_words")],
        )
    alternatives = [tuple(dict.fromkeys(words))]
    if len(words) == 1 and all(_HAN.match(one) for one in words[0]):
        name = words[0]
        cuts = range(1, min(len(name), 3))
        alternatives += [(name[:at] + PART + name[at:],) for at in cuts]
    return Words(tuple(alternatives))
