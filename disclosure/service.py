"""Disclosure: the one door through which plaintext leaves.

The order is fixed: find, decide, put the event on record while the gate stands still, and only
then unwrap a key. Who withdraws while a read is under way either comes after its event, or the
event finds the gate moved and the read is decided again. A denial is an event too.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from audit import AuditEvent, AuditLog, BulkEvent, Shown, draft_bulk, record_bulk
from disclosure import repository
from disclosure.answers import basis_of, is_hidden, outline, outward, refusal, snapshot_of
from disclosure.budget import MemberBudget
from disclosure.decision import Allowed, Decision, Denied, Refusal, decide
from disclosure.errors import (
    GateMovedError,
    MemberUnknownError,
    UnknownFieldError,
    UnknownPurposeError,
)
from disclosure.opening import Opening, Weighed
from kernel import (
    Caller,
    Database,
    FieldProblem,
    InvalidRequestError,
    ReadSession,
    Row,
)
from loyalty import plain_values
from policies import (
    VIEW,
    VIEW_MASKED,
    AccessSnapshot,
    Channel,
    FieldKey,
    PolicyPack,
    Purpose,
    PurposeKey,
)
from vault import (
    PSEUDONYM,
    OwnerKey,
    Vault,
    WrappedKey,
    key_from_row,
)

_ATTEMPTS = 8
_MOST_FIELDS = 100


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
    """One member after the decision, and the event that tells of it."""

    weighed: Weighed
    event: AuditEvent

    @property
    def decision(self) -> Decision:
        return self.weighed.decision


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
        self._opening = Opening(database, vault, pack)

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
        if isinstance(judged.decision, Denied) and is_hidden(judged.decision):
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
                "basis": basis_of(judged.decision),
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
            one.weighed.found.member_id: values
            for one, values in zip(allowed, await self._open(allowed), strict=True)
        }
        results: list[dict[str, Any]] = []
        for identifier in wanted:
            found = judged.get(identifier)
            if found is None:
                reason, audit_id = Refusal.MEMBER_UNKNOWN.value, missing[identifier]
            elif isinstance(found.decision, Denied):
                reason, audit_id = outward(found.decision), found.event.id
            else:
                values = opened[found.weighed.found.member_id]
                results.append(self._answer(identifier, question, found, values))
                continue
            results.append({"id": identifier, "denied": reason, "audit_id": audit_id})
        return {"results": results}

    async def disclose_many(
        self,
        caller: Caller,
        pairwise: Sequence[str],
        question: Question,
        epochs: Epochs,
        *,
        action: str,
        resource: str,
    ) -> list[dict[str, Any]]:
        """Disclose up to 1,000 members under as few events as their lawful bases; who may leave.

        All gates are held and each member is decided on its own, as in `view_many`. Those allowed
        are rows of a manifest; a refusal has an event of its own, and so has a member without a
        pseudonym key, who could not be told in a row. Gives `{"id","data","omitted"}` of each.
        """
        wanted = list(dict.fromkeys(pairwise))
        await self._budget.admit(caller, wanted)
        many: dict[str, list[tuple[str, Weighed]]] = {}
        singly: list[tuple[str, _Judged]] = []
        events: list[AuditEvent] = []
        bulks: list[BulkEvent] = []
        purpose, channel = question.purpose.key, question.channel
        async with self._database.unit_of_work() as work:
            await self._require_present(work, epochs)
            rows = await repository.hold_many(work, wanted, caller.id, purpose, channel or "")
            for row in rows:
                one = await self._weigh(work, caller, row, question)
                if isinstance(one.decision, Allowed) and one.pseudonym is not None:
                    basis = one.decision.basis.kind.value
                    many.setdefault(basis, []).append((row["pairwise_id"], one))
                    continue
                event = self._told(caller, question, one, action, resource)
                singly.append((row["pairwise_id"], _Judged(one, event)))
                events.append(event)
            events += [
                self._unknown(caller, question, action, resource)
                for _ in range(len(wanted) - len(rows))
            ]
            for basis, weighed in sorted(many.items()):
                bulks += draft_bulk(
                    self._audit,
                    caller,
                    action,
                    [_shown(one) for _, one in weighed],
                    purpose=purpose,
                    channel=channel,
                    legal_basis=basis,
                    resource=resource,
                )
            await self._audit.record_many(work, events)
            for bulk in bulks:
                await record_bulk(self._audit, work, bulk)
        bulk_of = {owner: bulk for bulk in bulks for owner in bulk.allowed}
        allowed = [
            (identifier, one, bulk_of[one.found.member_id].ticket(one.found.member_id))
            for weighed in many.values()
            for identifier, one in weighed
        ]
        allowed += [
            (identifier, one.weighed, self._audit.ticket(one.event, one.weighed.found.member_id))
            for identifier, one in singly
            if isinstance(one.decision, Allowed)
        ]
        opened = await self._opening.open([(one, ticket) for _, one, ticket in allowed])
        lines = {
            identifier: {
                "id": identifier,
                "data": self._data(question, one.decision, one.row, values),
                "omitted": dict(one.decision.omitted),
            }
            for (identifier, one, _), values in zip(allowed, opened, strict=True)
            if isinstance(one.decision, Allowed)
        }
        return [lines[identifier] for identifier in wanted if identifier in lines]

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
                parameters["gate_member"] = judged.weighed.found.member_id
                parameters["gate_version"] = judged.weighed.found.gate_version
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

    def _unknown(
        self, caller: Caller, question: Question, action: str, resource: str | None = None
    ) -> AuditEvent:
        return self._audit.draft(
            caller,
            action,
            purpose=question.purpose.key,
            channel=question.channel,
            resource=resource,
            decision="deny",
            reason=Refusal.MEMBER_UNKNOWN.value,
        )

    async def _decide(
        self, session: ReadSession, caller: Caller, row: Row, question: Question, action: str
    ) -> _Judged:
        weighed = await self._weigh(session, caller, row, question)
        return _Judged(weighed, self._told(caller, question, weighed, action))

    async def _weigh(
        self, session: ReadSession, caller: Caller, row: Row, question: Question
    ) -> Weighed:
        found = snapshot_of(row, self._audit.now_us())
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
        return Weighed(row, found, decision, await self._pseudonym(session, row, found.member_id))

    def _told(
        self,
        caller: Caller,
        question: Question,
        weighed: Weighed,
        action: str,
        resource: str | None = None,
    ) -> AuditEvent:
        """Draft the event of one member's decision."""
        decision = weighed.decision
        said: dict[str, Any] = (
            {"decision": "deny", "reason": decision.reason.value}
            if isinstance(decision, Denied)
            else {
                "decision": "allow",
                "fields": decision.fields,
                "legal_basis": decision.basis.kind.value,
            }
        )
        return self._audit.draft(
            caller,
            action,
            subject=weighed.pseudonym,
            purpose=question.purpose.key,
            channel=question.channel,
            resource=resource,
            **said,
        )

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
        return {
            "id": pairwise,
            "purpose": question.purpose.key,
            "channel": question.channel,
            "data": self._data(question, decision, judged.weighed.row, values),
            "omitted": dict(decision.omitted),
            "basis": basis_of(decision),
            "audit_id": judged.event.id,
        }

    def _data(
        self, question: Question, decision: Allowed, row: Row, values: Mapping[str, str]
    ) -> dict[str, Any]:
        data: dict[str, Any] = dict(values)
        if not self._opening.plain.isdisjoint(decision.fields):
            known = {**plain_values(row), **values}
            data = {field: known[field] for field in decision.fields}
        if question.action == VIEW_MASKED:
            data = {
                key: outline(self._pack.fields[FieldKey(key)].mask, value)
                for key, value in data.items()
            }
        return data

    async def _open(self, allowed: Sequence[_Judged]) -> list[dict[str, str]]:
        """Open what single events allow."""
        return await self._opening.open(
            [
                (one.weighed, self._audit.ticket(one.event, one.weighed.found.member_id))
                for one in allowed
            ]
        )

    @staticmethod
    def _raise_if_denied(judged: _Judged) -> None:
        if isinstance(judged.decision, Denied):
            raise refusal(judged.decision, judged.event.id)


def _shown(one: Weighed) -> Shown:
    if one.pseudonym is None or not isinstance(one.decision, Allowed):
        raise TypeError("only whom an event can name and a decision allows stands in a manifest")
    return Shown(one.found.member_id, one.pseudonym, one.decision.fields)
