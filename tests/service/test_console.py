"""The console: who gets in, which role opens which page, and what stays out of addresses and logs."""

import re

import pytest

from kernel import new_id
from service.console.places import PLACES
from service.pages import LOCALE, TEMPLATES
from service.portal.sessions import COOKIE as PORTAL_COOKIE
from service.staff import ROLES
from service.staff.accounts import SESSION_US
from service.staff.sessions import COOKIE, IDLE_US, SECURE_COOKIE
from tests.support.console import is_inside, office
from tests.support.portal import PERSONAL, PHONE
from tests.support.world import JumpingClock

pytestmark = pytest.mark.anyio

OPENS = {
    "ropa": {"dpo", "auditor"},
    "findings": {"dpo", "auditor"},
    "backups": {"operator"},
    "requests": {"dpo"},
    "refusals": {"dpo", "auditor"},
    "approvals": {"dpo", "operator", "admin", "marketer"},
    "duplicates": {"dpo"},
    "members": {"dpo", "clerk"},
    "trail": {"dpo", "auditor"},
    "reviews": {"dpo", "auditor"},
    "consents": {"dpo", "auditor"},
    "purposes": {"dpo", "auditor", "admin"},
    "staff": {"dpo", "auditor", "admin"},
    "retention": {"dpo", "auditor"},
}
"""Which role may open which page, said a second time: the pack and the table must agree with it."""
NEW_PASSWORD = "three-lamps-ตามทาง"
WORDS_OF_CODE = {"Yinyom", "yinyom", "staff", "sha", "class", "console", "backup"}
LANGUAGES = ["th", "en", "zh-Hant"]


@pytest.fixture
async def at(settings):
    async with office(settings, clock=JumpingClock()) as opened:
        yield opened


@pytest.fixture
async def at_sqlite(sqlite_settings):
    async with office(sqlite_settings, clock=JumpingClock()) as opened:
        yield opened


# --- role by page ---------------------------------------------------------------------


def test_every_page_stands_in_the_matrix():
    assert set(OPENS) == set(PLACES)


@pytest.mark.parametrize("role", ROLES)
async def test_each_role_opens_its_pages_and_no_other(at_sqlite, role):
    browser = await at_sqlite.sign_in(role)
    for key, place in PLACES.items():
        page = await browser.open(f"/console/{place.path}")
        if role in OPENS[key]:
            assert page.answer.status_code == 200, key
            assert f"/console/{place.path}" in page.links
        else:
            assert page.answer.status_code == 403, key
            refused = (await at_sqlite.world.events("console.open"))[-1]
            assert refused["actor"]["id"] == at_sqlite.staff[role]["staff_id"]
            assert (refused["resource"], refused["decision"]) == (f"console/{key}", "deny")


@pytest.mark.parametrize("role", ["auditor", "operator", "admin", "marketer"])
async def test_no_form_brings_personal_data_to_these_roles(at_sqlite, role):
    browser = await at_sqlite.sign_in(role)
    member = await at_sqlite.world.member_id(at_sqlite.member)
    csrf = browser.page.forms[0].fields["csrf"]
    found = {"csrf": csrf, "kind": "phone", "value": PHONE, "region": "TH"}
    for path, fields in [
        ("/console/members", found),
        ("/console/trail/member", {"csrf": csrf, "member": member}),
    ]:
        page = await browser.post(path, fields)
        assert page.answer.status_code == 403
        assert member not in page.html
    assert not [e for e in await at_sqlite.world.events() if e["action"] == "member.view_staff"]


@pytest.mark.parametrize("path", ["", *(place.path for place in PLACES.values()), "password"])
async def test_a_stranger_is_sent_to_the_door(at_sqlite, path):
    page = await at_sqlite.browser().open(f"/console/{path}")
    assert page.url.path == "/console/sign-in"


@pytest.mark.parametrize("path", ["nowhere", "trail/evt_x", "trail/evt_" + "0" * 26, "a/b/c"])
async def test_an_address_that_is_none_of_ours_is_a_calm_page(at_sqlite, path):
    browser = await at_sqlite.sign_in("dpo")
    page = await browser.open(f"/console/{path}")
    assert page.answer.status_code in {404, 422}
    assert page.headings


# --- the door -------------------------------------------------------------------------


async def test_a_session_planted_beforehand_is_worth_nothing(at):
    browser = at.browser()
    await browser.open("/console/sign-in")
    planted = browser.cookie
    made = at.staff["dpo"]
    await browser.send("/console/sign-in?lang=en", name=made["name"], password=made["password"])
    assert browser.cookie != planted
    thief = at.browser()
    thief.plant(planted, COOKIE)
    assert not is_inside(await thief.open("/console/"))


async def test_every_failed_sign_in_is_the_same_page(at_sqlite):
    await at_sqlite.runtime.staff.disable(at_sqlite.world.operator, "clerk")
    seen = set()
    for name, password in [
        ("nobody", "x"),
        ("dpo", "wrong"),
        ("clerk", at_sqlite.staff["clerk"]["password"]),
    ]:
        browser = at_sqlite.browser()
        await browser.open("/console/sign-in?lang=en")
        page = await browser.send("/console/sign-in?lang=en", name=name, password=password)
        text = re.sub(r'name="csrf" value="\w+"', "", page.html).replace(f'value="{name}"', "")
        seen.add((page.answer.status_code, text))
    assert len(seen) == 1


