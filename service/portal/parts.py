"""The portal's parts, wired once, and what the routes of every page share."""

from fastapi import Request

from disclosure import SelfAccess
from kernel import new_id
from kernel.i18n import Language
from service.limits import CodeLimits
from service.pages import Pages, load_catalogue
from service.portal.account import Account, Member
from service.portal.contacts import Contacts
from service.portal.corrections import Corrections
from service.portal.decisions import Decisions, ShownWords
from service.portal.forms import read_form
from service.portal.history import History
from service.portal.joining import Home, Joining
from service.portal.proving import ContactProof
from service.portal.questions import Questions
from service.portal.rights import Requests
from service.portal.screens import Screens
from service.portal.sessions import Sessions, State, Visit
from service.portal.sign_in import SignIn
from service.runtime import Runtime

MINUTE_US = 60_000_000
REGIONS = ("TH", "TW", "HK", "JP", "MY", "SG", "GB", "US")


class Portal:
    """The portal's parts over one open installation."""

    def __init__(self, runtime: Runtime) -> None:
        catalogue = load_catalogue()
        limits = CodeLimits(runtime.settings.messages.codes_per_address)
        self.database, self.clock = runtime.database, runtime.clock
        self.audit, self.members = runtime.audit, runtime.members
        self.sessions = Sessions(
            runtime.database,
            runtime.vault,
            runtime.consent,
            runtime.clock,
            proof_us=runtime.settings.rights.step_up_minutes * MINUTE_US,
        )
        self.sign_in = SignIn(
            runtime.database, runtime.members, runtime.audit, self.sessions, runtime.clock, limits
        )
        place = runtime.settings.jurisdiction
        home = Home(runtime.settings.brand, place, place if place in REGIONS else None)
        self.joining = Joining(
            runtime.database,
            runtime.members,
            runtime.audit,
            runtime.claims,
            self.sessions,
            runtime.clock,
            limits,
            home,
        )
        self.screens = Screens(Pages(), catalogue, runtime.pack, runtime.clock)
        self.decisions = Decisions(runtime.pack, runtime.consent, runtime.members)
        self.shown = ShownWords(runtime.vault)
        access = SelfAccess(
            runtime.database,
            runtime.vault,
            runtime.audit,
            runtime.pack,
            runtime.access,
            runtime.consent,
            runtime.members,
        )
        self.account = Account(
            runtime.database,
            runtime.pack,
            runtime.consent,
            runtime.members,
            runtime.audit,
            runtime.clients,
            runtime.gatekeeper,
            access,
            catalogue,
            runtime.clock,
        )
        self.corrections = Corrections(runtime.pack, runtime.access, runtime.members, home.region)
        self.contacts = Contacts(
            runtime.database,
            runtime.pack,
            runtime.access,
            runtime.members,
            runtime.claims,
            self.sessions,
            runtime.clock,
            limits,
            home.region,
        )
        self.contact_proof = ContactProof(
            runtime.database, runtime.members, self.sessions, runtime.clock, limits
        )
        self.questions = Questions(
            runtime.database,
            runtime.pack,
            runtime.consent,
            runtime.members,
            self.decisions,
            self.shown,
            runtime.clock,
        )
        self.requests = Requests(
            runtime.database,
            runtime.pack,
            runtime.members,
            runtime.rights_requests,
            self.sessions,
            self.corrections,
            catalogue,
            runtime.clock,
            limits,
        )
        self.history = History(
            runtime.database,
            runtime.pack,
            runtime.consent,
            runtime.clients,
            runtime.receipts,
            catalogue,
        )

    async def member(self, request: Request, visit: Visit) -> Member | None:
        """Give the member behind a visit; None for everybody who is not signed in."""
        if visit.session is None or visit.state is not State.SIGNED_IN:
            return None
        return await self.account.member(visit.session, request_id(request))

    async def visitor(self, request: Request) -> tuple[Visit, Member | None]:
        """Say who looks at a page."""
        visit = await self.sessions.visit(request)
        return visit, await self.member(request, visit)

    async def form_of_member(self, request: Request) -> tuple[Member | None, dict[str, str]]:
        """Read a form and say whose it is."""
        visit = await self.sessions.visit(request)
        fields = await read_form(request, visit)
        return await self.member(request, visit), fields


def request_id(request: Request) -> str:
    """Give the id under which this request stands in the log and the trail."""
    found: str | None = request.scope.get("yinyom.request_id")
    return found or new_id("req")


def address_of(request: Request) -> str | None:
    """Give the network address of whoever asks."""
    return None if request.client is None else request.client.host


def home_of(language: Language) -> str:
    """Give the address of the first page in a language."""
    return f"/{language.value}/"
