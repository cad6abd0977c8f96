"""Joining: three fields, a code, and only then a member.

Nobody learns whether a number is known. What was typed is sealed and waits, the same for every
number, and nothing is looked up before the code has come back. Who turns out to be a member
already is signed in as that member, and what they typed is forgotten.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from audit import AuditLog
from disclosure import self_caller
from kernel import Caller, Clock, Database, RequestId, UnitOfWork, to_date
from kernel.i18n import Language
from members import ContactPoint, Formats, MemberDataError, Members
from policies import ContactKind
from service.auth.repository import PortalSession
from service.claims import Claim, Claims
from service.limits import CodeLimits
from service.portal.sessions import Sessions, State
from service.portal.sign_in import NOTE_NEW_CODE, VIA
from service.portal.typed import contact_kind, declared_formats, faults, typed_code, typed_date

CONTACT = "contact"
GIVEN_NAME = "given_name"
BIRTH_DATE = "birth_date"
_MOST_NAME = 200


@dataclass(frozen=True, slots=True)
class Home:
    """Who people join: the brand, and the law and phone region of its place."""

    brand: str
    jurisdiction: str
    region: str | None


@dataclass(frozen=True, slots=True)
class Application:
    """What somebody typed, in normal form."""

    kind: ContactKind
    values: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Joined:
    """The signed-in session after a right code, and whether a member was made."""

    token: str
    is_new: bool


class Joining:
    """Takes applications and makes members of those who prove their contact."""

    def __init__(
        self,
        database: Database,
        members: Members,
        audit: AuditLog,
        claims: Claims,
        sessions: Sessions,
        clock: Clock,
        limits: CodeLimits,
        home: Home,
    ) -> None:
        self._database = database
        self._members = members
        self._audit = audit
        self._claims = claims
        self._sessions = sessions
        self._clock = clock
        self._home = home
        self._limits = limits

    def read(self, typed: Mapping[str, str], language: Language) -> Application | dict[str, str]:
        """Bring what was typed to normal form, or give the code of each field's fault."""
        found: dict[str, str] = {}
        contact = typed.get(CONTACT, "").strip()
        kind = contact_kind(contact)
        values: dict[str, str] = {}
        if kind is None:
            found[CONTACT] = "empty" if not contact else "contact"
        else:
            values[kind.value] = contact
        values[GIVEN_NAME] = typed.get(GIVEN_NAME, "")[:_MOST_NAME]
        born = typed_date(dict(typed), language)
        if born.text:
            values[BIRTH_DATE] = born.text
        today = to_date(self._clock.now_us())
        declared = declared_formats(self._home.region, born.era, today)
        try:
            prepared = self._members.prepare(self._home.jurisdiction, values, declared, ())
        except MemberDataError as error:
            for field, code in faults(error.errors).items():
                place = CONTACT if kind is not None and field == kind.value else field
                if place in {CONTACT, GIVEN_NAME, BIRTH_DATE}:
                    found.setdefault(place, code)
            return found or {CONTACT: "invalid"}
        if found or kind is None:
            return found
        return Application(kind, prepared.values)

    async def apply(
        self,
        application: Application,
        address: str | None,
        request_id: str,
        *,
        former: PortalSession | None,
    ) -> str:
        """Seal an application and send its code; gives the token of the session that waits."""
        async with self._database.unit_of_work() as work:
            claim = await self._claims.open(
                work, _visitor(request_id), application.kind.value, application.values
            )
            await self._want_code(work, claim, address)
            if former is not None:
                await self._sessions.close(work, former)
            return await self._sessions.open(work, State.JOINING, None, claim.id)

    async def new_code(self, session: PortalSession, claim: Claim, address: str | None) -> None:
        """Send another code; the one before stops working."""
        async with self._database.unit_of_work() as work:
            await self._want_code(work, claim, address)
            await self._sessions.leave_note(work, session, NOTE_NEW_CODE)

    async def claim_of(self, session: PortalSession) -> Claim | None:
        """Find what waits in a joining session; None when it has run out."""
        async with self._database.read() as reader:
            return await self._claims.read(reader, session.contact_point_id or "")

    async def try_code(
        self, session: PortalSession, claim: Claim, typed: str, request_id: str
    ) -> Joined | None:
        """Take a code; None when it was refused, else the one session it opens."""
        values = await self._claims.prove(_visitor(request_id), claim, typed_code(typed))
        if values is None:
            return None
        now_us = self._clock.now_us()
        declared = declared_formats(self._home.region, "iso", to_date(now_us))
        async with self._database.unit_of_work() as work:
            point = await self._members.contact_points.sign_in_point(
                work, claim.kind, values[claim.kind], declared
            )
            is_new = point is None
            if point is None:
                point = await self._register(work, values, declared, request_id, now_us)
            row = await self._members.read(work, point.member_id)
            caller = self_caller(row.brand, VIA, request_id)
            await self._members.contact_points.prove(work, caller, point, now_us=now_us)
            await self._claims.drop(work, claim.id)
            await self._sessions.close(work, session)
            await self._audit.record(
                work,
                caller,
                "session.begin",
                subject=await self._members.pseudonym(work, point.member_id),
            )
            token = await self._sessions.open(work, State.SIGNED_IN, point.member_id, point.id)
        return Joined(token, is_new)

    async def _register(
        self,
        work: UnitOfWork,
        values: Mapping[str, str],
        declared: Formats,
        request_id: str,
        now_us: int,
    ) -> ContactPoint:
        home = self._home
        made = await self._members.register(
            work,
            self_caller(home.brand, VIA, request_id),
            brand=home.brand,
            jurisdiction=home.jurisdiction,
            prepared=self._members.prepare(home.jurisdiction, values, declared, ()),
            consents=(),
            now_us=now_us,
            send_codes=False,
        )
        return made.contact_points[0]

    async def _want_code(self, work: UnitOfWork, claim: Claim, address: str | None) -> None:
        now_us = self._clock.now_us()
        if self._limits.ask(address, now_us) and self._limits.send(claim.contact_digest, now_us):
            await self._claims.want_code(work, claim)


def _visitor(request_id: str) -> Caller:
    """Give whoever asks before they are anybody: no member, of no brand yet."""
    return Caller("visitor", "visitor", VIA, "*", RequestId(request_id))
