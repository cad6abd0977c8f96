"""The portal through a real browser: without scripts, by keyboard, small, wide, light and dark."""

import itertools
import time

import pytest
from playwright.sync_api import expect

from tests.support.world import registration

pytestmark = pytest.mark.browser

LANGUAGES = ["th", "en", "zh-Hant"]
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
SCHEMES = ["light", "dark"]
WIDTHS = [320, 1280]
LOOKS = [
    pytest.param(lang, scheme, width, marks=[] if paired else [pytest.mark.long])
    for at, lang in enumerate(LANGUAGES)
    for scheme in SCHEMES
    for width in WIDTHS
    for paired in [(at + SCHEMES.index(scheme) + WIDTHS.index(width)) % 2 == 0]
]
"""Every language, scheme and width; the long run has the half that pairs no two anew."""
MEMBER_PAGES = (
    "",
    "data",
    "data/given_name",
    "data/birth_date",
    "data/proof",
    "choices",
    "history",
    "requests",
    "requests/erasure",
    "requests/restriction",
    "requests/rectification",
    "readers",
    "purposes/marketing/sms",
    "purposes/marketing/email",
    "purposes/profiling",
    "purposes/membership",
    "nowhere",
)
COOKIE = "yinyom"
_phones = itertools.count(1)


class Member:
    """A member of the served registry, with marketing by SMS allowed and two readings."""

    def __init__(self, registry) -> None:
        self.registry = registry
        self.phone = f"089-123-{next(_phones):04d}"
        crm = registry.crm
        notice = crm.get("/v1/notices/marketing", params={"lang": "th"}).json()
        consent = {
            "purpose": "marketing",
            "channel": "sms",
            "decision": "given",
            "notice_revision": notice["revision"],
            "lang": "th",
            "evidence": {"ui_action": "switch_on", "shown_at": "2026-11-23T03:00:00Z"},
        }
        fields = {"given_name": "สมหญิง", "phone": self.phone, "birth_date": "1992-03-12"}
        answer = crm.post("/v1/members", registration(fields, [consent]))
        assert answer.status_code == 201, answer.text
        made = answer.json()
        self.id = made["id"]
        self.point = made["contact_points"][0]["id"]
        self.read()
        crm.get(f"/v1/members/{self.id}/view", params={"purpose": "marketing", "channel": "line"})

    def read(self) -> int:
        """What the API answers to a reader for marketing by SMS."""
        query = {"purpose": "marketing", "channel": "sms"}
        return self.registry.crm.get(f"/v1/members/{self.id}/view", params=query).status_code

    def codes(self) -> list[str]:
        return [c["code"] for c in self.registry.codes() if c["contact_point"] == self.point]

    def next_code(self, known: int) -> str:
        """The code that comes after so many others."""
        deadline = time.monotonic() + 90
        while len(self.codes()) <= known:
            assert time.monotonic() < deadline, "no code was sent"
            time.sleep(0.05)
        return self.codes()[-1]


@pytest.fixture
def member(registry):
    return Member(registry)


@pytest.fixture
def open_page(chromium, registry):
    """A maker of pages in a context of their own; scripts are off unless asked for."""
    contexts = []

    def make(*, scripts: bool = False, width: int = 1280, scheme: str = "light"):
        context = chromium.new_context(
            base_url=registry.server.base_url,
            java_script_enabled=scripts,
            bypass_csp=scripts,  # axe is a script, and our pages let none run
            viewport={"width": width, "height": 800},
            color_scheme=scheme,
        )
        contexts.append(context)
        return context.new_page()

    yield make
    for context in contexts:
        context.close()


def newest_code(registry, known: int) -> str:
    """The code that comes after so many others, whomever it is for."""
    deadline = time.monotonic() + 90
    while len(registry.codes()) <= known:
        assert time.monotonic() < deadline, "no code was sent"
        time.sleep(0.05)
    return registry.codes()[-1]["code"]


def fill_in_join(page, lang: str, **typed: str) -> None:
    page.goto(f"/{lang}/join")
    form = {
        "contact": f"089-777-{next(_phones):04d}",
        "given_name": "มะลิ",
        "day": "12",
        "month": "3",
        "year": {"th": "2535", "en": "1992", "zh-Hant": "81"}[lang],
    }
    for name, value in (form | typed).items():
        page.fill(f"#{name}", value)


def join(page, registry, lang: str) -> None:
    fill_in_join(page, lang)
    known = len(registry.codes())
    page.click("form[action$='/join'] button")
    page.fill("#code", newest_code(registry, known))
    page.click("form[action$='/join/code'] button")
    page.wait_for_url("**/choices**")


def sign_in(page, member: Member, lang: str) -> None:
    page.goto(f"/{lang}/")
    known = len(member.codes())
    page.fill("#contact", member.phone)
    page.click("form[action$='/sign-in'] button")
    page.fill("#code", member.next_code(known))
    page.click("form[action$='/code'] button")
    expect(page.locator("form[action$='/sign-out']")).to_have_count(1)


# --- the whole path -------------------------------------------------------------------


