"""Growing up: once a day, minors whose birthday has come move into their next age tier.

The age tier stands beside the gate in the clear, so that a decision needs no birth date. Keeping
it true means opening the birth dates of minors, and only theirs; that is a reading like any
other, so each has its event before its key is unwrapped.
"""

from datetime import date

from audit import AuditLog
from consent import ConsentService
from kernel import Caller, Clock, Database, MemberId, to_date
from members import repository
from members.sources import MEMBER_TABLE
from policies import AgeTier, JurisdictionCode, PolicyPack, age_tier
from vault import ORDINARY, PSEUDONYM, Vault

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
            row = await repository.read_member(work, member_id)
            keys = await self._vault.keys_of(work, member_id)
            if row is None or _FIELD not in row.cells or ORDINARY not in keys:
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
        opened = self._vault.open(
            self._audit.ticket(event, member_id),
            keys[ORDINARY],
            MEMBER_TABLE,
            member_id,
            {_FIELD: row.cells[_FIELD]},
        )
        rules = self._pack.jurisdictions[JurisdictionCode(row.jurisdiction)]
        today = to_date(self._clock.now_us())
        tier = age_tier(rules, date.fromisoformat(opened[_FIELD]), today)
        async with self._database.unit_of_work() as work:
            gate = await self._consent.hold_gate(work, member_id)
            known = AgeTier(gate.age_tier)
            if tier is known:
                return False
            await self._consent.set_age_tier(work, member_id, tier)
            await self._audit.record(
                work,
                caller,
                "member.age_tier",
                subject=keys.get(PSEUDONYM),
                reason=tier.value,
            )
        return True
