"""A member looks at what is held about them, by the road of every other disclosure.

Decide, put the event on record while the gate stands still, and only then open. Values leave as
outlines: whoever takes over a signed-in browser learns little worth copying. The trail knows the
reader as `self`, because a member's id may not stand in a log that cannot forget.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from dataclasses import field as dataclass_field

from audit import AuditEvent, AuditLog
from consent import ConsentService, GateState
from disclosure import repository
from disclosure.answers import refusal
from disclosure.decision import Denied, Refusal
from disclosure.errors import GateMovedError, MemberUnknownError
from disclosure.service import Epochs, StaleEpochError
from kernel import Caller, Database, MemberId, RequestId, UnitOfWork
from loyalty import plain_of
from members import MEMBER_TABLE, MemberRow, Members
from policies import VIEW, AccessSnapshot, CatalogueField, FieldKey, PolicyPack, mask
from vault import ORDINARY, AccessTicket, Vault

SELF = "self"
ROLE = "member"
VIEW_SELF = "member.view_self"
COPY_SELF = "member.copy_self"
LOYALTY = "loyalty"
_ATTEMPTS = 8


@dataclass(frozen=True, slots=True)
class Road:
    """By which right somebody looks: the event, the access action, the grounds.

    `resource` names what asked for it, such as a rights request. `opens_restricted` says that
    a restriction (PDPA s.34, GDPR art. 18) does not close it.
    """

    action: str
    access: str
    purpose: str | None = None
    legal_basis: str | None = None
    opens_restricted: bool = False
    resource: str | None = None


SELF_ROAD = Road(VIEW_SELF, VIEW, opens_restricted=True)


@dataclass(frozen=True, slots=True)
class HeldValue:
    """The outline of one value, its slot, where it came from, and when it was verified (µs)."""

    field: CatalogueField
    slot: str
    outline: str
    source: str
    collected_us: int
    verified_us: int | None


@dataclass(frozen=True, slots=True)
class SelfView:
    """What a member was shown of their own record, and the event that says so."""

    values: tuple[HeldValue, ...]
    audit_id: str


@dataclass(frozen=True, slots=True)
class CopiedValue:
    """One value in full as it leaves in a member's own copy, and where it came from (µs)."""

    field: CatalogueField
    slot: str
    value: str = dataclass_field(repr=False)
    source: str
    collected_us: int
    verified_us: int | None


@dataclass(frozen=True, slots=True)
class SelfCopy:
    """Everything sealed that is held about a member, and the event that says it was copied."""

    values: tuple[CopiedValue, ...]
    audit_id: str


@dataclass(frozen=True, slots=True)
class _Judged:
    row: MemberRow
    slots: tuple[str, ...]
    plain: tuple[HeldValue, ...]
    event: AuditEvent


def self_caller(brand: str, via: str, request_id: str) -> Caller:
    """Give the caller that a member is, acting on their own account."""
    return Caller(SELF, ROLE, via, brand, RequestId(request_id))


