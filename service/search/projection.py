"""Names and birth months of members, held in memory to be searched: the pure core.

Records lie one behind the other in segments of a mebibyte that are never resized or copied, so
what is removed is overwritten where it lies and no second copy stays in the heap. Nothing here
makes a text out of a name, and nothing here can reach out.
"""

import heapq
from array import array
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from service.search.letters import PART_END, RECORD_END
from service.search.places import Places

SEGMENT_BYTES = 1 << 20
MOST_ROWS = 1 << 16
MOST_MATCHES = 4_000
"""More matches than this are not ranked: whoever typed so little must type more."""
ID_BYTES = 16
_ROW_BYTES = 4 + ID_BYTES + 8 + 1 + 1  # start, id, stamp, month, mark
EXACT, BEGINNING, INSIDE = range(3)

Words = Sequence[bytearray]


class FullError(Exception):
    """The projection has reached its bound of memory."""


@dataclass(frozen=True, slots=True)
class Hit:
    """A member found: how well a word fits (`EXACT`, `BEGINNING`, `INSIDE`), and the id."""

    rank: int
    member: bytes


@dataclass(frozen=True, slots=True)
class Found:
    """Hits in their order; whether more follow, and whether there were too many to rank."""

    hits: tuple[Hit, ...]
    more: bool
    cut: bool


class _Segment:
    """Records of one brand: their letters, and column by column what belongs to each."""

    __slots__ = ("brand", "dead", "ids", "marks", "months", "stamps", "starts", "text", "used")

    def __init__(self, brand: bytes) -> None:
        self.brand = brand
        self.text = bytearray(SEGMENT_BYTES)
        self.used = 0
        self.dead = 0
        self.starts = array("I")
        self.ids = bytearray()
        self.stamps = array("Q")
        self.months = bytearray()
        self.marks = bytearray()

    def has_room(self, length: int) -> bool:
        return self.used + length < SEGMENT_BYTES and len(self.starts) < MOST_ROWS

    def add(self, member: bytes, stamp: int, month: int, mark: int, form: memoryview) -> int:
        """Append a record; gives its row."""
        row, start = len(self.starts), self.used
        # View to view: assigning to the bytearray itself would make a copy on the heap first.
        memoryview(self.text)[start : start + len(form)] = form
        self.used = start + len(form) + 1
        self.starts.append(start)
        self.ids += member
        self.stamps.append(stamp)
        self.months.append(month)
        self.marks.append(mark)
        return row

    def wipe(self, row: int) -> None:
        """Overwrite a record where it lies."""
        start, end = self.bounds(row)
        memoryview(self.text)[start:end] = bytes(end - start)
        self.dead += end - start + 1
        self.months[row] = 0
        self.marks[row] = 0
        self.ids[row * ID_BYTES : (row + 1) * ID_BYTES] = bytes(ID_BYTES)

    def bounds(self, row: int) -> tuple[int, int]:
        """Give where a record's letters begin and end."""
        behind = self.starts[row + 1] if row + 1 < len(self.starts) else self.used
        return self.starts[row], behind - 1

    def id_at(self, row: int) -> bytes:
        return bytes(self.ids[row * ID_BYTES : (row + 1) * ID_BYTES])

    def rows(self) -> Iterator[tuple[int, bytes]]:
        """Give the rows that were not wiped, with their ids."""
        nobody = bytes(ID_BYTES)
        for row in range(len(self.starts)):
            member = self.id_at(row)
            if member != nobody:
                yield row, member

    def matches(self, words: Words, parts: int) -> Iterator[tuple[int, int]]:
        """Give the rows that hold every word in the parts that may be searched, with a rank."""
        first = words[0]
        at = self.text.find(first, 0, self.used)
        while at >= 0:
            row = bisect_right(self.starts, at) - 1
            start, end = self.bounds(row)
            ranks = [self._rank(word, start, end, parts) for word in words]
            best = [rank for rank in ranks if rank is not None]
            if len(best) == len(ranks):
                yield row, max(best)
            at = self.text.find(first, end, self.used)

    def _rank(self, word: bytearray, start: int, end: int, parts: int) -> int | None:
        text = self.text
        spanned = (1 << (word.count(PART_END) + 1)) - 1
        best: int | None = None
        at = text.find(word, start, end)
        while at >= 0:
            needed = spanned << text.count(PART_END, start, at)
            if needed & parts == needed:
                behind = at + len(word)
                begins = at == start or text[at - 1] == PART_END
                ends = behind == end or text[behind] == PART_END
                rank = (EXACT if ends else BEGINNING) if begins else INSIDE
                best = rank if best is None else min(best, rank)
            at = text.find(word, at + 1, end)
        return best


