"""Carrying out what was decided and needs plaintext: corrections, and the member's own copy.

Done as a job after the decision has committed, in steps that may be done twice: the event first,
then the cells, then the result. A copy rests sealed under a key of its own, that key sealed under
the member's, so that an erasure closes every copy too; it is fetched once and then gone.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol, TypeVar

from audit import CHANGE_READ, SUPPRESSION_READ, fields_shown
from disclosure import (
    CopiedValue,
    EpochKeeper,
    Epochs,
    SelfAccess,
    StaleEpochError,
    self_caller,
    told_words,
)
from dsar import repository
from dsar.desk import Desk, require_proven
from dsar.errors import ExportGoneError, IdentityNotProvenError
from dsar.intake import CORRECTIONS_TABLE
from dsar.model import FieldResult, RequestState, Right, RightsRequest
from dsar.package import Copy, pack_copy, redacted
from dsar.repository import StoredExport
from kernel import (
    Caller,
    Clock,
    Database,
    MemberId,
    ReadSession,
    UnavailableError,
    UnitOfWork,
    new_id,
    rfc3339,
)
from kernel.i18n import Language
from members import Prepared
from policies import FieldKind, PurposeKey, lawful_basis
from vault import ARCHIVE, ORDINARY

EXPORT_TABLE = "rights_export"
_READINGS = (
    *("member.view", "audience.export", CHANGE_READ, SUPPRESSION_READ, "member.break_glass"),
    *("member.view_self", "member.copy_self"),
)
_MOST_READINGS = 2_000
_ATTEMPTS = 3
_Answer = TypeVar("_Answer")


class ExportPart(Protocol):
    """A room above none of whose words this room knows, with its part of a member's copy."""

    async def history(self, session: ReadSession, member_id: MemberId) -> Mapping[str, Any]:
        """Give what the room holds of a member, as plain JSON."""
        ...


