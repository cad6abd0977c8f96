"""Who sits at the console, and whether they may open a page: the guard of every route.

Nobody gets past without a session; nobody with a one-time password gets past the page that
changes it; a page that the role may not open answers 403 and leaves an event.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import tzinfo
from functools import partial
from typing import Any

from fastapi import Request, Response
from fastapi.responses import RedirectResponse

from audit import EVERY_BRAND
from kernel import Caller, NotAllowedError, NotAuthenticatedError, YinyomError, new_id
from kernel.i18n import LANGUAGE_NAMES, Language, negotiate
from service.console.places import GROUPS, PLACES, may_open
from service.pages import LOCALE, PAGE_HEADERS, Pages, load_catalogue
from service.portal.forms import read_form
from service.portal.moments import Moment, moment, zone_name, zone_of
from service.portal.screens import ERROR_PAGE
from service.runtime import Runtime
from service.staff import Account, StaffSession, StaffSessions, StaffVisit, put_cookie, staff_caller

HOME = "/console/"
SIGN_IN = "/console/sign-in"
PASSWORD = "/console/password"  # noqa: S105 (an address)
_SEE_OTHER = 303
_SERVER_ERROR = 500


class SignInNeededError(NotAuthenticatedError):
    """Nobody is signed in; the browser is sent to where that is done."""

    place = SIGN_IN


class PasswordChangeNeededError(NotAllowedError):
    """The password was for one use; the browser is sent to where it is changed."""

    place = PASSWORD


@dataclass(frozen=True, slots=True)
class Desk:
    """A signed-in account on one request, with the clock and the words it reads by."""

    account: Account
    session: StaffSession
    caller: Caller
    visit: StaffVisit
    language: Language
    zone: tzinfo

    def sees(self, brand: str) -> bool:
        """Say whether something of a brand is this account's to see; what is of every brand is."""
        return self.account.brand == EVERY_BRAND or brand in {self.account.brand, EVERY_BRAND}

    def when(self, at_us: int) -> Moment:
        """Write a moment for this reader."""
        return moment(at_us, self.zone, self.language)


