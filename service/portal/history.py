"""History: every decision a member took, and the receipt of each. Nothing here can be changed.

A receipt is found by its own id, and given only to the member it is of: another's is unknown.
"""

from dataclasses import dataclass
from typing import Any

import orjson

from consent import ConsentEvent, ConsentService, ReceiptSigner, Status, history_of
from kernel import Database, MemberId, NotFoundError, ReadSession
from kernel.i18n import Catalogue, Language
from policies import Channel, PolicyPack, PurposeKey
from service.auth.clients import Clients
from service.portal.account import Member
from service.portal.moments import Moment, moment, zone_of
from service.portal.words import Words, blocks

A_PAGE = 30
_GLYPHS = {Status.GIVEN: "on"}


@dataclass(frozen=True, slots=True)
class Entry:
    """One decision in words."""

    id: str
    status: str
    glyph: str
    title: str
    channel: str
    at: Moment
    place: str


@dataclass(frozen=True, slots=True)
class History:
    """Tells a member's decisions, and writes their receipts."""

    database: Database
    pack: PolicyPack
    consent: ConsentService
    clients: Clients
    receipts: ReceiptSigner
    catalogue: Catalogue

    async def page(self, member: Member, language: Language, before: str | None) -> dict[str, Any]:
        """Give a page of decisions, the newest first, from behind the event `before`."""
        async with self.database.read() as session:
            events = await history_of(session, member.id)
        names = {one["client_id"]: one["name"] for one in await self.clients.list()}
        first = 0
        if before is not None:
            first = 1 + next((at for at, one in enumerate(events) if one.id == before), len(events))
        shown = events[first : first + A_PAGE]
        return {
            "entries": [self._entry(one, member, language, names) for one in shown],
            "older": shown[-1].id if len(events) > first + A_PAGE else None,
            "is_first": before is None,
        }

    async def receipt(self, member: Member, language: Language, event_id: str) -> dict[str, Any]:
        """Say what one receipt of the member says."""
        names = {one["client_id"]: one["name"] for one in await self.clients.list()}
        async with self.database.read() as session:
            event = await self._own(session, member.id, event_id)
            notice = (
                None
                if event.notice_revision is None
                else await self.consent.words(session, event.notice_revision)
            )
        purpose = self.pack.purposes.get(PurposeKey(event.purpose))
        return {
            "entry": self._entry(event, member, language, names),
            "summary": "" if purpose is None else purpose.summary.in_language(language),
            "controller": self.receipts.controller,
            "audit_id": event.audit_id,
            "shown_at": event.evidence.get("shown_at"),
            "words": None
            if notice is None
            else Words(notice.revision, notice.version, notice.lang, blocks(notice.text)),
        }

    async def receipt_file(self, member: Member, event_id: str) -> bytes:
        """Give the signed receipt as JSON, as the API gives it."""
        async with self.database.read() as session:
            event = await self._own(session, member.id, event_id)
            notice = (
                None
                if event.notice_revision is None
                else await self.consent.words(session, event.notice_revision)
            )
        return orjson.dumps(self.receipts.receipt(event, notice), option=orjson.OPT_INDENT_2)

    async def _own(self, session: ReadSession, member_id: MemberId, event_id: str) -> ConsentEvent:
        event = await self.consent.event(session, event_id)
        if event.member_id != member_id:
            raise NotFoundError("no such consent event", reason="consent_unknown")
        return event

    def _entry(
        self, event: ConsentEvent, member: Member, language: Language, names: dict[str, str]
    ) -> Entry:
        purpose = self.pack.purposes.get(PurposeKey(event.purpose))
        channel = self.pack.channels.get(Channel(event.channel))
        place = event.evidence.get("place")
        by_self = self.catalogue.text(language, "history.here")
        known = names.get(event.recorded_by, self.catalogue.text(language, "history.elsewhere"))
        return Entry(
            event.id,
            event.status.value,
            _GLYPHS.get(event.status, ""),
            event.purpose if purpose is None else purpose.title.in_language(language),
            "" if channel is None else channel.title.in_language(language),
            moment(event.at_us, zone_of(member.jurisdiction), language),
            by_self if place == "portal" else known,
        )