class Projection:
    """Everything that can be searched, at most `most_bytes` of it."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._segments: list[_Segment | None] = []
        self._open: dict[bytes, int] = {}
        self._places = Places(self._id_at)
        self._mark = 1
        self._lying = 0
        self._rows = 0

    def __len__(self) -> int:
        return len(self._places)

    @property
    def size(self) -> int:
        """How many bytes it takes, but for what Python itself needs."""
        return self._places.size + self._lying * SEGMENT_BYTES + self._rows * _ROW_BYTES

    # --- what it holds ----------------------------------------------------------------

    def put(self, member: bytes, stamp: int, month: int, brand: bytes, form: memoryview) -> None:
        """Hold a member's record in place of the one it had; `form` is parts of letters.

        `stamp` says which version of the member this is, `month` is 1 to 12 or 0.

        Raises:
            FullError: there is no room; the earlier record is gone all the same.
        """
        self.remove(member)
        if len(form) >= SEGMENT_BYTES // 16:
            raise FullError
        self._append(member, stamp, month, self._mark, brand, form)

    def remove(self, member: bytes) -> bool:
        """Overwrite a member's record; False when there was none."""
        place = self._places.drop(member)
        if place is None:
            return False
        number, row = divmod(place, MOST_ROWS)
        segment = self._segment(number)
        segment.wipe(row)
        if 2 * segment.dead > segment.used and self._open.get(segment.brand) != number:
            self._dissolve(number, segment)
        return True

    def clear(self) -> None:
        """Overwrite everything."""
        for segment in self._segments:
            if segment is not None:
                _overwrite(segment)
        self._segments.clear()
        self._open.clear()
        self._places = Places(self._id_at)
        self._lying = self._rows = 0

    # --- walks ------------------------------------------------------------------------

    def begin(self) -> None:
        """Begin a walk: what is neither confirmed nor put until `end` is held no longer."""
        self._mark = self._mark % 255 + 1

    def confirm(self, member: bytes, stamp: int) -> bool:
        """Say that a member is to be held in this version; False when the record is another."""
        place = self._places.get(member)
        if place is None:
            return False
        number, row = divmod(place, MOST_ROWS)
        segment = self._segment(number)
        if segment.stamps[row] != stamp:
            return False
        segment.marks[row] = self._mark
        return True

    def end(self) -> int:
        """Remove whatever this walk did not meet; gives how many."""
        strangers = [
            member
            for segment in self._segments
            if segment is not None
            for row, member in segment.rows()
            if segment.marks[row] != self._mark
        ]
        for member in strangers:
            self.remove(member)
        return len(strangers)

    # --- searching --------------------------------------------------------------------

    def find(
        self,
        brand: bytes,
        alternatives: Sequence[Words],
        parts: int,
        after: tuple[int, bytes] | None,
        most: int,
    ) -> Found:
        """Find members of a brand that hold every word of one alternative.

        `parts` is a bit for each part of a record that may be looked into. `after` is the rank
        and id behind which to go on.
        """
        ranks: dict[bytes, int] = {}
        cut = False
        for segment in self._segments:
            if segment is None or segment.brand != brand:
                continue
            for words in alternatives:
                for row, rank in segment.matches(words, parts):
                    member = segment.id_at(row)
                    ranks[member] = min(rank, ranks.get(member, INSIDE))
                    if len(ranks) >= MOST_MATCHES:
                        cut = True
                        break
            if cut:
                break
        ordered = heapq.nsmallest(
            most + 1,
            (
                (rank, member)
                for member, rank in ranks.items()
                if after is None or (rank, member) > after
            ),
        )
        hits = tuple(Hit(rank, member) for rank, member in ordered[:most])
        return Found(hits, len(ordered) > most, cut)

    def born_in(self, brand: bytes, month: int) -> list[bytes]:
        """Give the members of a brand whose birthday is in a month."""
        born: list[bytes] = []
        for segment in self._segments:
            if segment is None or segment.brand != brand:
                continue
            at = segment.months.find(month)
            while at >= 0:
                born.append(segment.id_at(at))
                at = segment.months.find(month, at + 1)
        return born

    # --- segments ---------------------------------------------------------------------

    def _append(
        self, member: bytes, stamp: int, month: int, mark: int, brand: bytes, form: memoryview
    ) -> None:
        number = self._open.get(brand)
        segment = None if number is None else self._segment(number)
        is_new = number is None or segment is None or not segment.has_room(len(form) + 1)
        if self.size + _ROW_BYTES + is_new * SEGMENT_BYTES > self._most_bytes:
            raise FullError
        if number is None or segment is None or is_new:
            segment = _Segment(brand)
            number = self._new_number()
            self._segments[number] = segment
            self._open[brand] = number
            self._lying += 1
        self._rows += 1
        row = segment.add(member, stamp, month, mark, form)
        self._places.put(member, number * MOST_ROWS + row)

    def _new_number(self) -> int:
        for number, segment in enumerate(self._segments):
            if segment is None:
                return number
        self._segments.append(None)
        return len(self._segments) - 1

    def _dissolve(self, number: int, segment: _Segment) -> None:
        """Move what lives in a segment that is mostly dead, and overwrite the rest."""
        letters = memoryview(segment.text)
        for row, member in segment.rows():
            start, end = segment.bounds(row)
            self._append(
                member,
                segment.stamps[row],
                segment.months[row],
                segment.marks[row],
                segment.brand,
                letters[start:end],
            )
        letters.release()
        _overwrite(segment)
        self._segments[number] = None
        self._lying -= 1
        self._rows -= len(segment.starts)

    def _segment(self, number: int) -> _Segment:
        segment = self._segments[number]
        if segment is None:
            raise LookupError(number)
        return segment

    def _id_at(self, place: int) -> bytes:
        number, row = divmod(place, MOST_ROWS)
        return self._segment(number).id_at(row)


def _overwrite(segment: _Segment) -> None:
    memoryview(segment.text)[:] = bytes(SEGMENT_BYTES)


__all__ = [
    "BEGINNING",
    "EXACT",
    "ID_BYTES",
    "INSIDE",
    "MOST_MATCHES",
    "RECORD_END",
    "SEGMENT_BYTES",
    "Found",
    "FullError",
    "Hit",
    "Projection",
]