async def test_a_form_of_another_site_signs_nobody_in(at_sqlite):
    browser = at_sqlite.browser()
    await browser.open("/console/sign-in?lang=en")
    made = at_sqlite.staff["dpo"]
    page = await browser.send(
        "/console/sign-in?lang=en",
        headers={"Origin": "https://evil.example"},
        name=made["name"],
        password=made["password"],
    )
    assert page.answer.status_code == 403


@pytest.mark.parametrize(
    "path", ["sign-out", "password", "language", "trail/verify", "members", "trail/member"]
)
async def test_no_form_is_taken_without_its_secret(at_sqlite, path):
    browser = await at_sqlite.sign_in("dpo")
    page = await browser.post(f"/console/{path}", {"csrf": "0" * 64})
    assert page.answer.status_code == 403
    assert is_inside(await browser.open("/console/"))


async def test_the_secret_of_one_session_does_not_fit_another(at_sqlite):
    one, other = await at_sqlite.sign_in("dpo"), await at_sqlite.sign_in("auditor")
    stolen = one.page.form("sign-out").fields
    assert (await other.post("/console/sign-out", stolen)).answer.status_code == 403


async def test_a_member_signed_in_at_the_portal_is_nobody_here(at_sqlite):
    browser = at_sqlite.browser()
    await browser.sign_in(PHONE)
    assert PORTAL_COOKIE != COOKIE
    token = browser.cookie
    browser.plant(token, COOKIE)
    assert not is_inside(await browser.open("/console/"))


@pytest.mark.parametrize("after_us", [IDLE_US + 1, SESSION_US + 1])
async def test_a_session_ends_when_it_is_left_alone_and_with_the_day(at_sqlite, after_us):
    browser = await at_sqlite.sign_in("dpo")
    clock, step_us = at_sqlite.runtime.clock, IDLE_US // 2
    if after_us > SESSION_US:
        while clock.jump_us + step_us < SESSION_US:
            clock.jump_us += step_us
            assert is_inside(await browser.open("/console/"))
    clock.jump_us = after_us
    page = await browser.open("/console/")
    assert page.url.path == "/console/sign-in"


@pytest.mark.parametrize("change", ["disable", "give_role", "reset"])
async def test_a_change_of_the_account_shuts_its_browser_out(at, change):
    browser = await at.sign_in("dpo")
    arguments = ["clerk"] if change == "give_role" else []
    await getattr(at.runtime.staff, change)(at.world.operator, "dpo", *arguments)
    page = await browser.open("/console/trail")
    assert page.url.path == "/console/sign-in"


async def test_signing_out_ends_the_session_on_our_side(at_sqlite):
    browser = await at_sqlite.sign_in("dpo")
    kept = browser.cookie
    await browser.send("/console/sign-out")
    browser.plant(kept, COOKIE)
    assert not is_inside(await browser.open("/console/"))
    assert len(await at_sqlite.world.events("staff.sign_out")) == 1


async def test_a_one_time_password_opens_only_the_page_that_changes_it(at):
    made = await at.runtime.staff.add(at.world.operator, "newcomer", "dpo", brand="main")
    browser = at.browser()
    await browser.open("/console/sign-in?lang=en")
    page = await browser.send(
        "/console/sign-in?lang=en", name="newcomer", password=made["password"]
    )
    assert page.url.path == "/console/password"
    assert (await browser.open("/console/trail")).url.path == "/console/password"
    before = browser.cookie
    await browser.send("/console/password", old="not-this-one", new=NEW_PASSWORD)
    (event,) = await at.world.events("staff.password")
    assert (event["decision"], event["reason"]) == ("deny", "password_wrong")
    refused = await browser.send("/console/password", old=made["password"], new="short")
    assert refused.answer.status_code == 422
    page = await browser.send("/console/password", old=made["password"], new=NEW_PASSWORD)
    assert page.url.path == "/console/"
    assert browser.cookie != before
    assert (await browser.open("/console/trail")).answer.status_code == 200
    assert await at.runtime.staff.sign_in("newcomer", made["password"], None, new_id("req")) is None


async def test_the_cookie_is_secure_strict_and_out_of_reach(at_sqlite):
    browser = at_sqlite.browser(origin="https://registry")
    page = await browser.open("/console/sign-in")
    header = page.answer.headers["set-cookie"]
    assert header.startswith(f"{SECURE_COOKIE}=")
    assert {"HttpOnly", "Secure", "SameSite=strict", "Path=/"} <= set(header.split("; "))


# --- languages ------------------------------------------------------------------------


@pytest.mark.parametrize("lang", LANGUAGES)
async def test_the_pages_speak_the_language_of_the_account(at_sqlite, lang):
    browser = await at_sqlite.sign_in("dpo", lang=lang)
    for place in ("", *(place.path for place in PLACES.values() if "dpo" in OPENS[place.key])):
        assert (await browser.open(f"/console/{place}")).lang == lang


