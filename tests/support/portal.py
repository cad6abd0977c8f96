"""A browser without a script: keeps cookies, follows redirects, sends the forms of its page."""

import html.parser
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx2

from service.portal.sign_in import SignIn
from tests.support.world import World, open_world

PHONE = "081-234-5678"
EMAIL = "canary.somying@example.co.th"
FIELDS = {
    "given_name": "สมหญิงคานารี",
    "family_name": "ใจดีคานารี",
    "phone": PHONE,
    "email": EMAIL,
    "birth_date": "1992-03-12",
    "address": "99/7 ถนนคานารี",
}
PERSONAL = (
    *("สมหญิงคานารี", "ใจดีคานารี", "81-234-5678", "812345678", EMAIL, "canary", "1992-03-12"),
    *("ถนนคานารี",),
)


@dataclass
class Form:
    """A form of a page, with the values it would send."""

    action: str
    fields: dict[str, str] = field(default_factory=dict)
    buttons: list[dict[str, str]] = field(default_factory=list)


class Page(html.parser.HTMLParser):
    """What a test asks of a page."""

    def __init__(self, answer: httpx2.Response) -> None:
        super().__init__()
        self.answer = answer
        self.url = answer.url
        self.html = answer.text
        self.lang = ""
        self.title = ""
        self.forms: list[Form] = []
        self.links: list[str] = []
        self.headings: list[str] = []
        self.ids: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[str] = []
        self.text = ""
        self.unchosen: list[str] = []
        self._open: list[str] = []
        self.feed(self.html)
        self.text = " ".join(self.text.split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.tags.append(tag)
        self.attributes.extend(found)
        if "id" in found:
            self.ids.append(found["id"])
        if tag == "html":
            self.lang = found.get("lang", "")
        elif tag == "a":
            self.links.append(found["href"])
        elif tag == "form":
            self.forms.append(Form(found["action"]))
        elif tag == "input" and found.get("type") == "radio" and "checked" not in found:
            self.unchosen.append(found["name"])
        elif tag == "input" and self.forms:
            self.forms[-1].fields[found["name"]] = found.get("value", "")
        elif tag == "option" and "selected" in found:
            self.forms[-1].fields["region"] = found["value"]
        elif tag == "button":
            self.forms[-1].buttons.append(found)
        if tag == "h1":
            self.headings.append("")
        self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if "title" in self._open:
            self.title += data
            return
        if "h1" in self._open:
            self.headings[-1] += data
        self.text += data

    def form(self, action: str) -> Form:
        """The first form whose address ends so."""
        return next(form for form in self.forms if form.action.endswith(action))

    def has_form(self, action: str) -> bool:
        return any(form.action.endswith(action) for form in self.forms)


class Browser:
    """One person's browser at the portal of a world."""

    def __init__(
        self, world: World, *, origin: str = "http://registry", address: str = "192.0.2.1"
    ) -> None:
        self.world = world
        self.origin = origin
        app = world.http._transport.app  # type: ignore[attr-defined]
        transport = httpx2.ASGITransport(app=app, client=(address, 40_000))
        self.http = httpx2.AsyncClient(transport=transport, base_url=origin)
        self.page: Page
        self.urls: list[str] = []
        self.answers: list[httpx2.Response] = []

    @property
    def cookie(self) -> str:
        """The value of the one cookie."""
        (value,) = [cookie.value for cookie in self.http.cookies.jar]
        return str(value)

    def plant(self, value: str, name: str = "yinyom") -> None:
        """Put a cookie there as if somebody else had."""
        self.http.cookies.clear()
        self.http.cookies.set(name, value, domain="registry.local", path="/")

    async def open(self, path: str, **details: Any) -> Page:
        """Go to an address and follow it."""
        return await self._go("GET", path, **details)

    async def send(
        self, action: str, *, headers: dict[str, str] | None = None, **typed: str
    ) -> Page:
        """Fill in and send a form of the page one is on."""
        form = self.page.form(action)
        return await self.post(form.action, {**form.fields, **typed}, headers=headers)

    async def post(
        self, path: str, fields: dict[str, str], *, headers: dict[str, str] | None = None
    ) -> Page:
        sent = {"Origin": self.origin} if headers is None else headers
        return await self._go("POST", path, data=fields, headers=sent)

    async def _go(self, method: str, path: str, **details: Any) -> Page:
        answer = await self.http.request(method, path, **details)
        self._note(answer)
        while answer.is_redirect:
            assert answer.status_code == 303
            answer = await self.http.get(answer.headers["location"])
            self._note(answer)
        self.page = Page(answer)
        return self.page

    def _note(self, answer: httpx2.Response) -> None:
        self.answers.append(answer)
        self.urls.append(str(answer.request.url))

    async def ask_for_code(self, contact: str = PHONE, *, lang: str = "th") -> Page:
        await self.open(f"/{lang}/")
        return await self.send("sign-in", contact=contact)

    async def sign_in(self, contact: str = PHONE, *, lang: str = "th") -> Page:
        """The whole way to the home page, with the code that was sent."""
        await self.ask_for_code(contact, lang=lang)
        return await self.send("/code", code=await self.newest_code())

    async def prove_contacts(self, *, then: str = "add", lang: str = "en") -> Page:
        """Answer a fresh code at the first contact offered, before a change of the contacts."""
        page = await self.open(f"/{lang}/data/proof?then={then}")
        form = next(form for form in page.forms if form.action.endswith("/send"))
        await self.post(form.action, form.fields)
        return await self.send(form.action.removesuffix("/send"), code=await self.newest_code())

    async def newest_code(self) -> str:
        await self.world.runtime.courier.deliver()
        return str(self.world.codes()[-1]["code"])


BrowserMaker = Callable[..., Browser]


@asynccontextmanager
async def portal_world(settings: Any, **details: Any) -> AsyncIterator[World]:
    """A world whose sign-in does not take its time, and which delivers when told."""
    usual = SignIn.__init__.__kwdefaults__["pace_seconds"]
    SignIn.__init__.__kwdefaults__["pace_seconds"] = 0.0
    try:
        async with open_world(settings, background=False, **details) as world:
            yield world
    finally:
        SignIn.__init__.__kwdefaults__["pace_seconds"] = usual
