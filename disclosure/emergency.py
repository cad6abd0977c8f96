"""Break-glass: an officer opens one member's fields in full, because life or health is at risk.

The way in is narrow and loud. Who may is named by the pack and nobody else; the fields are named
one by one; a reason of the pack's list stands in the trail and a written justification, sealed
under the member's own key, beside it; an officer has a few a day; the event has committed before
any cell is opened, so that other officers and the member see it whatever happens next. Kept out are
curiosity, which leaves its name, and the excuse that comes afterwards.
"""

from dataclasses import dataclass
from dataclasses import field as dataclass_field

from audit import BREAK_GLASS, AuditEvent, AuditLog, Details
from consent import ConsentService
from disclosure import budget_repository, repository
from disclosure.answers import refusal
from disclosure.budget import DAY_US
from disclosure.decision import Denied, Refusal
from disclosure.errors import EmergencyRefusedError
from disclosure.self_access import CopiedValue, field_of, in_order, key_kind, open_slots
from disclosure.service import Epochs, StaleEpochError
from kernel import (
    Caller,
    Database,
    FieldProblem,
    InvalidRequestError,
    MemberId,
    NotFoundError,
    UnitOfWork,
    YinyomError,
)
from members import MemberRow, Members
from policies import (
    VIEW_EMERGENCY,
    AccessSnapshot,
    BasisKind,
    CatalogueField,
    JurisdictionCode,
    PolicyPack,
    Storage,
)
from vault import ORDINARY, PSEUDONYM, OwnerKey, Vault

LEAST_WORDS, MOST_WORDS = 20, 1_000
"""How long a justification is, in characters without the blanks around it."""
NO_BASIS = "no_vital_interest"
SPENT = "emergencies_spent"
_BASIS = BasisKind.VITAL_INTEREST
_LABEL = "break-glass"


@dataclass(frozen=True, slots=True)
class Emergency:
    """What an officer asks for: field keys of the catalogue, a reason of the pack, and why."""

    fields: tuple[str, ...]
    reason: str
    justification: str = dataclass_field(repr=False)


@dataclass(frozen=True, slots=True)
class EmergencyView:
    """What was opened, in the catalogue's order, and the event that says so."""

    values: tuple[CopiedValue, ...]
    audit_id: str


@dataclass(frozen=True, slots=True)
class _Judged:
    row: MemberRow
    slots: tuple[str, ...]
    event: AuditEvent


@dataclass(frozen=True, slots=True)
class _Refused:
    reason: str
    subject: OwnerKey | None = None


