"""Disclosure: the one door through which plaintext leaves.

The order is fixed: find, decide, put the event on record while the gate stands still, and only
then unwrap a key. Who withdraws while a read is under way either comes after its event, or the
event finds the gate moved and the read is decided again. A denial is an event too.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgpack

from audit import AuditEvent, AuditLog
from consent import BasisRefusal, GateState, NoLawfulBasisError, Status
from disclosure import repository
from disclosure.budget import MemberBudget
from disclosure.decision import Allowed, Decision, Denied, Refusal, Snapshot, decide
from disclosure.errors import (
    GateMovedError,
    MemberUnknownError,
    PurposeNotAllowedError,
    RestrictedError,
    UnknownFieldError,
    UnknownPurposeError,
)
from kernel import (
    Caller,
    Database,
    FieldProblem,
    InvalidRequestError,
    ReadSession,
    Row,
    YinyomError,
)
from loyalty import plain_values
from members import MEMBER_TABLE
from policies import (
    VIEW,
    VIEW_MASKED,
    AccessSnapshot,
    AgeTier,
    Channel,
    FieldKey,
    MaskRule,
    PolicyPack,
    Purpose,
    PurposeKey,
    Storage,
    mask,
)
from vault import (
    ORDINARY,
    PSEUDONYM,
    AccessTicket,
    OwnerKey,
    SealedRow,
    Vault,
    WrappedKey,
    key_from_row,
)

_ATTEMPTS = 8
_MOST_FIELDS = 100
_AGE_TIERS = {tier.value: tier for tier in AgeTier}
_GATE_STATES = {state.value: state for state in GateState}
_STATUSES: dict[str | None, Status | None] = {None: None, **{s.value: s for s in Status}}


class StaleEpochError(Exception):
    """A client or the policy changed since the caller was authenticated: do it again."""


@dataclass(frozen=True, slots=True)
class Epochs:
    """The epochs under which the caller was authenticated and the policy compiled."""

    auth: int
    policy: int


@dataclass(frozen=True, slots=True)
class Question:
    """A checked request for data: purpose and channel exist, fields are in the catalogue."""

    purpose: Purpose
    channel: Channel | None
    fields: tuple[str, ...] | None
    action: str


@dataclass(frozen=True, slots=True)
class _Judged:
    """One member after the decision: what was found, decided and written down."""

    row: Row
    found: Snapshot
    decision: Decision
    event: AuditEvent


class DisclosureService:
    """Answers reads of members for clients, for one compiled policy."""

    def __init__(
        self,
        database: Database,
        vault: Vault,
        audit: AuditLog,
        pack: PolicyPack,
        access: AccessSnapshot,
        budget: MemberBudget,
    ) -> None:
        self._budget = budget
        self._database = database
        self._vault = vault
        self._audit = audit
        self._pack = pack
        self._access = access
        kinds = {field: pack.own_key_class(field) for field in pack.fields}
        self._retained = {field: kept.key for field, kept in kinds.items() if kept is not None}
        self._plain = {key for key, one in pack.fields.items() if one.storage is Storage.PLAIN}

    def question(
        self,
        purpose: str,
        channel: str | None,
        fields: Sequence[str] | None,
        *,
        masked: bool = False,
    ) -> Question:
        """Check a request against the pack before anything is read."""
        found = self._pack.purposes.get(PurposeKey(purpose))
        if found is None:
            raise UnknownPurposeError(
                errors=[FieldProblem("/purpose", "unknown_purpose")], reason="unknown_purpose"
            )
        way = Channel(channel) if channel else None
        found.fields_for(way)
        if fields is not None:
            if not 0 < len(fields) <= _MOST_FIELDS:
                raise UnknownFieldError("name between 1 and 100 fields", reason="field_count")
            problems = [
                FieldProblem(f"/fields/{at}", "unknown_field")
                for at, key in enumerate(fields)
                if FieldKey(key) not in self._pack.fields
            ]
            if problems:
                raise UnknownFieldError(errors=problems, reason="unknown_field")
        wanted = None if fields is None else tuple(fields)
        return Question(found, way, wanted, VIEW_MASKED if masked else VIEW)

    def shown(self, caller: Caller, question: Question) -> frozenset[str]:
        """Give the fields that the purpose can show this caller of anybody at all.

        Whatever members are chosen by, of those fields, tells the caller of it.
        """
        return frozenset(
            key
            for key in question.purpose.fields_for(question.channel)
            if self._access.allows(
                caller.role,
                caller.brand,
                self._pack.fields[key].category,
                VIEW,
                question.purpose.key,
            )
        )

    async def view(
        self, caller: Caller, pairwise: str, question: Question, epochs: Epochs
    ) -> dict[str, Any]:
        """Disclose one member to a client, or raise the refusal; either way it is on record."""
        await self._budget.admit(caller, (pairwise,))
        judged = await self._judge(caller, pairwise, question, epochs, "member.view")
        self._raise_if_denied(judged)
        opened = await self._open([judged])
        return self._answer(pairwise, question, judged, opened[0])

    async def check(
        self, caller: Caller, pairwise: str, question: Question, epochs: Epochs
    ) -> dict[str, Any]:
        """Say what `view` would decide, without opening anything; unknown is unknown here too."""
        judged = await self._judge(caller, pairwise, question, epochs, "decision.check")
        if isinstance(judged.decision, Denied) and _is_hidden(judged.decision):
            raise refusal(judged.decision, judged.event.id)
        answer: dict[str, Any] = {
            "id": pairwise,
            "purpose": question.purpose.key,
            "channel": question.channel,
        }
        if isinstance(judged.decision, Denied):
            answer |= {"decision": "deny", "reason": judged.decision.reason.value}
        else:
            answer |= {
                "decision": "allow",
                "fields": list(judged.decision.fields),
                "omitted": dict(judged.decision.omitted),
                "basis": _basis(judged.decision),
            }
        return answer | {"audit_id": judged.event.id}

    async def view_many(
        self, caller: Caller, pairwise: Sequence[str], question: Question, epochs: Epochs
    ) -> dict[str, Any]:
        """Disclose up to 100 members in one transaction, one event each; refusals stand beside.

        Each result is what `view` answers, or `{"id","denied","audit_id"}`.
        """
        if not 0 < len(pairwise) <= repository.MOST_IN_BATCH:
            raise InvalidRequestError("name between 1 and 100 members", reason="member_count")
        wanted = list(dict.fromkeys(pairwise))
        await self._budget.admit(caller, wanted)
        judged: dict[str, _Judged] = {}
        events: list[AuditEvent] = []
        missing: dict[str, str] = {}
        async with self._database.unit_of_work() as work:
            await self._require_present(work, epochs)
            rows = await repository.hold_many(
                work, wanted, caller.id, question.purpose.key, question.channel or ""
            )
            for row in rows:
                one = await self._decide(work, caller, row, question, "member.view")
                judged[row["pairwise_id"]] = one
                events.append(one.event)
            for unknown in wanted:
                if unknown not in judged:
                    event = self._unknown(caller, question, "member.view")
                    missing[unknown] = event.id
                    events.append(event)
            await self._audit.record_many(work, events)
        allowed = [one for one in judged.values() if isinstance(one.decision, Allowed)]
        opened = {
            one.found.member_id: values
            for one, values in zip(allowed, await self._open(allowed), strict=True)
        }
        results: list[dict[str, Any]] = []
        for identifier in wanted:
            found = judged.get(identifier)
            if found is None:
                reason, audit_id = Refusal.MEMBER_UNKNOWN.value, missing[identifier]
            elif isinstance(found.decision, Denied):
                reason, audit_id = _outward(found.decision), found.event.id
            else:
                values = opened[found.found.member_id]
                results.append(self._answer(identifier, question, found, values))
                continue
            results.append({"id": identifier, "denied": reason, "audit_id": audit_id})
        return {"results": results}

    # --- find, decide, record ---------------------------------------------------------

    async def _judge(
        self, caller: Caller, pairwise: str, question: Question, epochs: Epochs, action: str
    ) -> _Judged:
        for _ in range(_ATTEMPTS):
            judged = await self._attempt(caller, pairwise, question, epochs, action)
            if judged is not None:
                return judged
        raise GateMovedError(reason="member_busy")

    async def _attempt(
        self, caller: Caller, pairwise: str, question: Question, epochs: Epochs, action: str
    ) -> _Judged | None:
        """Find, decide and record once; None when the gate moved under the decision."""
        judged: _Judged | None = None
        async with self._database.each_on_its_own() as work:
            row = await repository.select_one(
                work, pairwise, caller.id, question.purpose.key, question.channel or ""
            )
            if row is None:
                await self._require_present(work, epochs)
                event = self._unknown(caller, question, action)
                await self._audit.record_many(work, [event])
            else:
                judged = await self._decide(work, caller, row, question, action)
                event = judged.event
                parameters = self._audit.row(event)
                parameters["gate_member"] = judged.found.member_id
                parameters["gate_version"] = judged.found.gate_version
                parameters["auth_epoch"] = epochs.auth
                parameters["policy_epoch"] = epochs.policy
                if not await repository.record_if_unmoved(work, parameters):
                    await self._require_present(work, epochs)
                    return None
        if judged is None:
            raise MemberUnknownError(reason=Refusal.MEMBER_UNKNOWN.value, audit_id=event.id)
        return judged

    @staticmethod
    async def _require_present(session: ReadSession, epochs: Epochs) -> None:
        if await repository.epochs(session) != (epochs.auth, epochs.policy):
            raise StaleEpochError

    def _unknown(self, caller: Caller, question: Question, action: str) -> AuditEvent:
        return self._audit.draft(
            caller,
            action,
            purpose=question.purpose.key,
            channel=question.channel,
            decision="deny",
            reason=Refusal.MEMBER_UNKNOWN.value,
        )

    async def _decide(
        self, session: ReadSession, caller: Caller, row: Row, question: Question, action: str
    ) -> _Judged:
        found = _snapshot(row, self._audit.now_us())
        decision = decide(
            self._pack,
            self._access,
            caller,
            question.purpose,
            question.channel,
            question.fields,
            found,
            action=question.action,
        )
        pseudonym = await self._pseudonym(session, row, found.member_id)
        if isinstance(decision, Denied):
            event = self._audit.draft(
                caller,
                action,
                subject=pseudonym,
                purpose=question.purpose.key,
                channel=question.channel,
                decision="deny",
                reason=decision.reason.value,
            )
        else:
            event = self._audit.draft(
                caller,
                action,
                subject=pseudonym,
                purpose=question.purpose.key,
                channel=question.channel,
                fields=decision.fields,
                decision="allow",
                legal_basis=decision.basis.kind.value,
            )
        return _Judged(row, found, decision, event)

    async def _pseudonym(self, session: ReadSession, row: Row, member_id: str) -> OwnerKey | None:
        wrapped = key_from_row(row, member_id, PSEUDONYM, "pseudonym")
        return None if wrapped is None else await self._unwrapped(session, wrapped)

    async def _unwrapped(self, session: ReadSession, wrapped: WrappedKey) -> OwnerKey:
        return self._vault.unwrap(await self._vault.ensure_bucket(session, wrapped))

    # --- open and answer --------------------------------------------------------------

    def _answer(
        self, pairwise: str, question: Question, judged: _Judged, values: Mapping[str, str]
    ) -> dict[str, Any]:
        decision = judged.decision
        if not isinstance(decision, Allowed):
            raise TypeError("only an allowed decision has an answer")
        data: dict[str, Any] = dict(values)
        if not self._plain.isdisjoint(decision.fields):
            known = {**plain_values(judged.row), **values}
            data = {field: known[field] for field in decision.fields}
        if question.action == VIEW_MASKED:
            data = {
                key: _outline(self._pack.fields[FieldKey(key)].mask, value)
                for key, value in data.items()
            }
        return {
            "id": pairwise,
            "purpose": question.purpose.key,
            "channel": question.channel,
            "data": data,
            "omitted": dict(decision.omitted),
            "basis": _basis(decision),
            "audit_id": judged.event.id,
        }

    async def _open(self, allowed: Sequence[_Judged]) -> list[dict[str, str]]:
        """Open the sealed fields that were allowed, of all members at once, in their order."""
        opened: list[dict[str, str]] = [{} for _ in allowed]
        wanted = [self._sealed(one.decision) for one in allowed]
        if not any(wanted):
            return opened
        places: list[int] = []
        rows: list[SealedRow] = []
        async with self._database.read() as session:
            for at, (judged, fields) in enumerate(zip(allowed, wanted, strict=True)):
                if not fields:
                    continue
                ticket = self._audit.ticket(judged.event, judged.found.member_id)
                if self._retained.keys().isdisjoint(fields):
                    places.append(at)
                    rows.append(await self._row(session, ticket, judged, fields))
                else:
                    opened[at] = await self._open_by_kind(session, ticket, judged, fields)
        for at, values in zip(places, self._vault.open_many(MEMBER_TABLE, rows), strict=True):
            opened[at] = values
        return opened

    def _sealed(self, decision: Decision) -> list[FieldKey]:
        fields = decision.fields if isinstance(decision, Allowed) else ()
        return [FieldKey(field) for field in fields if field not in self._plain]

    async def _row(
        self,
        session: ReadSession,
        ticket: AccessTicket,
        judged: _Judged,
        fields: Sequence[FieldKey],
    ) -> SealedRow:
        """Give the cells of one member with the key they are all sealed under."""
        member_id = judged.found.member_id
        key = key_from_row(judged.row, member_id, ORDINARY, "ordinary")
        if key is None:
            raise MemberUnknownError(reason=Refusal.MEMBER_UNKNOWN.value)
        cells = msgpack.unpackb(judged.row["cells"])
        chosen: dict[str, bytes] = {field: cells[field] for field in fields}
        return ticket, await self._vault.ensure_bucket(session, key), member_id, chosen

    async def _open_by_kind(
        self,
        session: ReadSession,
        ticket: AccessTicket,
        judged: _Judged,
        fields: Sequence[FieldKey],
    ) -> dict[str, str]:
        """Open fields of which some are sealed under the key of a retention class."""
        member_id = judged.found.member_id
        keys = await self._vault.keys_of(session, member_id)
        cells = msgpack.unpackb(judged.row["cells"])
        opened: dict[str, str] = {}
        for field in fields:
            key = keys.get(self._retained.get(field) or ORDINARY)
            if key is None:
                raise MemberUnknownError(reason=Refusal.MEMBER_UNKNOWN.value)
            opened |= self._vault.open(ticket, key, MEMBER_TABLE, member_id, {field: cells[field]})
        return opened

    @staticmethod
    def _raise_if_denied(judged: _Judged) -> None:
        if isinstance(judged.decision, Denied):
            raise refusal(judged.decision, judged.event.id)


def refusal(denied: Denied, audit_id: str) -> YinyomError:
    """Turn a denial into the error a caller sees; erased and unknown look the same."""
    reason = denied.reason
    outward = _outward(denied)
    if isinstance(reason, BasisRefusal):
        return NoLawfulBasisError(reason=outward, audit_id=audit_id)
    if reason is Refusal.MEMBER_RESTRICTED:
        return RestrictedError(reason=outward, audit_id=audit_id)
    if outward == Refusal.MEMBER_UNKNOWN.value:
        return MemberUnknownError(reason=outward, audit_id=audit_id)
    return PurposeNotAllowedError(reason=outward, audit_id=audit_id)


def _outward(denied: Denied) -> str:
    return Refusal.MEMBER_UNKNOWN.value if _is_hidden(denied) else denied.reason.value


def _is_hidden(denied: Denied) -> bool:
    """Say whether not even the member's existence may be told."""
    return denied.reason in {Refusal.MEMBER_ERASED, Refusal.OTHER_BRAND}


