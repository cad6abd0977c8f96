"""Members: registering, changing, finding, introducing and erasing them.

Everything happens inside the unit of work it is handed, together with its consent events, its
gate and its audit events; nothing here commits. The answer to a registration is the same
whether or not somebody with the same phone exists: duplicates are a question for people.
"""

from collections.abc import Mapping, Sequence
from datetime import date

from audit import AuditLog, RightsKind, RightsLedger, value_digest
from consent import (
    Basis,
    ConsentRequest,
    ConsentService,
    Decided,
    GateState,
    decide_basis,
)
from kernel import (
    Caller,
    FieldProblem,
    MemberId,
    PairwiseId,
    PreconditionError,
    ReadSession,
    UnitOfWork,
    new_id,
    put_message,
    to_date,
)
from members import repository
from members.answers import Duplicate, Found, Registered
from members.contact import ContactPoints
from members.erasure import Erasure
from members.errors import MemberChangedError, MemberDataError, MemberNotFoundError
from members.identifiers import identifier, identifiers
from members.normalise import Formats, Normal, normalise
from members.participants import Erased, EraseParticipant
from members.registration import (
    Prepared,
    contact_fields,
    identifying,
    normaliser_of,
    prepare,
)
from members.repository import ContactPoint, MemberRow, Provenance
from members.retention import key_kind
from members.row_digest import row_digest
from members.sources import MEMBER_TABLE
from policies import (
    AccessSnapshot,
    AgeTier,
    CatalogueField,
    IndexKind,
    JurisdictionCode,
    PolicyPack,
    PurposeKey,
    age_tier,
)
from vault import ORDINARY, PSEUDONYM, OwnerKey, Vault

_MOST_DUPLICATES = 20


