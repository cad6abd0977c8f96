"""Asking the search process: one connection a question, so that nobody waits for a dead one."""

import asyncio
import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson

from disclosure import NameHit, NameHits, NameRecord, SearchUnavailableError, Words
from kernel import MemberId, id_bytes, id_from_bytes
from service.search import frames
from service.search.frames import LENGTH, LONGEST_FRAME, Ask, Say
from service.search.letters import to_letters
from service.sockets import SEARCH_SOCKET, short_path

_SECONDS = 10.0
_LONGEST_ANSWER = 1 << 30
_FULL_FRAME = LONGEST_FRAME - 65_536
_REASONS = {Say.COLD: "search_cold", Say.FULL: "search_full", Say.BUSY: "search_busy"}


class NobodyHoldsNamesError(SearchUnavailableError):
    """No search process runs here, so no name is held either."""


class SearchClient:
    """The search process of a data directory, as the server asks it; the index of `NameSearch`."""

    def __init__(self, data_dir: Path, *, enabled: bool = True) -> None:
        self._data_dir = data_dir
        self._enabled = enabled

    # --- searching --------------------------------------------------------------------

    async def find(
        self, brand: str, words: Words, parts: int, *, after: NameHit | None, most: int
    ) -> NameHits:
        """Find members of a brand (see `disclosure.NameIndex`)."""
        asked = frames.question(
            brand.encode(),
            [[to_letters(word) for word in some] for some in words.alternatives],
            parts,
            None if after is None else (after.rank, id_bytes(after.member_id)),
            most,
        )
        found = frames.found(await self._ask(asked))
        hits = tuple(NameHit(hit.rank, _member(hit.member)) for hit in found.hits)
        return NameHits(hits, found.more, found.cut)

    async def born_in(self, brand: str, month: int) -> list[MemberId]:
        """Give the members of a brand who have their birthday in a month."""
        answer = await self._ask(frames.birthdays(brand.encode(), month))
        return [_member(raw) for raw in frames.members(answer)]

    # --- filling ----------------------------------------------------------------------

    async def begin(self) -> int:
        """Begin a walk over everybody; `SearchUnavailableError` while another walks."""
        return (await self._ask(bytes([Ask.BEGIN])))[1]

    async def confirm(self, walk: int, expected: Sequence[tuple[MemberId, int]]) -> list[MemberId]:
        """Say whom to hold in which version; gives those who are not held like that."""
        rows = [(id_bytes(member), stamp) for member, stamp in expected]
        answer = await self._ask(frames.confirmation(walk, rows))
        return [_member(raw) for raw in frames.members(answer)]

    async def end(self, walk: int) -> int:
        """End a walk: from now on questions are answered. Gives how many were forgotten."""
        return int.from_bytes((await self._ask(bytes([Ask.END, walk])))[1:])

    async def put(self, records: Sequence[NameRecord]) -> None:
        """Hold these records in place of earlier ones."""
        rows: list[tuple[bytes, int, int, bytes, bytes]] = []
        size = 0
        for one in records:
            form = to_letters(one.form)
            rows.append((id_bytes(one.member_id), one.stamp, one.month, one.brand.encode(), form))
            size += len(form) + 64
            if size > _FULL_FRAME:
                await self._ask(frames.records(rows))
                rows, size = [], 0
        if rows:
            await self._ask(frames.records(rows))

    async def forget(self, members: Sequence[MemberId]) -> None:
        """Overwrite what is held of these members; nothing is held where nobody answers."""
        with contextlib.suppress(NobodyHoldsNamesError):
            await self._ask(frames.removal(map(id_bytes, members)))

    async def state(self) -> dict[str, Any] | None:
        """Describe the process; None when none answers."""
        try:
            answer = await self._ask(bytes([Ask.STATE]))
        except (SearchUnavailableError, ValueError):
            return None
        described: dict[str, Any] = orjson.loads(answer[1:])
        return described

    async def _ask(self, body: bytes) -> bytes:
        if not self._enabled:
            raise SearchUnavailableError(reason="search_off")
        try:
            async with asyncio.timeout(_SECONDS):
                answer = await self._exchange(body)
        except (FileNotFoundError, ConnectionRefusedError) as error:
            raise NobodyHoldsNamesError(reason="search_cold") from error
        except (OSError, TimeoutError, asyncio.IncompleteReadError) as error:
            raise SearchUnavailableError(reason="search_cold") from error
        said = Say(answer[0])
        if said is Say.OK:
            return answer
        if said is Say.MALFORMED:
            raise ValueError("the search process is of another version")
        raise SearchUnavailableError(reason=_REASONS[said])

    async def _exchange(self, body: bytes) -> bytes:
        with short_path(self._data_dir, SEARCH_SOCKET) as address:
            reader, writer = await asyncio.open_unix_connection(address)
        try:
            writer.write(LENGTH.pack(len(body)) + body)
            await writer.drain()
            (length,) = LENGTH.unpack(await reader.readexactly(LENGTH.size))
            if not 0 < length <= _LONGEST_ANSWER:
                raise ConnectionAbortedError
            return await reader.readexactly(length)
        finally:
            writer.close()


def _member(raw: bytes) -> MemberId:
    return MemberId(id_from_bytes("mem", raw))
