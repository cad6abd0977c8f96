"""The console through a real browser: no script, keyboard only, small, wide, light and dark."""

import itertools

import pytest
from playwright.sync_api import expect

from service.console.places import PLACES
from tests.e2e.test_portal_browser import LOOKS, press, violations

pytestmark = pytest.mark.browser

PASSWORD = "three-lamps-ตามทาง"
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def pair(registry):
    """Two records that may be one person."""
    for phone in ("081-234-5678", "081-234-5678"):
        registry.crm.register(
            given_name="สมหญิง", family_name="ใจดี", phone=phone, birth_date="12/03/2535"
        )


@pytest.fixture
def officer(registry, pair):
    """A data protection officer of this test alone: sign-ins are counted by name."""
    name = f"kanya-{next(_numbers)}"
    made = registry.server.cli("staff", "add", name, "--role", "dpo", "--json").answer
    return {"name": name, "once": made["password"], "password": None}


@pytest.fixture
def open_page(chromium, registry):
    contexts = []

    def make(*, scripts: bool = False, width: int = 1280, scheme: str = "light", lang: str = "en"):
        context = chromium.new_context(
            base_url=registry.server.base_url,
            java_script_enabled=scripts,
            bypass_csp=scripts,  # axe is a script, and our pages let none run
            viewport={"width": width, "height": 800},
            color_scheme=scheme,
            locale=lang,
        )
        contexts.append(context)
        return context.new_page()

    yield make
    for context in contexts:
        context.close()


def sign_in(page, officer, lang: str = "en") -> None:
    page.goto(f"/console/sign-in?lang={lang}")
    page.fill("#name", officer["name"])
    page.fill("#password", officer["password"] or officer["once"])
    page.click("main form button")
    if officer["password"] is None:
        page.fill("#old", officer["once"])
        page.fill("#new", PASSWORD)
        page.click("main form button")
        officer["password"] = PASSWORD
    expect(page.locator("form[action$='/sign-out']")).to_have_count(1)


def test_the_way_from_the_door_to_a_proof_works_without_a_script(open_page, officer, registry):
    page = open_page()
    requests = []
    page.on("request", lambda request: requests.append(request.url))
    sign_in(page, officer)
    press(page, "nav a[href$='/members']")
    page.fill("#value", "081-234-5678")
    press(page, "main form button")
    expect(page.locator("main")).to_contain_text("081-xxx-5678")
    press(page, "form[action$='/trail/member'] button")
    press(page, "main .t tbody a")
    press(page, "main form[action*='/trail/evt_'] button")
    expect(page.locator("main [role=status]")).to_contain_text("The proof holds.")
    press(page, "nav a[href$='/trail']")
    press(page, "form[action$='/trail/verify'] button")
    expect(page.locator("main [role=status]")).to_contain_text("The log holds.")
    press(page, "form[action$='/sign-out'] button")
    page.goto("/console/trail")
    expect(page.locator("#password")).to_be_visible()
    assert {url.split("/")[2] for url in requests} == {registry.server.base_url[7:]}
    assert not any("081" in url or "mem_" in url for url in requests)


def test_the_queue_is_reached_and_decided_by_the_keyboard_alone(open_page, officer):
    page = open_page()
    sign_in(page, officer)

    def go_to(selector: str) -> None:
        for _ in range(60):
            page.keyboard.press("Tab")
            if page.locator(f"{selector}:focus").count():
                return
        pytest.fail(f"{selector} is not reached by the keyboard")

    go_to("nav a[href$='/duplicates']")
    with page.expect_navigation():
        page.keyboard.press("Enter")
    for _ in range(100):
        if page.locator("main .t tbody a").count():
            break
        page.reload()
    go_to("main .t tbody a")
    with page.expect_navigation():
        page.keyboard.press("Enter")
    go_to("button[value=apart]")
    with page.expect_navigation():
        page.keyboard.press("Enter")
    expect(page.locator("main [role=status]")).to_contain_text("Kept apart.")


@pytest.mark.slow
@pytest.mark.parametrize(("lang", "scheme", "width"), LOOKS)
def test_axe_finds_nothing_on_any_page_of_the_console(
    open_page, axe_source, officer, lang, scheme, width
):
    page = open_page(scripts=True, scheme=scheme, width=width, lang=lang)
    page.goto(f"/console/sign-in?lang={lang}")
    found = violations(page, axe_source)
    page.fill("#name", f"nobody-{next(_numbers)}")
    page.fill("#password", "nothing")
    press(page, "main form button")
    found += violations(page, axe_source)
    sign_in(page, officer, lang)
    switch = page.locator(f"form[action$='/language'] button[value='{lang}']")
    if switch.count():
        press(page, switch)
    assert page.locator("html").get_attribute("lang") == lang
    for place in ("", "password", "nowhere", *(place.path for place in PLACES.values())):
        page.goto(f"/console/{place}")
        found += violations(page, axe_source)
    page.goto("/console/members")
    page.fill("#value", "081-234-5678")
    press(page, "main form button")
    found += violations(page, axe_source)
    page.locator("form[action$='/members/emergency'] button").first.click()
    page.wait_for_url("**/members/emergency")
    found += violations(page, axe_source)
    page.locator("form[action$='/emergency/open'] button").click()
    page.wait_for_url("**/emergency/open")
    found += violations(page, axe_source)
    page.check("[name='field.phone']")
    page.select_option("#reason", "missing_person")
    page.fill("#justification", "A child is missing and was last seen with her.")
    press(page, "form[action$='/emergency/open'] button")
    assert "+66812345678" in page.locator("main").inner_text()
    found += violations(page, axe_source)
    page.goto("/console/members")
    page.fill("#value", "081-234-5678")
    press(page, "main form button")
    page.locator("form[action$='/requests/open'] button").first.click()
    page.wait_for_url("**/console/requests/rr_*")
    found += violations(page, axe_source)
    page.select_option("#refuse", index=0)
    press(page, "button[value=refuse]")
    found += violations(page, axe_source)
    page.goto("/console/requests")
    found += violations(page, axe_source)
    page.goto("/console/approvals")
    found += violations(page, axe_source)
    page.goto("/console/trail")
    press(page, "form[action$='/trail/verify'] button")
    found += violations(page, axe_source)
    page.goto("/console/trail?action=member.register")
    press(page, "main .t tbody a")
    press(page, "main form[action*='/trail/evt_'] button")
    found += violations(page, axe_source)
    page.goto("/console/trail?view=break-glass")
    press(page, "main .t tbody a")
    press(page, "form[action$='/detail'] button")
    expect(page.locator("blockquote.words").first).to_contain_text("A child is missing")
    found += violations(page, axe_source)
    page.goto("/console/reviews")
    found += violations(page, axe_source)
    page.locator("main .t tbody a").first.click()
    press(page, "form[action$='/detail'] button")
    found += violations(page, axe_source)
    page.goto("/console/trail?from=yesterday")
    found += violations(page, axe_source)
    assert found == []
