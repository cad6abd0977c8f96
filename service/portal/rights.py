"""What members ask of us under the law: opening a request, its clock, its end, and taking it back.

The session proves identity for asking. What cannot be undone or hands everything over at once,
an erasure and a copy, wants a fresh code for that very request. A request of somebody else is
unknown, whatever its id.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from typing import Any

from consent import GateState
from dsar import (
    FieldResult,
    RequestState,
    RequestUnknownError,
    Right,
    Rights,
    RightsRequest,
    Via,
    clock_of,
    plan_erasure,
)
from kernel import Clock, Database, ReadSession, UnitOfWork, to_datetime
from kernel.i18n import Catalogue, Language, format_date
from members import Members, prepare
from policies import AgeTier, Evidence, FieldKey, JurisdictionCode, PolicyPack, Storage
from service.limits import CodeLimits
from service.portal.account import Member
from service.portal.corrections import Corrections
from service.portal.moments import moment, zone_of
from service.portal.proving import reached_by
from service.portal.sessions import Sessions, State
from service.portal.typed import declared_formats, typed_code, typed_date

COPIES = frozenset({Right.ACCESS, Right.PORTABILITY})
_CODE_DIGITS = 6
_SOON_DAYS = 3
_BAR = 120


@dataclass(frozen=True, slots=True)
class Due:
    """The clock of an open request: days left, the day, how far the bar has come."""

    days: int
    day: str
    gone: int
    mood: str
    law: str
    is_unverified: bool


@dataclass(frozen=True, slots=True)
class Fate:
    """What becomes of one thing: its name, and until when and by which law it stays."""

    what: str
    result: str
    until: str | None
    law: str | None
    is_unverified: bool


@dataclass(frozen=True, slots=True)
class Asked:
    """One request as its page shows it."""

    id: str
    right: str
    state: str
    received: str
    ended: str | None
    due: Due | None
    reason: str
    law: str | None
    fates: tuple[Fate, ...]
    is_open: bool
    is_ready: bool
    has_certificate: bool
    can_resume: bool


@dataclass(frozen=True, slots=True)
class Requests:
    """Asks, shows and takes back the requests of a signed-in member."""

    database: Database
    pack: PolicyPack
    members: Members
    rights: Rights
    sessions: Sessions
    corrections: Corrections
    catalogue: Catalogue
    clock: Clock
    limits: CodeLimits

    # --- looking ----------------------------------------------------------------------

    async def page(self, member: Member, language: Language) -> dict[str, Any]:
        """Give every request of a member, and what else they can ask for."""
        async with self.database.read() as session:
            found = await self.rights.of_member(session, member.id)
        told = [self._asked(one, language) for one in found]
        return {
            "open": [one for one in told if one.is_open],
            "done": [one for one in told if not one.is_open],
            "menu": self._menu(member),
        }

    async def one(self, member: Member, request_id: str, language: Language) -> dict[str, Any]:
        """Give one request of the member."""
        async with self.database.read() as session:
            found = await self.own(session, member, request_id)
        return {
            "one": self._asked(found, language),
            "is_restricted": member.gate.state is GateState.RESTRICTED,
        }

    async def own(self, session: ReadSession, member: Member, request_id: str) -> RightsRequest:
        """Find a request of this very member, or `RequestUnknownError`."""
        found = await self.rights.read(session, request_id, member.caller.brand)
        if found.member_id != member.id:
            raise RequestUnknownError(reason="request_unknown")
        return found

    async def plan(self, member: Member, language: Language) -> dict[str, Any]:
        """Say what an erasure would do today, before anything is asked for."""
        rules = self.pack.jurisdictions[JurisdictionCode(member.jurisdiction)]
        async with self.database.read() as session:
            row = await self.members.read(session, member.id)
            found = await self.rights.of_member(session, member.id)
        today = to_datetime(self.clock.now_us()).astimezone(zone_of(member.jurisdiction)).date()
        plan = plan_erasure(self.pack, rules, row.cells, today)
        fates = self._fates((*plan.fields, *plan.beside), language)
        return {
            "goes": [one for one in fates if one.until is None],
            "stays": [one for one in fates if one.until is not None],
            "owes_copy": any(one.right in COPIES and not one.state.final for one in found),
        }

    def by_request(self, member: Member, language: Language) -> list[tuple[str, str]]:
        """Give the fields that a member may not type anew, and may ask to be corrected."""
        tier = AgeTier(member.gate.age_tier)
        return [
            (key, field.title.in_language(language))
            for key, field in self.pack.fields.items()
            if field.storage is Storage.SEALED
            and field.contact is None
            and not self.corrections.editable(field, member.caller, tier)
        ]

    # --- asking -----------------------------------------------------------------------

    async def ask(self, member: Member, right: Right, language: Language) -> str:
        """Open a request for a copy, or object; both are carried out without anybody's leave."""
        details = {"lang": language.value} if right in COPIES else {}
        now_us = self.clock.now_us()
        async with self.database.unit_of_work() as work:
            opened = await self.rights.open(
                work,
                member.caller,
                member.id,
                right,
                via=Via.PORTAL,
                details=details,
                now_us=now_us,
            )
            if right in COPIES:
                await self.rights.fulfil(work, member.caller, opened.id, now_us=now_us)
        return opened.id

    async def restrict(self, member: Member, ground: str) -> str:
        """Have the use of one's data paused, from this commit on."""
        now_us = self.clock.now_us()
        async with self.database.unit_of_work() as work:
            opened = await self.rights.open(
                work,
                member.caller,
                member.id,
                Right.RESTRICTION,
                via=Via.PORTAL,
                details={"ground": ground},
                now_us=now_us,
            )
            await self.rights.fulfil(work, member.caller, opened.id, now_us=now_us)
        return opened.id

    async def resume(self, member: Member, request_id: str) -> None:
        """End a pause that the member asked for."""
        async with self.database.unit_of_work() as work:
            found = await self.own(work, member, request_id)
            restriction = found.outcome.get("restriction")
            if found.right is not Right.RESTRICTION or restriction is None:
                raise RequestUnknownError(reason="request_unknown")
            await self.rights.restrictions.end(
                work, member.caller, str(restriction), now_us=self.clock.now_us()
            )

    async def rectify(
        self, member: Member, key: str, typed: dict[str, str], language: Language
    ) -> str:
        """Ask for a correction that somebody has to check; gives the request's id.

        Raises:
            MemberDataError: what was typed has no normal form.
        """
        field = self.pack.fields[FieldKey(key)]
        text, era = typed.get("value", "").strip(), "iso"
        if field.kind.value == "date":
            born = typed_date(typed, language)
            text, era = born.text, born.era
        now_us = self.clock.now_us()
        today = to_datetime(now_us).date()
        region = self.corrections.region
        prepare(self.pack, {key: text}, declared_formats(region, era, today))
        formats = {"date_era": era} | (
            {} if region is None else {"phone_region": region, "id_country": region}
        )
        async with self.database.unit_of_work() as work:
            opened = await self.rights.open(
                work,
                member.caller,
                member.id,
                Right.RECTIFICATION,
                via=Via.PORTAL,
                details={"fields": {key: text}, "formats": formats},
                now_us=now_us,
            )
        return opened.id

    async def withdraw(self, member: Member, request_id: str) -> None:
        """Take a request back."""
        async with self.database.unit_of_work() as work:
            found = await self.own(work, member, request_id)
            await self.rights.withdraw(work, member.caller, found.id, now_us=self.clock.now_us())

    # --- the fresh code ---------------------------------------------------------------

    async def begin_erasure(self, member: Member) -> str:
        """Open the erasure, or find the one that is open, and send its code; gives its id.

        A contact that got too many codes gets no other, as at sign-in: tries are counted by code.
        """
        now_us = self.clock.now_us()
        async with self.database.unit_of_work() as work:
            found = await self.rights.of_member(work, member.id)
            waiting = next(
                (o for o in found if o.right is Right.ERASURE and not o.state.final), None
            )
            if waiting is None:
                waiting = await self.rights.open(
                    work, member.caller, member.id, Right.ERASURE, via=Via.PORTAL, now_us=now_us
                )
            await self._send_code(work, member, waiting.id, now_us)
        return waiting.id

    async def send_code(self, member: Member, request_id: str) -> None:
        """Send a code for one request, to the contact by which the member signed in."""
        async with self.database.unit_of_work() as work:
            found = await self.own(work, member, request_id)
            await self._send_code(work, member, found.id, self.clock.now_us())

    async def take_code(self, member: Member, request_id: str, typed: str) -> RightsRequest | None:
        """Take the code of a request; gives the request when it was right, else None."""
        code, now_us = typed_code(typed), self.clock.now_us()
        async with self.database.unit_of_work() as work:
            found = await self.own(work, member, request_id)
            point = await reached_by(work, self.members, member.session)
            if len(code) != _CODE_DIGITS or point is None:
                return None
            reason = await self.rights.verify(
                work, member.caller, found.id, point.id, code, now_us=now_us
            )
            if reason is None:
                await self.sessions.prove(work, member.session, found.id)
        return found if reason is None else None

    async def erase(self, member: Member, request_id: str) -> str:
        """Erase the member behind a fresh code.

        Gives the token of a session that knows only the request, for its certificate.
        """
        now_us = self.clock.now_us()
        async with self.database.unit_of_work() as work:
            found = await self.own(work, member, request_id)
            await self.sessions.spend(work, member.session, found.id)
            await self.rights.fulfil(work, member.caller, found.id, now_us=now_us)
            await self.sessions.close(work, member.session)
            return await self.sessions.open(work, State.ERASED, None, found.id)

    async def download(self, member: Member, request_id: str) -> bytes:
        """Hand over the copy, once, behind a fresh code that was answered in this browser."""
        async with self.database.read() as session:
            found = await self.own(session, member, request_id)
        self.sessions.require(member.session, found.id)
        return await self.rights.export(member.caller, found.id)

    async def certificate(self, member: Member, request_id: str) -> str:
        """Give the certificate of an ended request of the member."""
        async with self.database.read() as session:
            found = await self.own(session, member, request_id)
        return await self.rights.certificate(found.id, member.caller.brand)

    # --- after the erasure ------------------------------------------------------------

    async def erased(self, request_id: str, language: Language) -> dict[str, Any]:
        """Say what an erasure did; it knows nobody any more."""
        async with self.database.read() as session:
            found = await self.rights.read(session, request_id)
        fates = self._fates(found.results, language)
        return {
            "goes": [one for one in fates if one.until is None],
            "stays": [one for one in fates if one.until is not None],
            "request_id": found.id,
        }

    # --- helpers ----------------------------------------------------------------------

    async def _send_code(
        self, work: UnitOfWork, member: Member, request_id: str, now_us: int
    ) -> None:
        point = await reached_by(work, self.members, member.session)
        if point is not None and self.limits.send(point.id.encode(), now_us):
            await self.rights.send_code(work, member.caller, request_id, point.id, now_us=now_us)

    def _menu(self, member: Member) -> list[dict[str, Any]]:
        rules = self.pack.jurisdictions[JurisdictionCode(member.jurisdiction)]
        menu = []
        for right in Right:
            period = clock_of(rules, right).period
            menu.append(
                {
                    "right": right.value,
                    "days": period.value if period.unit == "calendar_days" else None,
                    "law": period.source,
                    "is_unverified": period.unverified,
                }
            )
        return menu

    def _asked(self, found: RightsRequest, language: Language) -> Asked:
        zone = zone_of(found.jurisdiction)
        is_open = not found.state.final
        reason = f"refusal.{found.reason}"
        ended = found.decided_us if not is_open else None
        copied = found.right in COPIES and found.state is RequestState.FULFILLED
        return Asked(
            found.id,
            found.right.value,
            found.state.value,
            moment(found.received_us, zone, language).day,
            None if ended is None else moment(ended, zone, language).day,
            self._due(found, language) if is_open else None,
            reason if found.reason and self.catalogue.has(reason) else "",
            found.law,
            self._fates(found.results, language),
            is_open,
            copied,
            not is_open and found.audit_id is not None,
            found.right is Right.RESTRICTION and found.state is RequestState.FULFILLED,
        )

    def _due(self, found: RightsRequest, language: Language) -> Due:
        zone = zone_of(found.jurisdiction)
        today = to_datetime(self.clock.now_us()).astimezone(zone).date()
        begun = to_datetime(found.received_us).astimezone(zone).date()
        left = (found.safe_due - today).days
        whole = max(1, (found.safe_due - begun).days)
        gone = min(_BAR, max(0, round(_BAR * (today - begun).days / whole)))
        clock = self.rights.clock(found)
        mood = "late" if left < 0 else "soon" if left <= _SOON_DAYS else ""
        day = format_date(found.safe_due, language)
        return Due(abs(left), day, gone, mood, clock.period.source, clock.unverified)

    def _fates(self, results: Iterable[FieldResult], language: Language) -> tuple[Fate, ...]:
        return tuple(
            Fate(
                self._name(one.what, language),
                one.result,
                None if one.until is None else _day(one.until, language),
                one.law,
                one.evidence == Evidence.MEMORY.value,
            )
            for one in results
        )

    def _name(self, what: str, language: Language) -> str:
        field = self.pack.fields.get(FieldKey(what.partition(".")[0]))
        if field is not None:
            return field.title.in_language(language)
        purpose = next((p for p in self.pack.purposes.values() if p.key == what), None)
        if purpose is not None:
            return purpose.title.in_language(language)
        key = f"what.{what}"
        return self.catalogue.text(language, key if self.catalogue.has(key) else "what.other")


def _day(until: str, language: Language) -> str:
    return format_date(date.fromisoformat(until[:10]), language)
