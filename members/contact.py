"""Contact points: proving that a number or address reaches its member.

A code goes out, a code comes back. What is stored is a keyed digest with a counter that each
attempt raises before the code is compared, so that guessing in parallel gains nothing.
"""

import hmac
import secrets
from collections.abc import Mapping, Sequence

from audit import AuditLog, RightsKind, RightsLedger
from consent import ConsentService, GateState
from kernel import (
    Caller,
    ContactPointId,
    FieldProblem,
    IntegrityError,
    MemberId,
    ReadSession,
    UnitOfWork,
    new_id,
    put_message,
)
from members import repository
from members.errors import (
    ContactPointNotFoundError,
    MemberChangedError,
    MemberDataError,
    MemberNotFoundError,
)
from members.identifiers import identifier
from members.normalise import Formats, Normal, normalise
from members.repository import ContactPoint
from members.row_digest import row_digest
from members.sources import MEMBER_TABLE
from policies import ContactKind, FieldKey, PolicyPack
from vault import ORDINARY, PSEUDONYM, OwnerKey, Vault

CODE_DIGITS = 6
CODE_LIFETIME_US = 10 * 60 * 1_000_000
CODE_ATTEMPTS = 5
CODE_WANTED = "contact_point.code_wanted"
CONTACT_USE = "contact"
"""What a code is for when it proves no more than that a contact reaches its member."""
_MOST_POINTS = 10
_MOST_SHARED = 10


