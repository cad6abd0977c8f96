"""Growing up: once a day, minors whose birthday has come move into their next age tier.

The age tier stands beside the gate in the clear, so that a decision needs no birth date. Keeping
it true means opening the birth dates of minors, and only theirs; that is a reading like any
other, so each has its event before its key is unwrapped.
"""

from datetime import date

from audit import AuditLog
from consent import ConsentService, Gate, GateState
from kernel import Caller, Clock, Database, MemberId, NotFoundError, UnitOfWork, to_date
from members import repository
from members.errors import MemberChangedError
from members.retention import key_kind
from members.sources import MEMBER_TABLE
from policies import AgeTier, JurisdictionCode, PolicyPack, age_tier
from vault import PSEUDONYM, OwnerKey, Sealed, Vault

_PAGE = 200
_FIELD = "birth_date"


class AgeTiers:
    """Keeps the age tiers of minors."""

    def __init__(
        self,
        database: Database,
        pack: PolicyPack,
        vault: Vault,
        audit: AuditLog,
        consent: ConsentService,
        clock: Clock,
    ) -> None:
        self._database = database
        self._pack = pack
        self._vault = vault
        self._audit = audit
        self._consent = consent
        self._clock = clock

    async def refresh(self, caller: Caller) -> int:
        """Look at every minor; gives how many came into another tier."""
        moved = 0
        after = ""
        while True:
            async with self._database.read() as session:
                page = await self._consent.minors(session, after=after, most=_PAGE)
            if not page:
                return moved
            for member_id in page:
                moved += await self._refresh_one(caller, member_id)
            after = page[-1]

    async def _refresh_one(self, caller: Caller, member_id: MemberId) -> bool:
        async with self._database.unit_of_work() as work:
            gate = await self._consent.share_gate(work, member_id)
            row = await repository.read_member(work, member_id)
            keys = await self._vault.keys_of(work, member_id)
            kind = key_kind(self._pack, _FIELD)
            if (
                gate.state is not GateState.ACTIVE
                or row is None
                or _FIELD not in row.cells
                or kind not in keys
            ):
                return False
            event = self._audit.draft(
                caller,
                "member.age_check",
                subject=keys.get(PSEUDONYM),
                fields=(_FIELD,),
                decision="allow",
                legal_basis="legal_obligation",
            )
            await self._audit.record_many(work, [event])
        birth_date = self._vault.open_value(
            self._audit.ticket(event, member_id),
            keys[kind],
            MEMBER_TABLE,
            member_id,
            Sealed(_FIELD, row.cells[_FIELD], date.fromisoformat),
        )
        rules = self._pack.jurisdictions[JurisdictionCode(row.jurisdiction)]
        today = to_date(self._clock.now_us())
        tier = age_tier(rules, birth_date, today)
        return tier.value != gate.age_tier and await self._move(
            caller, gate, tier, keys.get(PSEUDONYM)
        )

    async def _hold(self, work: UnitOfWork, looked_at: Gate) -> None:
        """Hold the gate of a member who has not changed; else nothing of this is stored."""
        gate = await self._consent.hold_gate(work, looked_at.member_id)
        if gate.version != looked_at.version + 1:
            raise MemberChangedError(reason="member_busy")

    async def _move(
        self, caller: Caller, looked_at: Gate, tier: AgeTier, pseudonym: OwnerKey | None
    ) -> bool:
        """Write the tier down, unless the member changed since the birth date was read."""
        try:
            async with self._database.unit_of_work() as work:
                await self._hold(work, looked_at)
                await self._consent.set_age_tier(work, looked_at.member_id, tier)
                await self._audit.record(
                    work, caller, "member.age_tier", subject=pseudonym, reason=tier.value
                )
        except (NotFoundError, MemberChangedError):
            return False
        return True