class Members:
    """The registry's use cases on single members."""

    def __init__(
        self,
        pack: PolicyPack,
        access: AccessSnapshot,
        vault: Vault,
        audit: AuditLog,
        consent: ConsentService,
        rights: RightsLedger,
        participants: Sequence[EraseParticipant] = (),
    ) -> None:
        self._pack = pack
        self._access = access
        self._vault = vault
        self._audit = audit
        self._consent = consent
        self.erasure = Erasure(pack, vault, audit, consent, rights, participants)
        self._rights = rights
        self.contact_points = ContactPoints(pack, vault, audit, consent, rights)

    # --- registering ------------------------------------------------------------------

    def prepare(
        self,
        jurisdiction: str,
        fields: Mapping[str, str],
        declared: Formats,
        consents: Sequence[ConsentRequest],
    ) -> Prepared:
        """Check a registration whole before anything is stored; raises with every fault."""
        if JurisdictionCode(jurisdiction) not in self._pack.jurisdictions:
            known = ", ".join(sorted(self._pack.jurisdictions))
            raise MemberDataError(
                errors=[FieldProblem("/jurisdiction", "unknown_jurisdiction", f"one of {known}")]
            )
        prepared = prepare(self._pack, fields, declared)
        if not identifying(self._pack, prepared.values):
            raise MemberDataError(
                "a member needs a phone, an e-mail, a LINE id or a national id",
                errors=[FieldProblem("/fields", "no_identifier")],
            )
        tier = self._age_tier(jurisdiction, prepared.birth_date(), declared.today)
        self._consent.check(consents, tier, pointer="/consents")
        return prepared

    async def register(
        self,
        work: UnitOfWork,
        caller: Caller,
        *,
        brand: str,
        jurisdiction: str,
        prepared: Prepared,
        consents: Sequence[ConsentRequest],
        now_us: int,
        source: str | None = None,
        action: str = "member.register",
        send_codes: bool = True,
    ) -> Registered:
        """Store a prepared member with keys of its own, sealed cells, gate, consents and trail."""
        duplicates = await self._duplicates(work, brand, prepared.values)
        member_id = MemberId(new_id("mem", now_us))
        keys = await self._vault.make_keys(work, member_id, self._key_kinds(prepared.values))
        collected = Provenance(source or caller.via, now_us)
        row = MemberRow(
            member_id,
            brand,
            jurisdiction,
            self._seal(keys, member_id, prepared.values),
            dict.fromkeys(prepared.values, collected),
            1,
            now_us,
        )
        await repository.add_member(work, row)
        tier = self._age_tier(jurisdiction, prepared.birth_date(), to_date(now_us))
        await self._consent.open_gate(work, member_id, tier)
        held = identifiers(self._pack, prepared.values)
        await self._vault.tags.add(work, keys[ORDINARY], held)
        points = await self._store_contact_points(
            work, member_id, prepared.values, now_us=now_us, send_codes=send_codes
        )
        audit_id = await self._audit.record(
            work,
            caller,
            action,
            subject=keys[PSEUDONYM],
            fields=tuple(sorted(prepared.values)),
            after=self._digests(keys[PSEUDONYM], prepared.values, row),
        )
        carried = await self._consent.carry_over(
            work, caller, member_id, keys[PSEUDONYM], now_us=now_us
        )
        if carried:
            consents = await self._consent.admissible(work, member_id, consents)
        events = await self._consent.record(
            work, caller, member_id, keys[PSEUDONYM], consents, now_us=now_us
        )
        await put_message(work, "member.created", {"member_id": member_id}, now_us=now_us)
        return Registered(member_id, events, points, duplicates, audit_id)

    # --- changing ---------------------------------------------------------------------

    async def update(
        self,
        work: UnitOfWork,
        caller: Caller,
        member_id: MemberId,
        prepared: Prepared,
        *,
        now_us: int,
        expected_version: int | None = None,
        send_codes: bool = True,
    ) -> tuple[int, str]:
        """Replace fields of a member; gives the new version and the audit id.

        Fields that are not named stay as they are, so that two changes of different fields
        both survive. A changed contact field is unverified until its holder answers a code.
        """
        gate = await self._consent.hold_gate(work, member_id)
        row, keys = await self._held(work, member_id)
        if gate.state is GateState.RESTRICTED:
            raise MemberChangedError("the member is restricted to storage", reason="restricted")
        if expected_version is not None and expected_version != row.version:
            raise PreconditionError("the ETag given is not the present one")
        missing = [k for k in self._key_kinds(prepared.values) if k not in keys]
        keys |= await self._vault.make_keys(work, member_id, missing)
        collected = Provenance(caller.via, now_us)
        written = await repository.write_member(
            work,
            row,
            {**row.cells, **self._seal(keys, member_id, prepared.values)},
            {**row.provenance, **dict.fromkeys(prepared.values, collected)},
            now_us=now_us,
        )
        if written is None:
            raise MemberChangedError
        await self._retag(
            work, keys[ORDINARY], row, prepared.values, now_us=now_us, send_codes=send_codes
        )
        await self._consent.carry_over(work, caller, member_id, keys[PSEUDONYM], now_us=now_us)
        birth_date = prepared.birth_date()
        if birth_date is not None:
            tier = self._age_tier(row.jurisdiction, birth_date, to_date(now_us))
            await self._consent.set_age_tier(work, member_id, tier)
        audit_id = await self._audit.record(
            work,
            caller,
            "member.update",
            subject=keys[PSEUDONYM],
            fields=tuple(sorted(prepared.values)),
            after=self._digests(keys[PSEUDONYM], prepared.values, written),
        )
        if prepared.values:
            await self._rights.record(work, RightsKind.RECTIFICATION, member_id, {}, now_us)
        await put_message(work, "member.rectified", {"member_id": member_id}, now_us=now_us)
        return written.version, audit_id

    async def version(self, session: ReadSession, member_id: MemberId) -> int:
        """Give the version of a member's row, for its ETag."""
        row = await repository.read_member(session, member_id)
        if row is None:
            raise MemberNotFoundError(reason="member_unknown")
        return row.version

    # --- finding ----------------------------------------------------------------------

    async def lookup(
        self,
        work: UnitOfWork,
        caller: Caller,
        kind: str,
        value: str,
        declared: Formats,
        purpose: str,
    ) -> Found:
        """Find a member of the caller's brand by an identifier, for a purpose; an event either way.

        Where several members share the value, the oldest is given: who needs to tell them
        apart looks into the duplicates queue. Restricted members are not told of.
        """
        entry = self._indexed_field(kind)
        index_kind = IndexKind(kind)
        answer = normalise(normaliser_of(entry), value, declared)
        if not isinstance(answer, Normal):
            raise MemberDataError(errors=[FieldProblem("/value", answer.code)])
        if PurposeKey(purpose) not in self._pack.purposes:
            raise MemberDataError(errors=[FieldProblem("/purpose", "unknown_purpose")])
        found: MemberId | None = None
        reason: str | None = "scope_missing"
        if f"purpose:{purpose}" in caller.scopes and self._access.allows(
            caller.role, caller.brand, "member", "lookup", purpose
        ):
            reason = "member_unknown"
            sought = identifier(index_kind.value, answer.value)
            for owner in await self._vault.tags.find(work, sought):
                if await self._may_be_told(work, caller, MemberId(owner), purpose):
                    found, reason = MemberId(owner), None
                    break
        keys = {} if found is None else await self._vault.keys_of(work, found)
        audit_id = await self._audit.record(
            work,
            caller,
            "member.lookup",
            subject=keys.get(PSEUDONYM),
            purpose=purpose,
            fields=(index_kind.value,),
            decision="deny" if reason else "allow",
            reason=reason,
        )
        return Found(found, audit_id, reason)

    async def introduce(
        self, work: UnitOfWork, caller: Caller, member_id: MemberId, to_client: str, *, now_us: int
    ) -> tuple[PairwiseId, str]:
        """Let another client know a member by an id of its own; gives it and the audit id."""
        await self._consent.hold_gate(work, member_id)
        keys = await self._vault.keys_of(work, member_id)
        pairwise = await repository.pairwise_for(work, to_client, member_id, now_us=now_us)
        audit_id = await self._audit.record(
            work,
            caller,
            "member.introduce",
            subject=keys.get(PSEUDONYM),
            resource=f"client:{to_client}",
        )
        return pairwise, audit_id

    async def pairwise_for(
        self, work: UnitOfWork, client_id: str, member_id: MemberId, *, now_us: int
    ) -> PairwiseId:
        """Give the id by which a client knows a member."""
        return await repository.pairwise_for(work, client_id, member_id, now_us=now_us)

    async def resolve(self, session: ReadSession, pairwise: str, caller: Caller) -> MemberId:
        """Resolve what a client calls a member, inside its brand, or `MemberNotFoundError`."""
        return await self.resolve_for(session, pairwise, caller.id, caller.brand)

    async def resolve_for(
        self, session: ReadSession, pairwise: str, client_id: str, brand: str
    ) -> MemberId:
        """Resolve what a client of a brand calls a member, or `MemberNotFoundError`."""
        member_id = await repository.member_of_pairwise(session, pairwise, client_id)
        if member_id is not None:
            row = await repository.read_member(session, member_id)
            gate = await self._consent.gate(session, member_id)
            if row is not None and row.brand == brand and not gate.state.is_closed:
                return member_id
        raise MemberNotFoundError(reason="member_unknown")

    async def known_as(
        self, session: ReadSession, member_id: MemberId, caller: Caller
    ) -> PairwiseId | None:
        """Give the id that a client has for a member of its brand, or None."""
        row = await repository.read_member(session, member_id)
        if row is None or row.brand != caller.brand:
            return None
        return await repository.known_as(session, caller.id, member_id)

    async def jurisdiction_of(self, session: ReadSession, member_id: MemberId) -> str:
        """Give the law that a member is under, or `MemberNotFoundError`."""
        return (await self.read(session, member_id)).jurisdiction

    async def pseudonym(self, session: ReadSession, member_id: MemberId) -> OwnerKey:
        """Give the pseudonym key under which a member appears in the trail."""
        keys = await self._vault.keys_of(session, member_id)
        if PSEUDONYM not in keys:
            raise MemberNotFoundError(reason="member_unknown")
        return keys[PSEUDONYM]

    async def read(self, session: ReadSession, member_id: MemberId) -> MemberRow:
        """Read a member's sealed row, or `MemberNotFoundError`."""
        row = await repository.read_member(session, member_id)
        if row is None:
            raise MemberNotFoundError(reason="member_unknown")
        return row

    # --- erasing ----------------------------------------------------------------------

    async def erase(
        self, work: UnitOfWork, caller: Caller, member_id: MemberId, *, now_us: int
    ) -> Erased:
        """Erase a member in this transaction, here and in the rooms above (see `Erasure`)."""
        return await self.erasure.erase(work, caller, member_id, now_us=now_us)

    async def forget_pseudonyms(self, work: UnitOfWork, member_ids: Sequence[MemberId]) -> None:
        """Forget by which ids clients knew members whose last key is gone."""
        for member_id in member_ids:
            await repository.drop_pairwise_ids(work, member_id)

    # --- helpers ----------------------------------------------------------------------

    def _age_tier(self, jurisdiction: str, birth_date: date | None, today: date) -> AgeTier:
        rules = self._pack.jurisdictions[JurisdictionCode(jurisdiction)]
        return age_tier(rules, birth_date, today)

    def _key_kinds(self, values: Mapping[str, str]) -> list[str]:
        return sorted({ORDINARY, PSEUDONYM, *(key_kind(self._pack, field) for field in values)})

    def _seal(
        self, keys: Mapping[str, OwnerKey], member_id: MemberId, values: Mapping[str, str]
    ) -> dict[str, bytes]:
        cells: dict[str, bytes] = {}
        for kind in {key_kind(self._pack, field) for field in values}:
            part = {field: v for field, v in values.items() if key_kind(self._pack, field) == kind}
            cells |= self._vault.seal(keys[kind], MEMBER_TABLE, member_id, part)
        return cells

    async def _held(
        self, work: UnitOfWork, member_id: MemberId
    ) -> tuple[MemberRow, dict[str, OwnerKey]]:
        row = await repository.hold_member(work, member_id)
        keys = await self._vault.keys_of(work, member_id)
        if row is None or ORDINARY not in keys or PSEUDONYM not in keys:
            raise MemberNotFoundError(reason="member_unknown")
        return row, keys

    @staticmethod
    def _digests(pseudonym: OwnerKey, values: Mapping[str, str], row: MemberRow) -> dict[str, str]:
        told = {f: value_digest(pseudonym.secret, f, value) for f, value in values.items()}
        return told | row_digest(pseudonym, row)

    async def _store_contact_points(
        self,
        work: UnitOfWork,
        member_id: MemberId,
        values: Mapping[str, str],
        *,
        now_us: int,
        send_codes: bool,
    ) -> list[ContactPoint]:
        return [
            await self.contact_points.store(
                work, member_id, kind, field, now_us=now_us, send_code=send_codes
            )
            for field, kind in contact_fields(self._pack, values)
        ]

    async def _retag(
        self,
        work: UnitOfWork,
        key: OwnerKey,
        row: MemberRow,
        values: Mapping[str, str],
        *,
        now_us: int,
        send_codes: bool,
    ) -> None:
        held = identifiers(self._pack, values)
        for field, _ in held:
            await self._vault.tags.drop(work, row.id, field)
        await self._vault.tags.add(work, key, held)
        for field, kind in contact_fields(self._pack, values):
            if field in row.cells:
                await repository.unverify_field(work, row.id, field)
                if send_codes:
                    await self.contact_points.send_again(work, row.id, field, now_us=now_us)
            else:
                await self.contact_points.store(
                    work, row.id, kind, field, now_us=now_us, send_code=send_codes
                )

    async def _duplicates(
        self, work: UnitOfWork, brand: str, values: Mapping[str, str]
    ) -> list[Duplicate]:
        shared: dict[str, list[str]] = {}
        for field, held in identifiers(self._pack, values):
            for owner in await self._vault.tags.find(work, held, most=_MOST_DUPLICATES):
                shared.setdefault(owner, []).append(field)
        duplicates: list[Duplicate] = []
        for owner, fields in shared.items():
            row = await repository.read_member(work, MemberId(owner))
            if row is not None and row.brand == brand:
                duplicates.append(Duplicate(row.id, tuple(sorted(set(fields)))))
        return duplicates[:_MOST_DUPLICATES]

    def _indexed_field(self, kind: str) -> CatalogueField:
        indexed = {e.index.value: e for e in self._pack.fields.values() if e.index is not None}
        if kind not in indexed:
            known = ", ".join(sorted(indexed))
            raise MemberDataError(errors=[FieldProblem("/kind", "unknown_kind", f"one of {known}")])
        return indexed[kind]

    async def _may_be_told(
        self, work: UnitOfWork, caller: Caller, member_id: MemberId, purpose: str
    ) -> bool:
        """Say whether any channel of the purpose has a lawful basis, with the gate held still."""
        gate = await self._consent.share_gate(work, member_id)
        row = await repository.read_member(work, member_id)
        if row is None or row.brand != caller.brand or gate.state is not GateState.ACTIVE:
            return False
        entry, tier = self._pack.purposes[PurposeKey(purpose)], AgeTier(gate.age_tier)
        states = [s for s in await self._consent.states(work, member_id) if s.purpose == purpose]
        decided: list[Decided | None] = [
            Decided(s.status, s.event_id, s.notice_revision, s.guardian_id) for s in states
        ]
        now_us = self._audit.now_us()
        return any(
            isinstance(decide_basis(self._pack, entry, row.jurisdiction, tier, one, now_us), Basis)
            for one in decided or [None]
        )