@pytest.mark.parametrize("lang", LANGUAGES)
def test_the_whole_path_works_without_a_script(open_page, member, lang):
    page = open_page()
    requests = []
    page.on("request", lambda request: requests.append(request.url))
    sign_in(page, member, lang)
    assert page.locator("html").get_attribute("lang") == lang

    page.locator("form[action$='/withdraw'] button").click()
    expect(page.locator("[role=status]")).to_have_count(1)
    assert member.read() == 403

    press(page, "form[action$='/undo'] button")
    assert member.read() == 200

    page.locator("a[href$='/purposes/marketing/email']").click()
    expect(page.locator(".words")).to_be_visible()
    page.locator("button[value=given]").click()
    expect(page.locator("form[action$='/withdraw']")).to_have_count(2)

    page.locator("nav a[href$='/readers']").click()
    expect(page.locator(".line > li").nth(2)).to_be_visible()
    press(page, page.locator("footer a").first)
    assert "sha256:" in page.locator(".words footer").inner_text()

    press(page, "form[action$='/sign-out'] button")
    page.goto(f"/{lang}/readers")
    expect(page.locator("#contact")).to_be_visible()
    assert {url.split("/")[2] for url in requests} == {member.registry.server.base_url[7:]}


@pytest.mark.parametrize("lang", LANGUAGES)
def test_joining_choosing_correcting_and_leaving_work_without_a_script(open_page, registry, lang):
    page = open_page()
    join(page, registry, lang)
    expect(page.locator("input:checked")).to_have_count(0)
    page.check("input[name='answer.marketing.sms'][value=given]")
    page.check("input[name='answer.profiling.'][value=refused]")
    page.click("form[action$='/choices'] button")
    expect(page.locator("form[action$='/withdraw']")).to_have_count(1)

    page.locator("nav a[href$='/data']").click()
    page.locator("a[href$='/data/given_name']").click()
    page.fill("#value", "")
    page.click("form[action$='/data/given_name'] button")
    expect(page.locator("#value-error")).to_be_visible()
    page.fill("#value", "สมศรี")
    page.click("form[action$='/data/given_name'] button")
    expect(page.locator("[role=status]")).to_have_count(1)

    page.locator("nav a[href$='/history']").click()
    expect(page.locator("tbody tr")).to_have_count(2)
    page.locator("a[href*='/history/con_']").first.click()
    expect(page.locator(".words")).to_be_visible()
    with page.expect_download() as fetched:
        page.locator("a[href$='/receipt.json']").click()
    assert fetched.value.suggested_filename.startswith("receipt-con_")

    page.locator("nav a[href$='/requests']").click()
    page.locator("a[href$='/requests/erasure']").click()
    known = len(registry.codes())
    page.click("form[action$='/requests/erasure'] button")
    page.fill("#code", newest_code(registry, known))
    page.locator("form[action$='/code'] button").click()
    page.wait_for_url("**/erased")
    page.goto(f"/{lang}/data")
    expect(page.locator("#contact")).to_be_visible()


def test_withdrawing_is_reached_by_the_keyboard_alone(open_page, member):
    page = open_page()
    page.goto("/en/")
    known = len(member.codes())
    page.focus("#contact")
    page.keyboard.type(member.phone)
    page.keyboard.press("Enter")
    page.wait_for_url("**/en/code")
    page.focus("#code")
    page.keyboard.type(member.next_code(known))
    page.keyboard.press("Enter")
    page.wait_for_url("**/en/")
    for _ in range(20):
        page.keyboard.press("Tab")
        if page.locator("form[action$='/withdraw'] button:focus").count():
            break
    with page.expect_navigation():
        page.keyboard.press("Enter")
    assert member.read() == 403


def test_no_and_yes_have_the_same_size_and_colour(open_page, member):
    page = open_page(scripts=True)
    sign_in(page, member, "th")
    page.goto("/th/purposes/profiling")
    looks = page.evaluate(
        """() => [...document.querySelectorAll('.pair button')].map(button => {
            const box = button.getBoundingClientRect(), style = getComputedStyle(button)
            return [box.width, box.height, box.top, style.color, style.backgroundColor,
                    style.borderColor, style.fontWeight, style.fontSize]
        })"""
    )
    assert len(looks) == 2
    assert looks[0] == looks[1]


def test_the_cookie_is_out_of_reach_of_a_script(open_page, member):
    page = open_page(scripts=True)
    sign_in(page, member, "en")
    (cookie,) = page.context.cookies()
    assert (cookie["name"], cookie["httpOnly"], cookie["sameSite"]) == (COOKIE, True, "Lax")
    assert page.evaluate("document.cookie") == ""


def test_a_planted_script_does_not_run(chromium, registry):
    context = chromium.new_context(base_url=registry.server.base_url)
    page = context.new_page()
    refused = []
    page.on("console", lambda message: refused.append(message.text))
    page.goto("/en/")
    page.evaluate(
        """() => { const script = document.createElement('script')
                   script.textContent = 'window.planted = 1'
                   document.body.append(script) }"""
    )
    assert page.evaluate("window.planted") is None
    assert any("Content Security Policy" in text for text in refused)
    context.close()