async def test_the_language_is_switched_and_stays_on_the_page(at_sqlite):
    browser = await at_sqlite.sign_in("dpo")
    await browser.open("/console/consents")
    page = await browser.send("/console/language", lang="zh-Hant")
    assert (page.url.path, page.lang) == ("/console/consents", "zh-Hant")
    assert (await (await at_sqlite.sign_in("dpo")).open("/console/")).lang == "zh-Hant"


@pytest.mark.parametrize(
    "file", sorted(TEMPLATES.glob("console/*.html")), ids=lambda file: file.name
)
def test_no_template_of_the_console_holds_words_script_or_style(file):
    text = file.read_text(encoding="utf-8")
    assert not re.search(r"<script|<style|style=|javascript:|on\w+=\"", text)
    without = re.sub(r"{#.*?#}|{%.*?%}|{{.*?}}|<[^>]*>", " ", text, flags=re.DOTALL)
    assert set(re.findall(r"[A-Za-z]{2,}", without)) <= WORDS_OF_CODE


def test_the_console_has_its_words_in_three_languages():
    from kernel.i18n import Catalogue

    catalogue = Catalogue(LOCALE / "console")
    for place in PLACES.values():
        assert catalogue.has(f"place.{place.key}")
        assert catalogue.has(f"about.{place.key}")
        assert catalogue.has(f"group.{place.group}")
    assert all(catalogue.has(f"role.{role}") for role in ROLES)


# --- what leaves traces ---------------------------------------------------------------


async def test_a_look_up_shows_outlines_to_clerk_and_officer_with_events(at):
    member = await at.world.member_id(at.member)
    for role in ("clerk", "dpo"):
        browser = await at.sign_in(role)
        await browser.open("/console/members")
        page = await browser.send("/console/members", kind="phone", value=PHONE, region="TH")
        assert "081-xxx-5678" in page.text
        assert member in page.html
        for value in PERSONAL:
            assert value not in page.html
        looked = (await at.world.events("member.lookup"))[-1]
        viewed = (await at.world.events("member.view_staff"))[-1]
        assert looked["actor"]["id"] == viewed["actor"]["id"] == at.staff[role]["staff_id"]
        assert viewed["decision"] == "allow"
    assert viewed["legal_basis"] == "legal_obligation"


async def test_a_restricted_member_is_found_by_the_officer_and_not_at_the_till(at):
    await at.world.restrict(at.member)
    clerk, dpo = await at.sign_in("clerk"), await at.sign_in("dpo")
    for browser, status in ((clerk, 423), (dpo, 200)):
        await browser.open("/console/members")
        page = await browser.send("/console/members", kind="phone", value=PHONE, region="TH")
        assert page.answer.status_code == status
    assert "081-xxx-5678" not in clerk.page.html


async def test_another_brands_member_is_not_found(at_sqlite):
    other = await at_sqlite.world.app("other", brand="other")
    await other.register({"phone": "086-000-1111"}, brand="other")
    browser = await at_sqlite.sign_in("dpo")
    await browser.open("/console/members")
    page = await browser.send("/console/members", kind="phone", value="086-000-1111", region="TH")
    assert "Nobody here has it" in page.text


@pytest.mark.parametrize("value", ["", "not-a-phone", "0" * 400])
async def test_a_value_that_cannot_be_is_not_looked_up_and_not_repeated(at_sqlite, value):
    browser = await at_sqlite.sign_in("dpo")
    await browser.open("/console/members")
    page = await browser.send("/console/members", kind="phone", value=value, region="TH")
    assert page.answer.status_code == 422
    assert not value or value not in page.html
    assert await at_sqlite.world.events("member.lookup") == []


async def test_no_page_address_title_event_or_log_names_a_person(at_sqlite, capfd):
    browser = await at_sqlite.sign_in("dpo")
    member = await at_sqlite.world.member_id(at_sqlite.member)
    for path in ("", *(place.path for place in PLACES.values())):
        page = await browser.open(f"/console/{path}")
        assert not any(value in page.html for value in PERSONAL)
    await browser.open("/console/members")
    page = await browser.send("/console/members", kind="phone", value=PHONE, region="TH")
    await browser.send("/console/trail/member", member=member)
    everything = "\n".join([*browser.urls, browser.page.title, page.title])
    assert member not in everything
    at_sqlite.world.edge.flush_log()
    said = everything + capfd.readouterr().out + str(await at_sqlite.world.events())
    assert not any(value in said for value in PERSONAL)
    assert member not in str(await at_sqlite.world.events())


async def test_every_page_forbids_scripts_framing_and_storing(at_sqlite):
    browser = await at_sqlite.sign_in("dpo")
    for place in PLACES.values():
        headers = (await browser.open(f"/console/{place.path}")).answer.headers
        assert headers["content-security-policy"].startswith("default-src 'none'")
        assert headers["cache-control"] == "no-store"