class CarryingOut:
    """Does what a decision handed on."""

    def __init__(
        self,
        desk: Desk,
        database: Database,
        clock: Clock,
        access: SelfAccess,
        keeper: EpochKeeper,
        parts: Mapping[str, ExportPart],
    ) -> None:
        self._desk = desk
        self._database = database
        self._clock = clock
        self._access = access
        self._keeper = keeper
        self._parts = parts

    async def carry_out(self, request_id: str, caller: Caller) -> RightsRequest | None:
        """Do what was decided; None when there is nothing (any more) to do."""
        async with self._database.read() as session:
            request = await repository.read(session, request_id)
        if request is None or request.member_id is None or request.decided_us is None:
            return None
        if request.state is not RequestState.IN_PROGRESS:
            return None
        if request.right is Right.RECTIFICATION:
            return await self._correct(request, request.member_id, caller)
        return await self._copy(request, request.member_id, caller)

    async def fetch(self, caller: Caller, request_id: str) -> bytes:
        """Hand a copy over, once, to somebody who proved to be the member a moment ago.

        Raises:
            IdentityNotProvenError: never, or longer ago than the house allows.
            ExportGoneError: not made yet, fetched, run out, or its member is erased.
        """
        now_us = self._clock.now_us()
        async with self._database.unit_of_work() as work:
            request = await self._desk.held(work, caller, request_id)
            require_proven(request)
            fresh_us = request.stepped_up_us
            if fresh_us is None or now_us - fresh_us > self._desk.rules.step_up_us:
                raise IdentityNotProvenError(reason="step_up_required")
            stored = await repository.read_export(work, request_id)
            if stored is None or request.member_id is None or stored.expires_us <= now_us:
                raise ExportGoneError(reason="export_gone")
            gate = await self._desk.consent.share_gate(work, request.member_id)
            keys = await self._desk.vault.keys_of(work, request.member_id)
            if gate.state.is_closed or ORDINARY not in keys:
                raise ExportGoneError(reason="export_gone")
            event = self._desk.audit.draft(
                caller,
                "rights_request.fetch_export",
                subject=await self._desk.pseudonym(work, request.member_id),
                resource=f"rights_request:{request.id}",
                fields=(ARCHIVE,),
                decision="allow",
            )
            await self._desk.audit.record_many(work, [event])
            if not await repository.drop_export(work, request_id):
                raise ExportGoneError(reason="export_gone")
        ticket = self._desk.audit.ticket(event, request.member_id)
        return self._desk.vault.open_archive(
            ticket, keys[ORDINARY], EXPORT_TABLE, request_id, stored.wrapped_key, stored.sealed
        )

    async def _still_to_do(
        self, work: UnitOfWork, caller: Caller, request_id: str
    ) -> RightsRequest | None:
        """Hold a request, unless another worker was quicker: a copy is made once, fetched once."""
        seen = await self._desk.held(work, caller, request_id)
        return seen if seen.state is RequestState.IN_PROGRESS else None

    # --- corrections ------------------------------------------------------------------

    async def _correct(
        self, request: RightsRequest, member_id: MemberId, caller: Caller
    ) -> RightsRequest | None:
        async with self._database.unit_of_work() as work:
            event = self._desk.audit.draft(
                caller,
                "rights_request.read_correction",
                subject=await self._desk.pseudonym(work, member_id),
                resource=f"rights_request:{request.id}",
                fields=request.corrected,
                decision="allow",
            )
            await self._desk.audit.record_many(work, [event])
            cells = await repository.corrections(work, request.id)
            keys = await self._desk.vault.keys_of(work, member_id)
        ticket = self._desk.audit.ticket(event, member_id)
        values = self._desk.vault.open(ticket, keys[ORDINARY], CORRECTIONS_TABLE, request.id, cells)
        now_us = self._clock.now_us()
        async with self._database.unit_of_work() as work:
            seen = await self._still_to_do(work, caller, request.id)
            if seen is None:
                return None
            await self._desk.members.update(
                work, caller, member_id, Prepared(values), now_us=now_us
            )
            results = tuple(FieldResult(name, "corrected") for name in request.corrected)
            done = replace(seen, state=RequestState.FULFILLED, results=results)
            ended = await self._desk.step(
                work, caller, seen, done, "rights_request.carry_out", now_us=now_us
            )
            await repository.drop_corrections(work, request.id)
        return ended

    # --- copies -----------------------------------------------------------------------

    async def _copy(
        self, request: RightsRequest, member_id: MemberId, caller: Caller
    ) -> RightsRequest | None:
        archive, left_out = await self._archive(request, member_id)
        now_us = self._clock.now_us()
        async with self._database.unit_of_work() as work:
            seen = await self._still_to_do(work, caller, request.id)
            if seen is None:
                return None
            await self._desk.consent.share_gate(work, member_id)
            keys = await self._desk.vault.keys_of(work, member_id)
            wrapped, sealed = self._desk.vault.seal_archive(
                keys[ORDINARY], EXPORT_TABLE, request.id, archive
            )
            expires_us = now_us + self._desk.rules.export_us
            await repository.add_export(
                work, StoredExport(request.id, member_id, wrapped, sealed, now_us, expires_us)
            )
            results = (
                FieldResult("copy", "made", rfc3339(expires_us)),
                *(FieldResult(what, "left_out_for_others") for what in left_out),
            )
            done = replace(seen, state=RequestState.FULFILLED, results=results)
            return await self._desk.step(
                work, caller, seen, done, "rights_request.carry_out", now_us=now_us
            )

    async def _archive(
        self, request: RightsRequest, member_id: MemberId
    ) -> tuple[bytes, tuple[str, ...]]:
        reader = self_caller(request.brand, "worker", new_id("req"))
        resource = f"rights_request:{request.id}"

        async def copied(epochs: Epochs) -> tuple[CopiedValue, ...]:
            found = await self._access.copy(reader, member_id, epochs, resource=resource)
            return found.values

        values = await self._under_present_epochs(copied)
        language = Language(request.details.get("lang", Language.TH.value))
        own = [one.value for one in values if one.field.kind is not FieldKind.TEXT]
        redactions: list[dict[str, Any]] = []
        fields: list[dict[str, Any]] = []
        for one in values:
            text, count = one.value, 0
            if one.field.kind is FieldKind.TEXT:
                text, count = redacted(one.value, own)
            title = one.field.title.in_language(language)
            if count:
                redactions.append({"key": one.slot, "title": title, "count": count})
            fields.append(
                {
                    "key": one.slot,
                    "title": title,
                    "value": text,
                    "source": one.source,
                    "collected_at": rfc3339(one.collected_us),
                    "verified_at": None if one.verified_us is None else rfc3339(one.verified_us),
                }
            )
        async with self._database.read() as session:
            copy = Copy(
                request_id=request.id,
                right=request.right.value,
                jurisdiction=request.jurisdiction,
                language=language.value,
                controller=self._desk.vault.tenant,
                made_at=rfc3339(self._clock.now_us()),
                fields=fields,
                contact_points=await self._contact_points(session, member_id, language),
                consents=await self._consents(session, member_id, language),
                disclosures=None
                if request.right is Right.PORTABILITY
                else await self._readings(session, member_id),
                history={
                    name: dict(await part.history(session, member_id))
                    for name, part in self._parts.items()
                },
                redactions=redactions,
                purposes=self._purposes(request, language),
                authority=self._desk.jurisdiction(request).authority.in_language(language),
            )
        return pack_copy(copy), tuple(str(one["key"]) for one in redactions)

    async def _contact_points(
        self, session: ReadSession, member_id: MemberId, language: Language
    ) -> list[dict[str, Any]]:
        points = await self._desk.members.contact_points.points_of(session, member_id)
        titles = {entry.key: entry.title for entry in self._desk.pack.fields.values()}
        return [
            {
                "kind": point.kind,
                "field": point.field,
                "title": next(
                    title.in_language(language)
                    for key, title in titles.items()
                    if key == point.field.partition(".")[0]
                ),
                "verified_at": None if point.verified_us is None else rfc3339(point.verified_us),
            }
            for point in points
        ]

    async def _consents(
        self, session: ReadSession, member_id: MemberId, language: Language
    ) -> list[dict[str, Any]]:
        told: list[dict[str, Any]] = []
        for state in await self._desk.consent.states(session, member_id):
            words = None
            if state.notice_revision is not None:
                words = await self._desk.consent.words(session, state.notice_revision)
            purpose = self._desk.pack.purposes.get(PurposeKey(state.purpose))
            told.append(
                {
                    "purpose": state.purpose,
                    "title": state.purpose
                    if purpose is None
                    else purpose.title.in_language(language),
                    "channel": state.channel,
                    "status": state.status.value,
                    "since": rfc3339(state.since_us),
                    "event": state.event_id,
                    "notice_revision": state.notice_revision,
                    "words": None if words is None else words.text,
                    "lang": None if words is None else words.lang,
                }
            )
        return told

    async def _readings(self, session: ReadSession, member_id: MemberId) -> list[dict[str, Any]]:
        """Tell who read the member's data: clients by id, people by their role alone."""
        row = await self._desk.members.read(session, member_id)
        pseudonym = await self._desk.members.pseudonym(session, member_id)
        events: list[dict[str, Any]] = []
        for action in _READINGS:
            events += await self._desk.audit.disclosures(
                session, pseudonym, since_us=row.created_us, most=_MOST_READINGS, actions=(action,)
            )
        return [_reading(one) for one in sorted(events, key=_moment, reverse=True)]

    def _purposes(self, request: RightsRequest, language: Language) -> Sequence[dict[str, Any]]:
        rules = self._desk.jurisdiction(request)
        kept = self._desk.pack.retention_classes
        found: list[dict[str, Any]] = []
        for purpose in self._desk.pack.purposes.values():
            basis = lawful_basis(purpose, rules)
            found.append(
                {
                    "key": purpose.key,
                    "title": purpose.title.in_language(language),
                    "basis": f"{basis.name.in_language(language)} {basis.section}".strip(),
                    "recipients": purpose.recipients.in_language(language),
                    "retention": kept[purpose.retention_class].title.in_language(language),
                    "fields": sorted(purpose.fields),
                }
            )
        return found

    async def _under_present_epochs(self, act: Callable[[Epochs], Awaitable[_Answer]]) -> _Answer:
        for _ in range(_ATTEMPTS):
            try:
                return await act(self._keeper.epochs())
            except StaleEpochError:
                await self._keeper.refresh()
        raise UnavailableError("clients and policies are changing", reason="epochs_moving")


def _moment(event: Mapping[str, Any]) -> str:
    return str(event["ts"])


def _reading(event: Mapping[str, Any]) -> dict[str, Any]:
    """Tell of one event about the member; `told` is what a feed told where no field was read."""
    actor, fields = event["actor"], list(fields_shown(event))
    told = told_words(event["action"], fields)
    return {
        "at": event["ts"],
        "by": actor["id"] if actor["role"] == "app" else actor["role"],
        "purpose": event.get("purpose"),
        "action": event["action"],
        "fields": [] if told else fields,
        "told": told,
        "decision": event["decision"],
        "reason": event.get("reason"),
    }
