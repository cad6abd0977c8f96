"""The words spoken over the search socket: one frame asks, one frame answers.

A frame is its length (4 bytes) and a body whose first byte says what it is. Names travel in
requests only; answers hold ids and numbers. Everything is fixed-width or length-prefixed, so the
process that holds names never has to parse text.
"""

import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum

from service.search.projection import ID_BYTES, Found, Hit

LENGTH = struct.Struct(">I")
LONGEST_FRAME = 1 << 20
_WANTED = struct.Struct(">16sQ")
_RECORD = struct.Struct(">16sQBBH")
_ASKED = struct.Struct(">QBHB")
_HIT = struct.Struct(">B16s")
NO_RANK = 0xFF


class Ask(IntEnum):
    """What a request wants."""

    STATE = 0
    BEGIN = 1
    CONFIRM = 2
    PUT = 3
    REMOVE = 4
    END = 5
    FIND = 6
    BORN = 7


class Say(IntEnum):
    """How an answer begins."""

    OK = 0
    COLD = 1
    BUSY = 2
    FULL = 3
    MALFORMED = 4


class MalformedFrameError(Exception):
    """Somebody speaks another version of this, or none."""


@dataclass(frozen=True, slots=True)
class Record:
    """One member as the process is told of it; prints without the letters."""

    member: bytes
    stamp: int
    month: int
    brand: bytes
    form: memoryview

    def __repr__(self) -> str:
        return "<record>"


@dataclass(frozen=True, slots=True)
class Question:
    """A search as the process reads it; `words` are to be overwritten when it is answered."""

    parts: int
    after: tuple[int, bytes] | None
    most: int
    brand: bytes
    words: tuple[tuple[bytearray, ...], ...]

    def __repr__(self) -> str:
        return "<question>"


# --- asking ---------------------------------------------------------------------------


def confirmation(walk: int, expected: Iterable[tuple[bytes, int]]) -> bytes:
    """Write which members are to be held, and in which version."""
    rows = b"".join(_WANTED.pack(member, stamp) for member, stamp in expected)
    return bytes([Ask.CONFIRM, walk]) + rows


def records(rows: Iterable[tuple[bytes, int, int, bytes, bytes]]) -> bytes:
    """Write records: id, stamp, month, brand and letters of each."""
    written = [bytes([Ask.PUT])]
    for member, stamp, month, brand, form in rows:
        written += [_RECORD.pack(member, stamp, month, len(brand), len(form)), brand, form]
    return b"".join(written)


def removal(members: Iterable[bytes]) -> bytes:
    """Write whom to forget."""
    return bytes([Ask.REMOVE]) + b"".join(members)


def question(
    brand: bytes,
    words: Sequence[Sequence[bytes]],
    parts: int,
    after: tuple[int, bytes] | None,
    most: int,
) -> bytes:
    """Write a search."""
    rank, member = after or (NO_RANK, bytes(ID_BYTES))
    written = [bytes([Ask.FIND]), _ASKED.pack(parts, rank, most, len(brand)), member, brand]
    for alternative in words:
        written.append(bytes([len(alternative)]))
        for word in alternative:
            written += [len(word).to_bytes(2), word]
    return b"".join(written)


def birthdays(brand: bytes, month: int) -> bytes:
    """Write a search for a month of birth."""
    return bytes([Ask.BORN, month]) + brand


def found(body: bytes) -> Found:
    """Read the answer to a search."""
    hits = tuple(Hit(rank, member) for rank, member in _HIT.iter_unpack(body[3:]))
    return Found(hits, bool(body[1]), bool(body[2]))


def members(body: bytes) -> list[bytes]:
    """Read an answer that is a list of ids."""
    return [body[at : at + ID_BYTES] for at in range(1, len(body), ID_BYTES)]


# --- answering ------------------------------------------------------------------------


def expected(body: memoryview) -> Iterator[tuple[bytes, int]]:
    """Read who is to be held."""
    if (len(body) - 2) % _WANTED.size:
        raise MalformedFrameError
    yield from _WANTED.iter_unpack(body[2:])


def put_rows(body: memoryview) -> Iterator[Record]:
    """Read records; their letters stay where they were received."""
    at = 1
    while at < len(body):
        if at + _RECORD.size > len(body):
            raise MalformedFrameError
        member, stamp, month, brand_length, length = _RECORD.unpack_from(body, at)
        at += _RECORD.size
        end = at + brand_length + length
        if end > len(body) or month > 12:  # noqa: PLR2004 (months)
            raise MalformedFrameError
        brand = bytes(body[at : at + brand_length])
        yield Record(member, stamp, month, brand, body[at + brand_length : end])
        at = end


def removed(body: memoryview) -> Iterator[bytes]:
    """Read whom to forget."""
    if (len(body) - 1) % ID_BYTES:
        raise MalformedFrameError
    for at in range(1, len(body), ID_BYTES):
        yield bytes(body[at : at + ID_BYTES])


def asked(body: memoryview) -> Question:
    """Read a search."""
    head = 1 + _ASKED.size + ID_BYTES
    if len(body) < head:
        raise MalformedFrameError
    parts, rank, most, brand_length = _ASKED.unpack_from(body, 1)
    after = None if rank == NO_RANK else (rank, bytes(body[1 + _ASKED.size : head]))
    brand = bytes(body[head : head + brand_length])
    alternatives = []
    at = head + brand_length
    while at < len(body):
        count, at = body[at], at + 1
        words = []
        for _ in range(count):
            length = int.from_bytes(body[at : at + 2])
            word = bytearray(body[at + 2 : at + 2 + length])
            # An end of record in a word would make it fit across two members.
            if not length or len(word) < length or 0 in word:
                raise MalformedFrameError
            words.append(word)
            at += 2 + length
        if not words:
            raise MalformedFrameError
        alternatives.append(tuple(words))
    return Question(parts, after, most, brand, tuple(alternatives))


def hits(answer: Found) -> bytes:
    """Write what was found."""
    rows = b"".join(_HIT.pack(hit.rank, hit.member) for hit in answer.hits)
    return bytes([Say.OK, answer.more, answer.cut]) + rows