# --- accessibility --------------------------------------------------------------------


def press(page, target) -> None:
    """Click what leads to another page, and wait until that page is there."""
    with page.expect_navigation():
        (page.locator(target).first if isinstance(target, str) else target).click()


def violations(page, axe_source: str) -> list[str]:
    """What axe finds wrong on the page, and whether the page is wider than its window."""
    page.evaluate(axe_source)
    found = page.evaluate("rules => axe.run(document, {runOnly: rules})", RULES)
    wrong = [
        f"{page.url}: {one['id']}: {node['html'][:120]}"
        for one in found["violations"]
        for node in one["nodes"]
    ]
    overflow = page.evaluate("document.documentElement.scrollWidth > window.innerWidth")
    return [*wrong, *([f"{page.url}: wider than the window"] if overflow else [])]


def test_axe_and_the_ruler_see_planted_faults(open_page, axe_source):
    page = open_page(scripts=True, width=320)
    page.goto("/en/")
    page.evaluate("document.documentElement.removeAttribute('lang')")
    page.evaluate("document.querySelector('main').style.width = '900px'")
    found = violations(page, axe_source)
    assert any("html-has-lang" in one for one in found)
    assert any("wider than the window" in one for one in found)


@pytest.mark.slow
@pytest.mark.parametrize(("lang", "scheme", "width"), LOOKS)
def test_axe_finds_nothing_on_any_page(open_page, axe_source, member, lang, scheme, width):
    page = open_page(scripts=True, scheme=scheme, width=width)
    page.goto(f"/{lang}/")
    found = violations(page, axe_source)
    page.fill("#contact", "abc")
    press(page, "form[action$='/sign-in'] button")
    found += violations(page, axe_source)
    known = len(member.codes())
    page.fill("#contact", member.phone)
    press(page, "form[action$='/sign-in'] button")
    found += violations(page, axe_source)
    page.fill("#code", "abc")
    press(page, "form[action$='/code'] button")
    found += violations(page, axe_source)
    page.fill("#code", member.next_code(known))
    press(page, "form[action$='/code'] button")
    for place in MEMBER_PAGES:
        page.goto(f"/{lang}/{place}")
        found += violations(page, axe_source)
    page.goto(f"/{lang}/")
    press(page, "form[action$='/withdraw'] button")
    found += violations(page, axe_source)
    press(page, page.locator("footer a").first)
    found += violations(page, axe_source)
    press(page, "form[action$='/sign-out'] button")
    found += violations(page, axe_source)
    assert found == []


@pytest.mark.slow
@pytest.mark.parametrize(("lang", "scheme", "width"), LOOKS)
def test_axe_finds_nothing_from_joining_to_leaving(
    open_page, axe_source, registry, lang, scheme, width
):
    page = open_page(scripts=True, scheme=scheme, width=width)
    fill_in_join(page, lang, contact="12", month="13")
    found = violations(page, axe_source)
    press(page, "form[action$='/join'] button")
    found += violations(page, axe_source)
    fill_in_join(page, lang)
    known = len(registry.codes())
    press(page, "form[action$='/join'] button")
    found += violations(page, axe_source)
    page.fill("#code", newest_code(registry, known))
    page.click("form[action$='/join/code'] button")
    page.wait_for_url("**/choices**")
    page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    found += violations(page, axe_source)
    page.check("input[name='answer.marketing.sms'][value=given]")
    press(page, "form[action$='/choices'] button")
    for place in MEMBER_PAGES:
        page.goto(f"/{lang}/{place}")
        found += violations(page, axe_source)
    page.goto(f"/{lang}/history")
    press(page, page.locator("a[href*='/history/con_']").first)
    found += violations(page, axe_source)
    known = len(registry.codes())
    page.goto(f"/{lang}/data/contact")
    press(page, "form[action$='/send'] button")
    found += violations(page, axe_source)
    page.fill("#code", newest_code(registry, known))
    page.locator("form[action*='/data/proof/'] button.btn").first.click()
    page.fill("#contact", f"089-778-{next(_phones):04d}")
    press(page, "form[action$='/data/contact'] button")
    found += violations(page, axe_source)
    page.goto(f"/{lang}/requests/restriction")
    page.locator("input[name=ground]").first.check()
    press(page, "form[action$='/requests/restriction'] button")
    found += violations(page, axe_source)
    page.goto(f"/{lang}/requests")
    found += violations(page, axe_source)
    page.goto(f"/{lang}/requests/erasure")
    known = len(registry.codes())
    press(page, "form[action$='/requests/erasure'] button")
    found += violations(page, axe_source)
    page.fill("#code", newest_code(registry, known))
    page.locator("form[action$='/code'] button").click()
    page.wait_for_url("**/erased")
    found += violations(page, axe_source)
    assert found == []


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_axe_finds_nothing_on_the_page_of_the_api(open_page, axe_source, scheme, width):
    page = open_page(scripts=True, scheme=scheme, width=width)
    page.goto("/docs")
    assert violations(page, axe_source) == []
