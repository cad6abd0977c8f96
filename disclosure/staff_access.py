"""Staff look a member up and see outlines, by the road of every other disclosure.

At the till a clerk works for the membership, and a restriction closes that road. A data
protection officer answers for rights under a legal obligation, so a restricted member is found
as well. Whoever's role may not look up members finds nobody: auditors, operators and admins
never get here. Each look-up is an event, and each member shown is another.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from audit import AuditLog
from disclosure.decision import Refusal
from disclosure.errors import PurposeNotAllowedError
from disclosure.name_index import Words
from disclosure.names import name_fields
from disclosure.search import EVENT as SEARCH
from disclosure.search import NameSearch, Proposed
from disclosure.self_access import Road, SelfAccess, SelfView
from disclosure.service import Epochs
from kernel import Caller, Database, MemberId, NotFoundError
from members import Formats, Members, find_members
from policies import VIEW_MASKED, AccessSnapshot, PolicyPack
from vault import Vault

VIEW_BY_STAFF = "member.view_staff"
LOOKUP_BY_STAFF = "member.lookup"
_MOST_FOUND = 10
_ROADS: Mapping[str, Road] = {
    "clerk": Road(VIEW_BY_STAFF, VIEW_MASKED, purpose="membership", legal_basis="contract"),
    "dpo": Road(VIEW_BY_STAFF, VIEW_MASKED, legal_basis="legal_obligation", opens_restricted=True),
}


@dataclass(frozen=True, slots=True)
class StaffFound:
    """The members of the caller's brand that carry an identifier, the oldest first."""

    members: tuple[MemberId, ...]
    audit_id: str


class StaffAccess:
    """Finds members for staff, and shows what is held about them, masked field by field."""

    def __init__(
        self,
        database: Database,
        vault: Vault,
        audit: AuditLog,
        pack: PolicyPack,
        access: AccessSnapshot,
        members: Members,
        outlines: SelfAccess,
        search: NameSearch,
    ) -> None:
        self._database = database
        self._vault = vault
        self._audit = audit
        self._pack = pack
        self._access = access
        self._members = members
        self._outlines = outlines
        self._search = search
        self._names = name_fields(pack)

    async def find(self, caller: Caller, kind: str, value: str, declared: Formats) -> StaffFound:
        """Find members of the caller's brand by an identifier; an event either way.

        Raises:
            PurposeNotAllowedError: The role may not look members up.
            MemberDataError: The value cannot be such an identifier; nothing was looked for.
        """
        road = await self._road(caller, LOOKUP_BY_STAFF)
        found: list[MemberId] = []
        async with self._database.unit_of_work() as work:
            owners = await find_members(
                work, self._pack, self._vault, kind, value, declared, most=_MOST_FOUND
            )
            for owner in owners:
                try:
                    row = await self._members.read(work, owner)
                except NotFoundError:
                    continue
                if row.brand == caller.brand:
                    found.append(owner)
            first = await self._members.pseudonym(work, found[0]) if len(found) == 1 else None
            audit_id = await self._audit.record(
                work,
                caller,
                LOOKUP_BY_STAFF,
                subject=first,
                purpose=road.purpose,
                fields=(kind,),
                decision="allow" if found else "deny",
                reason=None if found else Refusal.MEMBER_UNKNOWN.value,
                count=len(found),
            )
        return StaffFound(tuple(found), audit_id)

    async def find_by_name(
        self, caller: Caller, words: Words, *, cursor: str | None, most: int
    ) -> Proposed:
        """Find members of the caller's brand by a piece of a name the role sees outlines of.

        Restricted members are in no memory to be searched: they are found by an identifier.

        Raises:
            PurposeNotAllowedError: The role may not search, or sees no names.
            SearchUnavailableError: Names are not in memory now.
            TooManySearchesError: Too many searches within the hour.
        """
        road = await self._road(caller, SEARCH, access="search")
        searched = [
            key
            for key in self._names
            if self._access.allows(
                caller.role,
                caller.brand,
                self._pack.fields[key].category,
                VIEW_MASKED,
                road.purpose,
            )
        ]
        if not searched:
            raise await self._refused(caller, SEARCH)
        return await self._search.propose(
            caller, road.purpose, searched, words, cursor=cursor, most=most
        )

    async def outline(self, caller: Caller, member_id: MemberId, epochs: Epochs) -> SelfView:
        """Show what is held about a member, masked; the event is on record before.

        Raises what `SelfAccess.outline` raises, and `PurposeNotAllowedError`.
        """
        return await self._outlines.outline(
            caller, member_id, epochs, await self._road(caller, VIEW_BY_STAFF)
        )

    async def _road(self, caller: Caller, action: str, *, access: str = "lookup") -> Road:
        road = _ROADS.get(caller.role)
        if road is not None and self._access.allows(
            caller.role, caller.brand, "member", access, road.purpose
        ):
            return road
        raise await self._refused(caller, action)

    async def _refused(self, caller: Caller, action: str) -> PurposeNotAllowedError:
        async with self._database.unit_of_work() as work:
            audit_id = await self._audit.record(
                work, caller, action, decision="deny", reason=Refusal.ROLE_NOT_ALLOWED.value
            )
        return PurposeNotAllowedError(reason=Refusal.ROLE_NOT_ALLOWED.value, audit_id=audit_id)
