"""What this room asks of the members room, which stands above it."""

from typing import Protocol

from kernel import Caller, MemberId, ReadSession
from vault import OwnerKey


class MemberDirectory(Protocol):
    """Knows members by what clients call them; the members room has it."""

    async def resolve(self, session: ReadSession, pairwise: str, caller: Caller) -> MemberId:
        """Resolve a pairwise id inside the caller's brand, or raise."""
        ...

    async def pseudonym(self, session: ReadSession, member_id: MemberId) -> OwnerKey:
        """Give the key under which the member appears in the trail, or raise."""
        ...

    async def known_as(
        self, session: ReadSession, member_id: MemberId, caller: Caller
    ) -> str | None:
        """Give what this caller calls the member, or None where they do not know them."""
        ...

    async def jurisdiction_of(self, session: ReadSession, member_id: MemberId) -> str:
        """Give the law that a member is under, or raise."""
        ...