def _outline(rule: MaskRule, value: Any) -> Any:
    """Mask a value; what a plain field shows unmasked keeps its type."""
    return value if rule is MaskRule.NONE else mask(rule, str(value))


def _snapshot(row: Row, now_us: int) -> Snapshot:
    provenance = msgpack.unpackb(row["provenance"])
    return Snapshot(
        member_id=row["member_id"],
        brand=row["brand"],
        jurisdiction=row["jurisdiction"],
        gate_version=row["gate_version"],
        gate_state=_GATE_STATES[row["gate_state"]],
        age_tier=_AGE_TIERS[row["gate_age_tier"]],
        status=_STATUSES[row["consent_status"]],
        consent_id=row["consent_event_id"],
        notice_revision=row["consent_notice_revision"],
        guardian_id=row["consent_guardian_id"],
        at_us=now_us,
        held=frozenset(provenance).union(plain_values(row)),
        verified=frozenset(field for field, entry in provenance.items() if entry[2] is not None),
    )


def _basis(decision: Allowed) -> dict[str, Any]:
    basis = decision.basis
    if basis.consent_id is None:
        return {"type": basis.kind.value, "section": basis.section}
    return {
        "type": basis.kind.value,
        "id": basis.consent_id,
        "notice_revision": basis.notice_revision,
    }
