"""Where each member's record lies: an open-addressing table of four bytes a place.

A dict of a million ids takes about 140 bytes each, several times what the names take. Member
ids end in random bits, so those are the hash.
"""

from array import array
from collections.abc import Callable

_EMPTY = 0xFFFF_FFFF
_GONE = 0xFFFF_FFFE
_SMALLEST = 1 << 10


class Places:
    """Maps 16-byte ids to places (32-bit numbers); `id_at` reads the id that lies at a place."""

    def __init__(self, id_at: Callable[[int], bytes]) -> None:
        self._id_at = id_at
        self._table = array("I", [_EMPTY]) * _SMALLEST
        self._taken = 0
        self._count = 0

    def __len__(self) -> int:
        return self._count

    @property
    def size(self) -> int:
        """How many bytes the table takes, or will when it has taken one more."""
        return (self._next_size() if self._is_crowded() else len(self._table)) * 4

    def get(self, member: bytes) -> int | None:
        """Give the place of a member, or None."""
        slot = self._slot(member)
        return None if slot is None else self._table[slot]

    def put(self, member: bytes, place: int) -> None:
        """Remember a place; the record must lie there already."""
        slot = self._slot(member)
        if slot is not None:
            self._table[slot] = place
            return
        if self._is_crowded():
            self._rebuild()
        self._add(member, place)
        self._count += 1

    def drop(self, member: bytes) -> int | None:
        """Forget a member's place, and give it; None when there was none."""
        slot = self._slot(member)
        if slot is None:
            return None
        place = self._table[slot]
        self._table[slot] = _GONE
        self._count -= 1
        return place

    def _is_crowded(self) -> bool:
        return 3 * (self._taken + 1) > 2 * len(self._table)

    def _next_size(self) -> int:
        size = _SMALLEST
        while size < 2 * (self._count + 1):
            size <<= 1
        return size

    def _slot(self, member: bytes) -> int | None:
        mask = len(self._table) - 1
        slot = int.from_bytes(member[8:]) & mask
        while (place := self._table[slot]) != _EMPTY:
            if place != _GONE and self._id_at(place) == member:
                return slot
            slot = (slot + 1) & mask
        return None

    def _add(self, member: bytes, place: int) -> None:
        mask = len(self._table) - 1
        slot = int.from_bytes(member[8:]) & mask
        while self._table[slot] != _EMPTY:
            slot = (slot + 1) & mask
        self._table[slot] = place
        self._taken += 1

    def _rebuild(self) -> None:
        old = self._table
        self._table = array("I", [_EMPTY]) * self._next_size()
        self._taken = 0
        for place in old:
            if place < _GONE:
                self._add(self._id_at(place), place)
