"""The path from an event to the signed root, as numbers for a template to draw.

Pure: takes a proof, gives coordinates. From below, each step joins what was computed so far with
one sibling; which of the two stands left is told by the event's place and the size of the tree.
"""

from collections.abc import Sequence
from dataclasses import dataclass

LEFT, RIGHT, TOP, ROW = 110, 230, 24, 40
_MIDDLE = (LEFT + RIGHT) // 2
_LETTERS = 8


@dataclass(frozen=True, slots=True)
class Step:
    """One step up: where its two children stand, and the sibling's side and hash."""

    level: int
    y: int
    path_x: int
    sibling_x: int
    parent_x: int
    parent_y: int
    is_left: bool
    sibling: str
    short: str


@dataclass(frozen=True, slots=True)
class Picture:
    """The steps from the root down to the event, and the height of the drawing."""

    steps: tuple[Step, ...]
    root_x: int
    root_y: int
    height: int


def picture(index: int, size: int, hashes: Sequence[bytes]) -> Picture:
    """Lay out a proof; hashes bottom first, as in the proof."""
    sides = siblings_left(index, size, len(hashes))
    steps: list[Step] = []
    parent = _MIDDLE, TOP
    for row, level in enumerate(reversed(range(len(hashes))), start=1):
        y = TOP + row * ROW
        path_x, sibling_x = (RIGHT, LEFT) if sides[level] else (LEFT, RIGHT)
        text = hashes[level].hex()
        steps.append(
            Step(level, y, path_x, sibling_x, *parent, sides[level], text, text[:_LETTERS])
        )
        parent = path_x, y
    return Picture(tuple(steps), _MIDDLE, TOP, TOP + len(hashes) * ROW + TOP)


def siblings_left(index: int, size: int, steps: int) -> list[bool]:
    """Say of each step, from the event up, whether its sibling stands left (RFC 9162, 2.1.3.2)."""
    at, last = index, size - 1
    sides = []
    for _ in range(steps):
        is_left = bool(at & 1) or at == last
        if is_left:
            while at and not at & 1:
                at, last = at >> 1, last >> 1
        at, last = at >> 1, last >> 1
        sides.append(is_left)
    return sides