class SelfAccess:
    """Answers members who ask about themselves (PDPA s.30, GDPR art. 15)."""

    def __init__(
        self,
        database: Database,
        vault: Vault,
        audit: AuditLog,
        pack: PolicyPack,
        access: AccessSnapshot,
        consent: ConsentService,
        members: Members,
    ) -> None:
        self._database = database
        self._vault = vault
        self._audit = audit
        self._pack = pack
        self._access = access
        self._consent = consent
        self._members = members

    async def outline(
        self, caller: Caller, member_id: MemberId, epochs: Epochs, road: Road = SELF_ROAD
    ) -> SelfView:
        """Show a member what is held, masked field by field, in the catalogue's order.

        A restriction (PDPA s.34, GDPR art. 18) does not keep members from their own data;
        erased members are unknown.

        Raises:
            MemberUnknownError: erased, unknown, or of another brand than the caller's.
            RestrictedError: restricted, and the road does not lead there.
            PurposeNotAllowedError: the role may see no field by this road.
            StaleEpochError: clients or policy changed; refresh the epochs and ask again.
            GateMovedError: the record kept changing; nothing was disclosed.
        """
        judged = await self._judge(caller, member_id, epochs, road)
        opened = await self._open(member_id, judged)
        return SelfView((*self._held(judged.row, opened), *judged.plain), judged.event.id)

    async def copy(
        self, caller: Caller, member_id: MemberId, epochs: Epochs, *, resource: str
    ) -> SelfCopy:
        """Give every field in full, for the copy a member has a right to.

        Whoever asks for it has proven to be the member, or decided the request of somebody who
        has; `resource` names that request in the trail. Raises as `outline` does.
        """
        road = Road(COPY_SELF, VIEW, opens_restricted=True, resource=resource)
        judged = await self._judge(caller, member_id, epochs, road)
        opened = await self._open(member_id, judged)
        sealed = (
            CopiedValue(
                self._pack.fields[field_of(slot)],
                slot,
                opened[slot],
                judged.row.provenance[slot].source,
                judged.row.provenance[slot].collected_us,
                judged.row.provenance[slot].verified_us,
            )
            for slot in self._ordered(opened)
        )
        plain = (
            CopiedValue(one.field, one.slot, one.outline, one.source, one.collected_us, None)
            for one in judged.plain
        )
        return SelfCopy((*sealed, *plain), judged.event.id)

    async def _judge(
        self, caller: Caller, member_id: MemberId, epochs: Epochs, road: Road
    ) -> _Judged:
        for _ in range(_ATTEMPTS):
            judged = await self._attempt(caller, member_id, epochs, road)
            if judged is not None:
                return judged
        raise GateMovedError(reason="member_busy")

    async def _attempt(
        self, caller: Caller, member_id: MemberId, epochs: Epochs, road: Road
    ) -> _Judged | None:
        """Find, decide and record once; None when the gate moved under the decision."""
        refused: tuple[Refusal, AuditEvent] | None = None
        async with self._database.each_on_its_own() as work:
            if await repository.epochs(work) != (epochs.auth, epochs.policy):
                raise StaleEpochError
            gate = await self._consent.gate(work, member_id)
            row = await self._members.read(work, member_id)
            slots = tuple(self._readable(caller, row.cells, road))
            reason = _refusal(caller, gate.state, row, road, slots)
            if reason is not None:
                refused = reason, await self._deny(work, caller, reason, road)
            else:
                plain = await self._plain(work, caller, member_id, road)
                event = self._audit.draft(
                    caller,
                    road.action,
                    resource=road.resource,
                    subject=await self._members.pseudonym(work, member_id),
                    purpose=road.purpose,
                    fields=tuple(sorted([*slots, *(value.slot for value in plain)])),
                    decision="allow",
                    legal_basis=road.legal_basis,
                )
                parameters = self._audit.row(event)
                parameters["gate_member"] = member_id
                parameters["gate_version"] = gate.version
                parameters["auth_epoch"] = epochs.auth
                parameters["policy_epoch"] = epochs.policy
                if not await repository.record_if_unmoved(work, parameters):
                    return None
                return _Judged(row, slots, plain, event)
        reason, event = refused
        raise refusal(Denied(reason), event.id)

    async def _deny(
        self, work: UnitOfWork, caller: Caller, reason: Refusal, road: Road
    ) -> AuditEvent:
        event = self._audit.draft(
            caller, road.action, purpose=road.purpose, decision="deny", reason=reason.value
        )
        await self._audit.record_many(work, [event])
        return event

    async def _plain(
        self, work: UnitOfWork, caller: Caller, member_id: MemberId, road: Road
    ) -> tuple[HeldValue, ...]:
        """Give the plain fields that are held, in the catalogue's order; no cell is opened."""
        values, changed_us = await plain_of(work, member_id)
        readable = set(self._readable(caller, values, road))
        return tuple(
            HeldValue(entry, key, mask(entry.mask, _text(values[key])), LOYALTY, changed_us, None)
            for key, entry in self._pack.fields.items()
            if key in readable
        )

    def _readable(self, caller: Caller, slots: Iterable[str], road: Road) -> Iterator[str]:
        for slot in slots:
            entry = self._pack.fields.get(field_of(slot))
            if entry is not None and self._access.allows(
                caller.role, caller.brand, entry.category, road.access, road.purpose
            ):
                yield slot

    async def _open(self, member_id: MemberId, judged: _Judged) -> dict[str, str]:
        ticket = self._audit.ticket(judged.event, member_id)
        return await open_slots(
            self._database, self._vault, self._pack, ticket, judged.row, judged.slots
        )

    def _ordered(self, opened: dict[str, str]) -> list[str]:
        return in_order(self._pack, opened)

    def _held(self, row: MemberRow, opened: dict[str, str]) -> Iterator[HeldValue]:
        for slot in self._ordered(opened):
            entry = self._pack.fields[field_of(slot)]
            known = row.provenance[slot]
            yield HeldValue(
                entry,
                slot,
                mask(entry.mask, opened[slot]),
                known.source,
                known.collected_us,
                known.verified_us,
            )


def _text(value: str | int | list[str]) -> str:
    return " ".join(value) if isinstance(value, list) else str(value)


async def open_slots(
    database: Database,
    vault: Vault,
    pack: PolicyPack,
    ticket: AccessTicket,
    row: MemberRow,
    slots: Iterable[str],
) -> dict[str, str]:
    """Open slots of one member for a ticket, each under the key of its kind.

    `MemberUnknownError` when a key has gone meanwhile: the member was erased.
    """
    async with database.read() as session:
        keys = await vault.keys_of(session, row.id)
    by_kind: dict[str, dict[str, bytes]] = {}
    for slot in slots:
        by_kind.setdefault(key_kind(pack, slot), {})[slot] = row.cells[slot]
    opened: dict[str, str] = {}
    for kind, cells in by_kind.items():
        if kind not in keys:
            raise MemberUnknownError(reason=Refusal.MEMBER_UNKNOWN.value)
        opened |= vault.open(ticket, keys[kind], MEMBER_TABLE, row.id, cells)
    return opened


def key_kind(pack: PolicyPack, slot: str) -> str:
    """Say under which of a member's keys a slot is sealed."""
    kept = pack.own_key_class(field_of(slot))
    return ORDINARY if kept is None else kept.key


def in_order(pack: PolicyPack, slots: Iterable[str]) -> list[str]:
    """Order slots as the catalogue orders their fields."""
    order = {key: at for at, key in enumerate(pack.fields)}
    return sorted(slots, key=lambda name: (order[field_of(name)], name))


def field_of(slot: str) -> FieldKey:
    """Give the catalogue field of a slot: a second phone lies in `phone.2`."""
    return FieldKey(slot.partition(".")[0])


def _refusal(
    caller: Caller, state: GateState, row: MemberRow, road: Road, slots: tuple[str, ...]
) -> Refusal | None:
    if state.is_closed:
        return Refusal.MEMBER_ERASED
    if caller.brand != row.brand:
        return Refusal.OTHER_BRAND
    if state is GateState.RESTRICTED and not road.opens_restricted:
        return Refusal.MEMBER_RESTRICTED
    if row.cells and not slots:
        return Refusal.ROLE_NOT_ALLOWED
    return None