class Console:
    """The console's parts, wired once, and the frame around its pages."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.sessions = StaffSessions(runtime.database, runtime.vault, runtime.clock)
        self.catalogue = load_catalogue(LOCALE / "console")
        self._pages = Pages()

    # --- who --------------------------------------------------------------------------

    async def prepare(self, request: Request) -> None:
        """Find out who asks, and let errors of this request become pages in their language."""
        request.scope[ERROR_PAGE] = self._error_page(request, self._language(request, None))
        visit = await self.sessions.visit(request)
        request.state.visit = visit
        language = self._language(request, visit.account)
        request.scope[ERROR_PAGE] = self._error_page(request, language)

    def visit(self, request: Request) -> StaffVisit:
        """Give the visit that `prepare` found."""
        found: StaffVisit = request.state.visit
        return found

    async def enter(self, request: Request, place: str | None = None) -> Desk:
        """Let a signed-in account onto a page (None: every role's), or say why not.

        Raises:
            SignInNeededError: Nobody is signed in.
            PasswordChangeNeededError: The password was for one use only.
            NotAllowedError: The role may not; an event says so.
        """
        desk = self.at_door(request)
        if desk.account.must_change:
            raise PasswordChangeNeededError(reason="password_once")
        if place is not None and not may_open(self.runtime.access, desk.account, PLACES[place]):
            await self.refuse(desk, place)
        return desk

    async def refuse(self, desk: Desk, place: str) -> None:
        """Put a refusal on record and raise it."""
        async with self.runtime.database.unit_of_work() as work:
            audit_id = await self.runtime.audit.record(
                work,
                desk.caller,
                "console.open",
                resource=f"console/{place}",
                decision="deny",
                reason="role_not_allowed",
            )
        raise NotAllowedError(reason="role_not_allowed", audit_id=audit_id)

    async def refuse_answer(self, desk: Desk, resource: str, error: YinyomError) -> None:
        """Put on record that somebody could not be the second person here, and raise it."""
        async with self.runtime.database.unit_of_work() as work:
            error.audit_id = await self.runtime.audit.record(
                work,
                desk.caller,
                "approval.answer",
                resource=resource,
                decision="deny",
                reason=error.reason,
            )
        raise error

    async def act(self, request: Request, place: str | None = None) -> tuple[Desk, dict[str, str]]:
        """Read a form of our own page and say who sent it (see `enter`)."""
        fields = await read_form(request, self.visit(request))
        return await self.enter(request, place), fields

    def at_door(self, request: Request) -> Desk:
        """Give the signed-in account, whatever its password, or `SignInNeededError`."""
        visit = self.visit(request)
        if visit.account is None or visit.session is None:
            raise SignInNeededError(reason="session_ended" if visit.ended else "signed_out")
        return Desk(
            visit.account,
            visit.session,
            staff_caller(visit.account, request_id(request)),
            visit,
            self._language(request, visit.account),
            zone_of(self.runtime.settings.jurisdiction),
        )

    def may(self, desk: Desk, resource: str, action: str, purpose: str | None = None) -> bool:
        """Say whether the policy pack grants this to the account."""
        return self.runtime.access.allows(
            desk.account.role, desk.account.brand, resource, action, purpose
        )

    def places_of(self, account: Account) -> list[str]:
        """Name the pages that an account may open."""
        return [p.key for p in PLACES.values() if may_open(self.runtime.access, account, p)]

    # --- pages ------------------------------------------------------------------------

    def show(
        self,
        request: Request,
        template: str,
        desk: Desk | None = None,
        *,
        current: str = "",
        status: int = 200,
        **context: Any,
    ) -> Response:
        """Show a page of `templates/console`; `current` is its place in the menu."""
        visit = self.visit(request)
        language = self._language(request, visit.account)
        answer = self._pages.answer(
            f"console/{template}.html",
            status=status,
            csrf=visit.csrf,
            desk=desk,
            current=current,
            groups=[] if desk is None else self._menu(desk),
            when=None if desk is None else desk.when,
            zone=zone_name(self.runtime.settings.jurisdiction),
            **self._frame(language),
            **context,
        )
        if visit.is_new:
            put_cookie(answer, request, visit.token)
        return answer

    @staticmethod
    def file(text: str | bytes, media_type: str, disposition: str) -> Response:
        """Answer with a file to keep."""
        headers = {**PAGE_HEADERS, "Content-Disposition": disposition}
        return Response(text, 200, headers, media_type)

    def text(self, desk: Desk, key: str, **values: object) -> str:
        """Give a text in the reader's language."""
        return self.catalogue.text(desk.language, key, **values)

    def say(self, desk: Desk, prefix: str, code: str) -> str:
        """Give the text of a code, or the code itself where the catalogue has no word for it."""
        key = f"{prefix}.{code}"
        return self.text(desk, key) if self.catalogue.has(key) else code

    def _menu(self, desk: Desk) -> list[dict[str, Any]]:
        menu = [
            {
                "key": group,
                "places": [
                    place
                    for place in PLACES.values()
                    if place.group == group and may_open(self.runtime.access, desk.account, place)
                ],
            }
            for group in GROUPS
        ]
        return [group for group in menu if group["places"]]

    def _frame(self, language: Language) -> dict[str, Any]:
        return {
            "t": partial(self.catalogue.text, language),
            "has": self.catalogue.has,
            "lang": language.value,
            "home": HOME,
            "languages": [(one.value, name) for one, name in LANGUAGE_NAMES.items()],
        }

    def _language(self, request: Request, account: Account | None) -> Language:
        asked = request.query_params.get("lang") if account is None else account.language
        if asked in set(Language):
            return Language(asked)
        return negotiate(request.headers.get("accept-language"), Language.EN)

    def _error_page(
        self, request: Request, language: Language
    ) -> Callable[[YinyomError], Response]:
        def show(error: YinyomError) -> Response:
            if isinstance(error, SignInNeededError | PasswordChangeNeededError):
                return go_to(error.place)
            known = self.catalogue.has(f"{error.i18n_key}.title")
            other = "error.internal" if error.status >= _SERVER_ERROR else "error.not-found"
            reason = f"reason.{error.reason}"
            code = error.reason if error.status < _SERVER_ERROR else None
            return self._pages.answer(
                "console/error.html",
                status=error.status,
                key=error.i18n_key if known else other,
                reason=reason if self.catalogue.has(reason) else None,
                code=code,
                audit_id=error.audit_id,
                request_id=request_id(request),
                desk=None,
                csrf="",
                current="",
                groups=[],
                **self._frame(language),
            )

        return show


def go_to(place: str, request: Request | None = None, token: str | None = None) -> Response:
    """Send the browser on with GET after a form, with its new token if it got one."""
    answer = RedirectResponse(place, _SEE_OTHER, PAGE_HEADERS)
    if request is not None and token is not None:
        put_cookie(answer, request, token)
    return answer


def request_id(request: Request) -> str:
    """Give the id of this request."""
    return request.scope.get("yinyom.request_id") or new_id("req")


def address_of(request: Request) -> str | None:
    """Give the network address that a request comes from."""
    return None if request.client is None else request.client.host
