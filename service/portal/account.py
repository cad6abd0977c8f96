"""The pages of a signed-in member: what we hold, what they allowed, who read it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from audit import AuditLog
from consent import ConsentService, Gate, GateState
from disclosure import HeldValue, SelfAccess, SelfView, StaleEpochError, self_caller
from disclosure.endpoints import reading
from kernel import Caller, Clock, Database, MemberId, NotFoundError, ReadSession, UnavailableError
from kernel.http import decode_id_cursor, encode_cursor
from kernel.i18n import Catalogue, Language
from members import Members
from policies import (
    AgeTier,
    Channel,
    MaskRule,
    PolicyPack,
    Purpose,
    PurposeKey,
    loyalty_words,
)
from service.auth.clients import Clients
from service.auth.gatekeeper import TokenGatekeeper
from service.auth.repository import PortalSession
from service.portal.choices import Choice, Choices, PurposeRow
from service.portal.contacts import REPLACEABLE, Way
from service.portal.corrections import Corrections
from service.portal.decisions import Topic
from service.portal.moments import moment, year_text, zone_name, zone_of
from service.portal.readings import Timeline
from service.portal.sign_in import VIA
from service.portal.words import Words, blocks

READINGS_A_PAGE = 20
UNDO = "undo:"
DONE = "done:"
STOPPED = "stopped:"
_REFRESHES = 3


@dataclass(frozen=True, slots=True)
class Member:
    """The member that a session is for."""

    id: MemberId
    caller: Caller
    jurisdiction: str
    created_us: int
    gate: Gate
    session: PortalSession


class Account:
    """Gathers what each page says; every method gives the context of one template."""

    def __init__(
        self,
        database: Database,
        pack: PolicyPack,
        consent: ConsentService,
        members: Members,
        audit: AuditLog,
        clients: Clients,
        gatekeeper: TokenGatekeeper,
        access: SelfAccess,
        catalogue: Catalogue,
        clock: Clock,
    ) -> None:
        self._database = database
        self._pack = pack
        self._consent = consent
        self._members = members
        self._audit = audit
        self._clients = clients
        self._gatekeeper = gatekeeper
        self._access = access
        self._catalogue = catalogue
        self._clock = clock

    async def member(self, session: PortalSession, request_id: str) -> Member:
        """Find the member of a signed-in session."""
        member_id = MemberId(session.member_id or "")
        async with self._database.read() as reader:
            gate = await self._consent.gate(reader, member_id)
            row = await self._members.read(reader, member_id)
        caller = self_caller(row.brand, VIA, request_id)
        return Member(member_id, caller, row.jurisdiction, row.created_us, gate, session)

    # --- home -------------------------------------------------------------------------

    async def home(self, member: Member, language: Language) -> dict[str, Any]:
        """Say what is held and what is allowed; the reading is on record before it is shown."""
        view = await self._view(member)
        choices = self._choices(member, language)
        async with self._database.read() as reader:
            rows = choices.rows(await self._consent.states(reader, member.id))
            note = await self._note(reader, member, rows)
        given = [one for row in rows for one in row.choices if one.is_given]
        return {
            "held": [self._held(value, member, language) for value in view.values],
            "audit_id": view.audit_id,
            "rows": rows,
            "given": len(given),
            "needs_guardian": choices.needs_guardian,
            "needs_age": choices.needs_age,
            "open_questions": any(row.is_unasked for row in rows),
            "can_stop": any(row.can_be_stopped for row in rows),
            "can_restart": (member.session.note or "").startswith(f"{STOPPED}con_"),
            "is_restricted": member.gate.state is GateState.RESTRICTED,
            "note": note,
            "when": self._when(member, language),
        }

    async def _view(self, member: Member) -> SelfView:
        for _ in range(_REFRESHES):
            try:
                return await self._access.outline(
                    member.caller, member.id, self._gatekeeper.epochs()
                )
            except StaleEpochError:
                await self._gatekeeper.refresh()
        raise UnavailableError("clients and policies are changing", reason="epochs_moving")

    def _held(self, value: HeldValue, member: Member, language: Language) -> dict[str, Any]:
        zone = zone_of(member.jurisdiction)
        rule, outline = value.field.mask, value.outline
        if rule is MaskRule.YEAR and outline.isdecimal():
            outline = year_text(int(outline), language)
        outline = loyalty_words(self._pack.loyalty, value.field.key, outline, language)
        source = f"source.{value.source.partition(':')[0]}"
        return {
            "title": value.field.title.in_language(language),
            "outline": None if rule is MaskRule.FULL else outline,
            "source": source if self._catalogue.has(source) else "source.other",
            "collected": moment(value.collected_us, zone, language),
            "verified": None
            if value.verified_us is None
            else moment(value.verified_us, zone, language),
        }

    async def _note(
        self, reader: ReadSession, member: Member, rows: list[PurposeRow]
    ) -> dict[str, Any] | None:
        """Tell of the last decision, as long as it is the last one on its purpose and channel."""
        kind, _, event_id = (member.session.note or "").rpartition(":")
        if not kind or f"{kind}:" == STOPPED:
            return None
        event = await self._consent.event(reader, event_id)
        for row in rows:
            for choice in row.choices:
                same = (choice.purpose, choice.channel) == (event.purpose, event.channel)
                if same and choice.since_us == event.at_us:
                    return {
                        "status": event.status.value,
                        "title": row.title,
                        "channel": choice.channel_title,
                        "is_undoable": f"{kind}:" == UNDO,
                    }
        return None

    # --- the data ---------------------------------------------------------------------

    async def data(
        self,
        member: Member,
        language: Language,
        corrections: Corrections,
        ways: Sequence[Way],
    ) -> dict[str, Any]:
        """Say what is held, value by value, and what the member may do about each."""
        view = await self._view(member)
        tier = AgeTier(member.gate.age_tier)
        by_slot = {way.point.field: way for way in ways}
        contacts, details = [], []
        for value in view.values:
            told = self._held(value, member, language) | {"slot": value.slot}
            if value.field.contact is not None:
                way = by_slot.get(value.slot)
                replaceable = value.slot in {kind.value for kind in REPLACEABLE}
                contacts.append(told | {"way": way, "replaceable": replaceable})
            else:
                editable = corrections.editable(value.field, member.caller, tier)
                details.append(told | {"is_held": True, "editable": editable})
        held = {value.slot for value in view.values}
        details += [
            {"slot": key, "title": field.title.in_language(language), "is_held": False}
            | {"editable": True}
            for key, field in self._pack.fields.items()
            if key not in held and corrections.editable(field, member.caller, tier)
        ]
        return {
            "contacts": contacts,
            "details": details,
            "audit_id": view.audit_id,
            "is_restricted": member.gate.state is GateState.RESTRICTED,
        }

    # --- one purpose ------------------------------------------------------------------

    async def purpose(self, member: Member, topic: Topic, language: Language) -> dict[str, Any]:
        """Say everything about one purpose on one channel, with the words to decide on."""
        purpose = self.purpose_of(topic)
        choices = self._choices(member, language)
        async with self._database.read() as reader:
            states = await self._consent.states(reader, member.id)
            known = {(state.purpose, state.channel): state for state in states}
            row = choices.row(purpose, known)
            choice = _of_channel(row, topic)
            agreed = choice is not None and choice.is_given
            revision = choice.revision if choice is not None and agreed else row.revision
            words = await self._words(reader, revision)
        channel = Channel(topic.channel) if topic.channel else None
        shown = purpose.fields if channel is None else purpose.fields_for(channel)
        return {
            "row": row,
            "choice": choice,
            "words": words,
            "fields": [
                field.title.in_language(language)
                for key, field in self._pack.fields.items()
                if key in shown
            ],
            "retention": self._pack.retention_classes[purpose.retention_class].title.in_language(
                language
            ),
            "needs_guardian": choices.needs_guardian,
            "needs_age": choices.needs_age,
            "when": self._when(member, language),
        }

    def purpose_of(self, topic: Topic) -> Purpose:
        """Find the purpose of a topic; `NotFoundError` also for a channel it does not have."""
        found = self._pack.purposes.get(PurposeKey(topic.purpose))
        if found is None or topic.channel not in (found.channels or ("",)):
            raise NotFoundError("no such purpose or channel", reason="purpose_unknown")
        return found

    # --- words ------------------------------------------------------------------------

    async def words(self, revision: str) -> Words:
        """Give the words of a revision, or `NotFoundError`."""
        async with self._database.read() as reader:
            return await self._words(reader, revision)

    async def exact_words(self, revision: str) -> bytes:
        """Give the very bytes whose SHA-256 the revision is, or `NotFoundError`."""
        async with self._database.read() as reader:
            return (await self._consent.words(reader, revision)).text.encode()

    async def _words(self, reader: ReadSession, revision: str) -> Words:
        notice = await self._consent.words(reader, revision)
        return Words(notice.revision, notice.version, notice.lang, blocks(notice.text))

    # --- readers ----------------------------------------------------------------------

    async def readers(
        self, member: Member, language: Language, cursor: str | None
    ) -> dict[str, Any]:
        """Tell who read the member's data, a page at a time, the newest first."""
        before = decode_id_cursor("evt", cursor)
        async with self._database.read() as reader:
            found = await self._audit.disclosures(
                reader,
                await self._members.pseudonym(reader, member.id),
                since_us=member.created_us,
                before=before,
                most=READINGS_A_PAGE + 1,
            )
            pruned_us = await self._audit.pruned_until(reader, since_us=member.created_us)
        clients = {one["client_id"]: one["name"] for one in await self._clients.list()}
        zone = zone_of(member.jurisdiction)
        timeline = Timeline(self._pack, self._catalogue, language, zone, clients)
        page = found[:READINGS_A_PAGE]
        return {
            "days": timeline.days([reading(event) for event in page]),
            "next_cursor": encode_cursor(page[-1]["id"]) if len(found) > len(page) else None,
            "is_first": cursor is None,
            "zone": zone_name(member.jurisdiction),
            "pruned_until": None if pruned_us is None else moment(pruned_us, zone, language).day,
        }

    # --- helpers ----------------------------------------------------------------------

    def _choices(self, member: Member, language: Language) -> Choices:
        tier = AgeTier(member.gate.age_tier)
        return Choices(self._pack, member.jurisdiction, tier, language, self._clock.now_us())

    @staticmethod
    def _when(member: Member, language: Language) -> Any:
        zone = zone_of(member.jurisdiction)
        return lambda at_us: moment(at_us, zone, language)


def _of_channel(row: PurposeRow, topic: Topic) -> Choice | None:
    return next((choice for choice in row.choices if choice.channel == topic.channel), None)