class EmergencyAccess:
    """Opens one member's fields for an emergency (GDPR art. 6(1)(d), PDPA s.24(2))."""

    def __init__(
        self,
        database: Database,
        vault: Vault,
        audit: AuditLog,
        pack: PolicyPack,
        access: AccessSnapshot,
        consent: ConsentService,
        members: Members,
        *,
        a_day: int,
    ) -> None:
        self._database = database
        self._vault = vault
        self._audit = audit
        self._pack = pack
        self._access = access
        self._consent = consent
        self._members = members
        self._details = Details(database, vault, audit)
        self._a_day = a_day

    def may(self, caller: Caller) -> bool:
        """Say whether the pack lets this role break the glass at all."""
        return self._access.allows(caller.role, caller.brand, "member", "break_glass")

    def fields(self, caller: Caller) -> tuple[CatalogueField, ...]:
        """Give the sealed fields that this role may open in an emergency."""
        if not self.may(caller):
            return ()
        return tuple(
            entry
            for entry in self._pack.fields.values()
            if entry.storage is Storage.SEALED
            and self._access.allows(caller.role, caller.brand, entry.category, VIEW_EMERGENCY)
        )

    async def open(
        self, caller: Caller, member_id: MemberId, asked: Emergency, epochs: Epochs
    ) -> EmergencyView:
        """Open the named fields of one member in full; the event is on record before.

        A restriction or a withdrawal does not close this way: that is what an emergency is.

        Raises:
            PurposeNotAllowedError: the role may not, or may not open one of the fields.
            InvalidRequestError: no field, no reason of the pack, or no justification.
            MemberUnknownError: erased, unknown, merged, or of another brand than the caller's.
            EmergencyRefusedError: `no_vital_interest`, where the law of the member's place knows
                no such basis by the pack; `emergencies_spent` for the day.
            StaleEpochError: clients or policy changed; refresh the epochs and ask again.
        """
        if not self.may(caller):
            raise await self._refuse(caller, asked, _Refused(Refusal.ROLE_NOT_ALLOWED))
        self._check(asked)
        judged = await self._record(caller, member_id, asked, epochs)
        if isinstance(judged, _Refused):
            raise await self._refuse(caller, asked, judged)
        opened = await open_slots(
            self._database,
            self._vault,
            self._pack,
            self._audit.ticket(judged.event, member_id),
            judged.row,
            judged.slots,
        )
        return EmergencyView(self._values(judged.row, opened), judged.event.id)

    def _check(self, asked: Emergency) -> None:
        """Refuse a form that is not filled in; what was typed is never repeated."""
        problems = []
        if not asked.fields or not set(asked.fields) <= self._pack.fields.keys():
            problems.append(FieldProblem("/fields", "missing", "name the fields"))
        if asked.reason not in self._pack.emergency_reasons:
            problems.append(FieldProblem("/reason", "missing", "choose a reason"))
        if not LEAST_WORDS <= len(asked.justification.strip()) <= MOST_WORDS:
            detail = f"{LEAST_WORDS} to {MOST_WORDS} characters"
            problems.append(FieldProblem("/justification", "length", detail))
        if problems:
            raise InvalidRequestError("the emergency is not described", errors=problems)

    async def _record(
        self, caller: Caller, member_id: MemberId, asked: Emergency, epochs: Epochs
    ) -> _Judged | _Refused:
        """Decide and record in one transaction, while the member's gate stands still."""
        async with self._database.unit_of_work() as work:
            try:
                gate = await self._consent.share_gate(work, member_id)
                row = await self._members.read(work, member_id)
            except NotFoundError:
                return _Refused(Refusal.MEMBER_UNKNOWN)
            if await repository.epochs(work) != (epochs.auth, epochs.policy):
                raise StaleEpochError
            keys = await self._vault.keys_of(work, member_id)
            if gate.state.is_closed or ORDINARY not in keys or PSEUDONYM not in keys:
                return _Refused(Refusal.MEMBER_ERASED)
            if row.brand != caller.brand:
                return _Refused(Refusal.OTHER_BRAND)
            refused = await self._refusal(work, caller, row, asked)
            if refused is not None:
                return _Refused(refused, keys[PSEUDONYM])
            slots = tuple(
                slot
                for slot in row.cells
                if field_of(slot) in asked.fields and key_kind(self._pack, slot) in keys
            )
            drafted = self._audit.draft(
                caller,
                BREAK_GLASS,
                subject=keys[PSEUDONYM],
                fields=tuple(sorted({*asked.fields, *slots})),
                decision="allow",
                reason=asked.reason,
                legal_basis=_BASIS.value,
            )
            justification = asked.justification.strip()
            event = await self._details.record(work, drafted, keys[ORDINARY], justification)
            return _Judged(row, slots, event)

    async def _refusal(
        self, work: UnitOfWork, caller: Caller, row: MemberRow, asked: Emergency
    ) -> str | None:
        """Say why not, or take one of the officer's emergencies of the day."""
        may_open = {entry.key for entry in self.fields(caller)}
        if not may_open.issuperset(asked.fields):
            return Refusal.ROLE_NOT_ALLOWED
        law = self._pack.jurisdictions.get(JurisdictionCode(row.jurisdiction))
        if law is None or _BASIS not in law.lawful_bases:
            return NO_BASIS
        return None if await self._take_one(work, caller) else SPENT

    async def _take_one(self, work: UnitOfWork, caller: Caller) -> bool:
        """Take the next of the day's emergencies, whichever process the others were read in."""
        day = self._audit.now_us() // DAY_US
        while True:
            used = await budget_repository.count_marks(work, caller.id, day)
            if used >= self._a_day:
                return False
            mark = self._vault.keyed_digest(_LABEL, caller.id.encode(), str(used).encode())
            if await budget_repository.add_mark(work, caller.id, day, mark):
                return True

    async def _refuse(self, caller: Caller, asked: Emergency, refused: _Refused) -> YinyomError:
        """Put a refusal on record; gives what to raise."""
        async with self._database.unit_of_work() as work:
            audit_id = await self._audit.record(
                work,
                caller,
                BREAK_GLASS,
                subject=refused.subject,
                fields=tuple(sorted(set(asked.fields) & self._pack.fields.keys())),
                decision="deny",
                reason=refused.reason,
            )
        if refused.reason in {NO_BASIS, SPENT}:
            return EmergencyRefusedError(reason=refused.reason, audit_id=audit_id)
        return refusal(Denied(Refusal(refused.reason)), audit_id)

    def _values(self, row: MemberRow, opened: dict[str, str]) -> tuple[CopiedValue, ...]:
        return tuple(
            CopiedValue(
                self._pack.fields[field_of(slot)],
                slot,
                opened[slot],
                row.provenance[slot].source,
                row.provenance[slot].collected_us,
                row.provenance[slot].verified_us,
            )
            for slot in in_order(self._pack, opened)
        )