class ContactPoints:
    """Adds, verifies and finds contact points."""

    def __init__(
        self,
        pack: PolicyPack,
        vault: Vault,
        audit: AuditLog,
        consent: ConsentService,
        rights: RightsLedger,
    ) -> None:
        self._rights = rights
        self._pack = pack
        self._vault = vault
        self._audit = audit
        self._consent = consent

    async def add(
        self,
        work: UnitOfWork,
        caller: Caller,
        member_id: MemberId,
        kind: str,
        value: str,
        declared: Formats,
        *,
        now_us: int,
        send_code: bool = True,
    ) -> tuple[ContactPoint, str]:
        """Add a way to reach a member and send it a code; gives it and the audit id."""
        field = self._field_of(kind)
        answer = normalise(self._pack.fields[field].kind.value, value, declared)
        if not isinstance(answer, Normal):
            raise MemberDataError(errors=[FieldProblem("/value", answer.code)])
        gate = await self._consent.hold_gate(work, member_id)
        if gate.state is GateState.RESTRICTED:
            raise MemberChangedError("the member is restricted to storage", reason="restricted")
        row = await repository.hold_member(work, member_id)
        keys = await self._vault.keys_of(work, member_id)
        if row is None or ORDINARY not in keys:
            raise MemberNotFoundError(reason="member_unknown")
        points = await repository.contact_points_of(work, member_id)
        if len(points) >= _MOST_POINTS:
            raise MemberDataError("this member has ten contact points already", reason="too_many")
        slot = _free_slot(field, row.cells)
        sealed = self._vault.seal(keys[ORDINARY], MEMBER_TABLE, member_id, {slot: answer.value})
        provenance = repository.Provenance(caller.via, now_us)
        written = await repository.write_member(
            work,
            row,
            {**row.cells, **sealed},
            {**row.provenance, slot: provenance},
            now_us=now_us,
        )
        if written is None:
            raise MemberChangedError
        index = self._pack.fields[field].index
        if index is not None:
            held = [(slot, identifier(index.value, answer.value))]
            await self._vault.tags.add(work, keys[ORDINARY], held)
            await self._consent.carry_over(work, caller, member_id, keys[PSEUDONYM], now_us=now_us)
        point = await self.store(work, member_id, kind, slot, now_us=now_us, send_code=send_code)
        audit_id = await self._audit.record(
            work,
            caller,
            "contact_point.add",
            subject=keys[PSEUDONYM],
            resource=f"contact_point:{kind}",
            fields=(field,),
            after=row_digest(keys[PSEUDONYM], written),
        )
        return point, audit_id

    async def store(
        self,
        work: UnitOfWork,
        member_id: MemberId,
        kind: str,
        field: str,
        *,
        now_us: int,
        send_code: bool = True,
    ) -> ContactPoint:
        """Store an unverified contact point for a sealed field and ask for a code to be sent."""
        point = ContactPoint(ContactPointId(new_id("cp", now_us)), member_id, kind, field, None)
        await repository.add_contact_point(work, point, now_us=now_us)
        if send_code:
            await self.want_code(work, point.id, kind, now_us=now_us)
        return point

    async def send_again(
        self, work: UnitOfWork, member_id: MemberId, field: str, *, now_us: int
    ) -> None:
        """Ask for a code for the contact point that a field holds."""
        for point in await repository.contact_points_of(work, member_id):
            if point.field == field:
                await self.want_code(work, point.id, point.kind, now_us=now_us)

    async def want_code(
        self,
        work: UnitOfWork,
        contact_point_id: str,
        kind: str,
        *,
        use: str = CONTACT_USE,
        now_us: int,
    ) -> None:
        """Ask for a code; it is made when it is delivered and never stored in the clear.

        `use` says what the code is for, such as signing in or one rights request: `verify` takes
        it for that and for nothing else.
        """
        wanted = {"contact_point_id": contact_point_id, "kind": kind, "use": use}
        await put_message(work, CODE_WANTED, wanted, now_us=now_us)

    async def issue_code(
        self, work: UnitOfWork, wanted: Mapping[str, str], *, now_us: int
    ) -> str | None:
        """Make the code that a message asks for; earlier ones stop working.

        None when the contact point has gone since the code was asked for, with its member.
        """
        contact_point_id, use = wanted["contact_point_id"], wanted.get("use", CONTACT_USE)
        code = f"{secrets.randbelow(10**CODE_DIGITS):0{CODE_DIGITS}d}"
        stored = await repository.set_code(
            work,
            contact_point_id,
            self._mac(contact_point_id, use, code),
            expires_us=now_us + CODE_LIFETIME_US,
        )
        return code if stored else None

    async def verify(
        self,
        work: UnitOfWork,
        caller: Caller,
        member_id: MemberId,
        contact_point_id: str,
        code: str,
        *,
        use: str = CONTACT_USE,
        now_us: int,
    ) -> str | None:
        """Take a code; gives None when it was right, else why not. Commit in both cases.

        A failed attempt must be stored, so the reason is given back and not raised. A code that
        was sent for another `use` is a wrong one: whoever reads one out at a till has not agreed
        to an erasure.
        """
        point = await repository.contact_point_by_id(work, contact_point_id)
        if point is None or point.member_id != member_id:
            raise ContactPointNotFoundError(reason="contact_point_unknown")
        await self._consent.hold_gate(work, member_id)
        reason = await self._refusal(work, contact_point_id, use, code, now_us)
        keys = await self._vault.keys_of(work, member_id)
        after = None if reason else await self._mark_verified(work, point, keys, now_us=now_us)
        await self._audit.record(
            work,
            caller,
            "contact_point.verify",
            subject=keys.get(PSEUDONYM),
            resource=f"contact_point:{point.kind}",
            decision="deny" if reason else "allow",
            reason=reason,
            after=after,
        )
        return reason

    async def prove(
        self, work: UnitOfWork, caller: Caller, point: ContactPoint, *, now_us: int
    ) -> None:
        """Take a contact point for verified by a code that its holder gave to the caller's room.

        For whoever asks for the proof before anything is stored: people who join, and members
        who change how they are reached.
        """
        await self._consent.hold_gate(work, point.member_id)
        keys = await self._vault.keys_of(work, point.member_id)
        after = await self._mark_verified(work, point, keys, now_us=now_us)
        await self._audit.record(
            work,
            caller,
            "contact_point.verify",
            subject=keys.get(PSEUDONYM),
            resource=f"contact_point:{point.kind}",
            decision="allow",
            after=after,
        )

    async def remove(
        self,
        work: UnitOfWork,
        caller: Caller,
        member_id: MemberId,
        contact_point_id: str,
        *,
        now_us: int,
    ) -> str:
        """Forget a way to reach a member, its cell and tag with it; gives the audit id.

        Refused for the last verified one, which lets the member in, and for the first of its
        kind while there is another: that is the one purposes read, so it is replaced instead.
        """
        gate = await self._consent.hold_gate(work, member_id)
        row = await repository.hold_member(work, member_id)
        keys = await self._vault.keys_of(work, member_id)
        if row is None or PSEUDONYM not in keys:
            raise MemberNotFoundError(reason="member_unknown")
        points = await repository.contact_points_of(work, member_id)
        point = next((one for one in points if one.id == contact_point_id), None)
        if point is None:
            raise ContactPointNotFoundError(reason="contact_point_unknown")
        if gate.state is GateState.RESTRICTED:
            raise MemberChangedError("the member is restricted to storage", reason="restricted")
        if not removable(point, points):
            raise MemberChangedError("this contact point is needed", reason="contact_needed")
        await self._vault.tags.drop(work, member_id, point.field)
        await repository.drop_point(work, point.id)
        written = await repository.write_member(
            work,
            row,
            {slot: cell for slot, cell in row.cells.items() if slot != point.field},
            {slot: known for slot, known in row.provenance.items() if slot != point.field},
            now_us=now_us,
        )
        if written is None:
            raise MemberChangedError
        audit_id = await self._audit.record(
            work,
            caller,
            "contact_point.remove",
            subject=keys[PSEUDONYM],
            resource=f"contact_point:{point.kind}",
            fields=(point.field,),
            after=row_digest(keys[PSEUDONYM], written),
        )
        await self._rights.record(work, RightsKind.RECTIFICATION, member_id, {}, now_us)
        await put_message(work, "member.rectified", {"member_id": member_id}, now_us=now_us)
        return audit_id

    async def points_of(self, session: ReadSession, member_id: MemberId) -> list[ContactPoint]:
        """Give a member's contact points, the oldest first."""
        return await repository.contact_points_of(session, member_id)

    async def sign_in_point(
        self, session: ReadSession, kind: str, value: str, declared: Formats
    ) -> ContactPoint | None:
        """Find the contact point that signs its member in, verified or the only one there is.

        A value that several members share and none has verified signs nobody in: the code
        would let one person of a family into the record of another.
        """
        entry = self._pack.fields[self._field_of(kind)]
        answer = normalise(entry.kind.value, value, declared)
        if not isinstance(answer, Normal) or entry.index is None:
            return None
        sought = identifier(entry.index.value, answer.value)
        tags = await self._vault.tags.tags(session, sought)
        found = [await repository.contact_point_by_sign_in_tag(session, tag) for tag in tags]
        verified = [point for point in found if point is not None]
        if verified:
            # During a re-index two may hold it for a moment: whoever verified it last.
            return max(verified, key=lambda point: point.verified_us or 0)
        owners = await self._vault.tags.find(session, sought, most=_MOST_SHARED)
        if len(owners) != 1:
            return None
        for point in await repository.contact_points_of(session, MemberId(owners[0])):
            held = await self._vault.tags.of_field(session, point.member_id, point.field)
            if not set(tags).isdisjoint(held):
                return point
        return None

    def _field_of(self, kind: str) -> FieldKey:
        for key, entry in self._pack.fields.items():
            if entry.contact is not None and entry.contact.value == kind:
                return key
        known = ", ".join(kind.value for kind in ContactKind)
        raise MemberDataError(errors=[FieldProblem("/kind", "unknown_kind", f"one of {known}")])

    async def _refusal(
        self, work: UnitOfWork, contact_point_id: str, use: str, code: str, now_us: int
    ) -> str | None:
        attempt = await repository.try_code(work, contact_point_id)
        if attempt is None:
            return "no_code"
        if attempt.attempts > CODE_ATTEMPTS:
            return "too_many_attempts"
        if now_us > attempt.expires_us:
            return "code_expired"
        if not hmac.compare_digest(attempt.code_mac, self._mac(contact_point_id, use, code)):
            return "code_wrong"
        return None

    async def _mark_verified(
        self,
        work: UnitOfWork,
        point: ContactPoint,
        keys: Mapping[str, OwnerKey],
        *,
        now_us: int,
    ) -> dict[str, str]:
        """Mark the point and its field; gives the digest of the row for the event."""
        await repository.drop_code(work, point.id)
        tags = await self._vault.tags.of_field(work, point.member_id, point.field)
        row = await repository.hold_member(work, point.member_id)
        if row is None or not tags or point.field not in row.provenance or PSEUDONYM not in keys:
            raise MemberNotFoundError(reason="member_unknown")
        try:
            await repository.mark_verified(work, point.id, tags, now_us=now_us)
        except IntegrityError as error:
            raise MemberChangedError(
                "another member verified the same value at this moment", reason="verified_elsewhere"
            ) from error
        known = row.provenance[point.field]
        verified = repository.Provenance(
            known.source, known.collected_us, now_us, f"otp:{point.id}"
        )
        written = await repository.write_member(
            work, row, row.cells, {**row.provenance, point.field: verified}, now_us=now_us
        )
        if written is None:
            raise MemberChangedError
        return row_digest(keys[PSEUDONYM], written)

    def _mac(self, contact_point_id: str, use: str, code: str) -> bytes:
        return self._vault.keyed_digest(
            "contact-code", contact_point_id.encode(), use.encode(), code.encode()
        )


def removable(point: ContactPoint, points: Sequence[ContactPoint]) -> bool:
    """Say whether a member stays reachable, and purposes find their field, without a point."""
    others = [one for one in points if one.id != point.id]
    is_first = "." not in point.field
    return any(one.verified_us is not None for one in others) and not (
        is_first and any(one.kind == point.kind for one in others)
    )


def _free_slot(field: str, cells: object) -> str:
    held = frozenset(cells) if isinstance(cells, dict) else frozenset[str]()
    if field not in held:
        return field
    return next(f"{field}.{at}" for at in range(2, _MOST_POINTS + 2) if f"{field}.{at}" not in held)
