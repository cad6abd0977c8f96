"""A notice as it was shown: its plain Markdown, taken apart for a template to draw.

Only what our notices use is known: headings, paragraphs, lists, bold. Everything else stays the
text it is, and no markup of the notice reaches the page as markup, so the words cannot carry any.
"""

import re
from dataclasses import dataclass
from enum import StrEnum

_HEADING = re.compile(r"(#{1,3}) +(.+)")
_ITEM = re.compile(r"- +(.+)")
_BOLD = re.compile(r"\*\*(.+?)\*\*")


class BlockKind(StrEnum):
    """What a block of a notice is."""

    HEADING = "heading"
    PARAGRAPH = "paragraph"
    LIST = "list"


@dataclass(frozen=True, slots=True)
class Span:
    """A run of text, bold or not."""

    text: str
    bold: bool


@dataclass(frozen=True, slots=True)
class Block:
    """A heading or paragraph of one line, or a list of several."""

    kind: BlockKind
    lines: tuple[tuple[Span, ...], ...]


@dataclass(frozen=True, slots=True)
class Words:
    """A notice ready to be drawn, with what names it."""

    revision: str
    version: str
    lang: str
    blocks: list[Block]


def blocks(text: str) -> list[Block]:
    """Take a notice apart; every letter of it that is not markup is in the result."""
    found: list[Block] = []
    for part in re.split(r"\n\s*\n", text.strip()):
        found.extend(_part(part.splitlines()))
    return found


def _part(lines: list[str]) -> list[Block]:
    found: list[Block] = []
    items: list[tuple[Span, ...]] = []
    prose: list[str] = []

    def close() -> None:
        if items:
            found.append(Block(BlockKind.LIST, tuple(items)))
            items.clear()
        if prose:
            found.append(Block(BlockKind.PARAGRAPH, (_spans(" ".join(prose)),)))
            prose.clear()

    for line in lines:
        heading, item = _HEADING.fullmatch(line), _ITEM.fullmatch(line)
        if heading:
            close()
            found.append(Block(BlockKind.HEADING, (_spans(heading[2]),)))
        elif item:
            if prose:
                close()
            items.append(_spans(item[1]))
        else:
            if items:
                close()
            prose.append(line.strip())
    close()
    return found


def _spans(text: str) -> tuple[Span, ...]:
    return tuple(Span(part, bold=bool(at % 2)) for at, part in enumerate(_BOLD.split(text)) if part)
