"""Signing in to the portal: who gets in, who does not, and what nobody can tell from outside."""

import re
import time

import httpx2
import pytest

from service.app import create_app
from service.portal.sessions import SECURE_COOKIE
from tests.support.portal import EMAIL, FIELDS, PHONE, Browser, Page, portal_world
from tests.support.world import JumpingClock, open_world

pytestmark = pytest.mark.anyio

MINUTE_US = 60_000_000
STRANGER = "089-000-1111"


@pytest.fixture
async def world(settings):
    async with portal_world(settings, clock=JumpingClock()) as opened:
        opened.crm = await opened.app("crm")
        opened.member = await opened.crm.register(FIELDS)
        await opened.runtime.courier.deliver()
        yield opened


@pytest.fixture
def browser(world):
    return Browser(world)


def is_home(page: Page) -> bool:
    return page.has_form("sign-out")


def wrong(code: str) -> str:
    return f"{(int(code) + 1) % 1_000_000:06d}"


def comparable(page: Page) -> tuple[object, ...]:
    """An answer without what is random in every answer."""
    text = re.sub(r'name="csrf" value="[0-9a-f]+"', "", page.html)
    headers = {
        name: value
        for name, value in page.answer.headers.items()
        if name not in {"x-request-id", "set-cookie", "date"}
    }
    cookie = re.sub(r"=[sv][\w-]{43};", "=;", page.answer.headers.get("set-cookie", ""))
    return page.answer.status_code, str(page.url), headers, cookie, text


# --- getting in -----------------------------------------------------------------------


async def test_the_first_page_speaks_the_readers_language(browser):
    page = await browser.open("/", headers={"Accept-Language": "zh-TW,en;q=0.5"})
    assert (page.url.path, page.lang) == ("/zh-Hant/", "zh-Hant")
    assert browser.answers[0].headers["vary"] == "Accept-Language"


async def test_a_language_without_its_slash_leads_to_its_first_page(browser):
    assert (await browser.open("/en")).url.path == "/en/"


@pytest.mark.parametrize("contact", [PHONE, "+66 81 234 5678", "๐๘๑ ๒๓๔ ๕๖๗๘", EMAIL])
async def test_a_code_sent_to_a_members_number_or_address_signs_them_in(browser, contact):
    page = await browser.ask_for_code(contact)
    assert page.url.path == "/th/code"
    code = await browser.newest_code()
    page = await browser.send("/code", code=f" {code[:3]}-{code[3:]} ")
    assert page.url.path == "/th/"
    assert is_home(page)


async def test_a_national_number_is_read_in_the_region_that_was_declared(world, browser):
    await world.crm.register({"phone": "+886912345678"})
    await world.runtime.courier.deliver()
    before = len(world.codes())
    await browser.open("/zh-Hant/")
    await browser.send("sign-in", contact="0912345678", region="TW")
    await world.runtime.courier.deliver()
    assert len(world.codes()) == before + 1


async def test_signing_in_proves_the_contact_point_and_is_on_record(world, browser):
    await browser.sign_in()
    assert (await world.crm.view(world.member)).json()["data"]["phone"] == "+66812345678"
    (begun,) = await world.events("session.begin")
    assert begun["actor"] == {"id": "self", "role": "member", "via": "portal"}
    assert "subject" in begun
    assert await world.member_id(world.member) not in str(await world.events())


async def test_what_can_be_no_contact_is_handed_back_beside_its_field(browser):
    await browser.open("/en/")
    page = await browser.send("sign-in", contact='a"><b>', region="TW")
    assert page.answer.status_code == 422
    assert page.forms[0].fields["contact"] == 'a"><b>'
    assert page.forms[0].fields["region"] == "TW"
    assert {"contact-error", "contact"} <= set(page.ids)
    assert "#contact" in page.links


async def test_a_region_that_was_not_offered_is_refused(browser):
    await browser.open("/en/")
    assert (await browser.send("sign-in", contact=PHONE, region="XX")).answer.status_code == 422


# --- what nobody can tell -------------------------------------------------------------


async def test_who_is_unknown_gets_the_same_answers_as_a_member(world):
    known, unknown = Browser(world), Browser(world)
    seen = []
    for browser, contact in ((known, PHONE), (unknown, STRANGER)):
        answers = [comparable(await browser.ask_for_code(contact))]
        code = wrong(await browser.newest_code())
        for _ in range(5):
            answers.append(comparable(await browser.send("/code", code=code)))  # noqa: PERF401 (one after the other)
        answers.append(comparable(await browser.send("code/new")))
        answers.append(comparable(await browser.send("/code", code="12")))
        seen.append(answers)
        assert len(browser.cookie) == 44
    assert seen[0] == seen[1]


async def test_a_number_that_two_members_share_signs_nobody_in(world, browser):
    await world.crm.register({"phone": PHONE, "given_name": "แม่"})
    await world.runtime.courier.deliver()
    before = len(world.codes())
    page = await browser.ask_for_code()
    await world.runtime.courier.deliver()
    assert page.url.path == "/th/code"
    assert len(world.codes()) == before


async def test_known_or_not_an_answer_takes_its_time(sqlite_settings):
    async with open_world(sqlite_settings, background=False) as world:
        await (await world.app("crm")).register(FIELDS)
        for contact in (PHONE, STRANGER):
            browser = Browser(world)
            await browser.open("/th/")
            began = time.monotonic()
            await browser.send("sign-in", contact=contact)
            asked = time.monotonic()
            await browser.send("/code", code="000000")
            assert asked - began >= 0.25
            assert time.monotonic() - asked >= 0.25


async def test_an_unknown_contact_gets_a_waiting_session_too(world, browser):
    await browser.ask_for_code(STRANGER)
    (row,) = await world.fetch("SELECT state, member_id FROM portal_session")
    assert (row["state"], row["member_id"]) == ("waiting", None)


# --- codes ----------------------------------------------------------------------------


async def test_after_five_wrong_codes_the_right_one_does_not_help(browser):
    await browser.ask_for_code()
    code = await browser.newest_code()
    for left in (4, 3, 2, 1, 0):
        page = await browser.send("/code", code=wrong(code))
        assert page.url.path == "/th/code"
        assert page.has_form("/code") == (left > 0)
    form = browser.page.form("code/new")
    page = await browser.post("/th/code", {**form.fields, "code": code})
    assert not is_home(page)


async def test_a_new_code_works_and_ends_the_one_before(browser):
    await browser.ask_for_code()
    old = await browser.newest_code()
    page = await browser.send("code/new")
    assert page.url.path == "/th/code"
    new = await browser.newest_code()
    if old != new:
        assert not is_home(await browser.send("/code", code=old))
    assert is_home(await browser.send("/code", code=new))


async def test_a_code_is_good_for_ten_minutes(world, browser):
    await browser.ask_for_code()
    code = await browser.newest_code()
    world.runtime.clock.jump_us += 11 * MINUTE_US
    assert not is_home(await browser.send("/code", code=code))


async def test_a_code_is_good_once(world, browser):
    await browser.ask_for_code()
    code = await browser.newest_code()
    other = Browser(world)
    await other.ask_for_code()  # a second browser waits for a code to the same number
    code = await other.newest_code()
    assert is_home(await browser.send("/code", code=code))
    assert not is_home(await other.send("/code", code=code))


async def test_a_contact_point_gets_five_codes_an_hour(world, browser):
    before = len(world.codes())
    for _ in range(7):
        assert (await browser.ask_for_code()).url.path == "/th/code"
        await world.runtime.courier.deliver()
    assert len(world.codes()) == before + 5
    world.runtime.clock.jump_us += 61 * MINUTE_US
    await browser.ask_for_code()
    await world.runtime.courier.deliver()
    assert len(world.codes()) == before + 6


async def test_a_new_code_counts_like_the_first(world, browser):
    before = len(world.codes())
    await browser.ask_for_code()
    for _ in range(7):
        await browser.send("code/new")
        await world.runtime.courier.deliver()
    assert len(world.codes()) == before + 5


async def test_an_address_may_ask_for_twenty_codes_an_hour(world):
    busy = Browser(world, address="198.51.100.7")
    for at in range(20):
        await busy.ask_for_code(f"089-000-{at:04d}")
    before = len(world.codes())
    page = await busy.ask_for_code()
    await world.runtime.courier.deliver()
    assert page.url.path == "/th/code"
    assert len(world.codes()) == before
    await Browser(world, address="198.51.100.8").ask_for_code()
    await world.runtime.courier.deliver()
    assert len(world.codes()) == before + 1


# --- sessions -------------------------------------------------------------------------


async def test_the_token_changes_at_every_step(browser):
    tokens = set()
    await browser.open("/th/")
    tokens.add(browser.cookie)
    await browser.send("sign-in", contact=PHONE)
    tokens.add(browser.cookie)
    await browser.send("code/new")
    tokens.add(browser.cookie)
    await browser.send("/code", code=await browser.newest_code())
    tokens.add(browser.cookie)
    assert len(tokens) == 4


async def test_a_token_planted_before_signing_in_is_worth_nothing_after(world, browser):
    await browser.open("/th/")
    planted = browser.cookie
    await browser.send("sign-in", contact=PHONE)
    waiting = browser.cookie
    await browser.send("/code", code=await browser.newest_code())
    for stolen in (planted, waiting):
        attacker = Browser(world)
        attacker.plant(stolen)
        assert not is_home(await attacker.open("/th/"))


@pytest.mark.parametrize("value", ["", "s", "s" + "A" * 43, "v" + "A" * 43, "x" * 44, "ส" * 3])
async def test_a_token_that_we_did_not_give_opens_nothing(browser, value):
    page = await browser.open("/th/", headers={"Cookie": f"yinyom={value}".encode()})
    assert not is_home(page)


async def test_the_database_holds_no_token(world, browser):
    await browser.sign_in()
    (row,) = await world.fetch("SELECT * FROM portal_session")
    assert browser.cookie not in str(row)
    assert browser.cookie.encode() not in bytes(row["token_hash"])


async def test_looking_at_the_sign_in_page_stores_nothing(world, browser):
    await browser.open("/th/")
    assert await world.fetch("SELECT * FROM portal_session") == []


async def test_a_session_ends_after_half_an_hour_and_the_page_says_so(world, browser):
    home = await browser.sign_in(lang="en")
    world.runtime.clock.jump_us += 31 * MINUTE_US
    page = await browser.open("/en/")
    assert not is_home(page)
    assert "30 minutes" in page.text
    page = await browser.open("/en/")
    assert "30 minutes" not in page.text
    assert home.answer.status_code == 200


async def test_a_form_sent_after_the_session_ended_changes_nothing_and_says_so(world, browser):
    await browser.sign_in(lang="en")
    world.runtime.clock.jump_us += 31 * MINUTE_US
    page = await browser.send("sign-out")
    assert page.answer.status_code == 403
    assert page.headings == ["Your time is up"]


async def test_signing_out_ends_the_session_for_whoever_kept_the_token(world, browser):
    await browser.sign_in()
    kept = browser.cookie
    page = await browser.send("sign-out")
    assert page.url.path == "/th/signed-out"
    thief = Browser(world)
    thief.plant(kept)
    assert not is_home(await thief.open("/th/"))
    assert len(await world.events("session.end")) == 1


async def test_the_session_of_an_erased_member_is_dead(world, browser):
    await browser.sign_in()
    await world.erase(world.member)
    for path in ("/th/", "/th/readers", "/th/purposes/marketing/sms"):
        assert not is_home(await browser.open(path))
    page = await browser.ask_for_code()
    assert page.url.path == "/th/code"
    assert await world.fetch("SELECT * FROM contact_code") == []


async def test_a_code_sent_before_the_erasure_signs_nobody_in(world, browser):
    await browser.ask_for_code()
    code = await browser.newest_code()
    await world.erase(world.member)
    assert not is_home(await browser.send("/code", code=code))


async def test_signing_in_anew_ends_the_former_session_of_the_browser(world, browser):
    await browser.sign_in()
    kept = browser.cookie
    page = await browser.post(
        "/th/sign-in",
        {"csrf": browser.page.form("sign-out").fields["csrf"], "contact": PHONE, "region": "TH"},
    )
    assert page.url.path == "/th/code"
    thief = Browser(world)
    thief.plant(kept)
    assert not is_home(await thief.open("/th/"))


async def test_the_cookie_is_out_of_reach_of_scripts_and_other_sites(browser):
    await browser.open("/th/")
    flags = browser.answers[-1].headers["set-cookie"].split("; ")
    assert flags[0].startswith("yinyom=")
    assert {"HttpOnly", "Path=/", "SameSite=lax"} == set(flags[1:])


async def test_over_https_the_cookie_is_bound_to_this_host(world):
    browser = Browser(world, origin="https://registry")
    page = await browser.sign_in()
    assert is_home(page)
    given = [a.headers["set-cookie"] for a in browser.answers if "set-cookie" in a.headers]
    assert len(given) == 3
    for cookie in given:
        name, *flags = cookie.split("; ")
        assert name.startswith(f"{SECURE_COOKIE}=")
        assert {"HttpOnly", "Path=/", "SameSite=lax", "Secure"} == set(flags)


async def test_pages_of_members_send_strangers_to_the_sign_in_page(browser):
    for path in ("/th/readers", "/th/code", "/th/purposes/marketing/sms"):
        assert (await browser.open(path)).url.path == "/th/"


async def test_another_worker_knows_the_session(world, browser):
    await browser.sign_in()
    twin = httpx2.AsyncClient(
        transport=httpx2.ASGITransport(app=create_app(world.runtime)), base_url=browser.origin
    )
    async with twin:
        answer = await twin.get("/th/", headers={"Cookie": f"yinyom={browser.cookie}"})
    assert is_home(Page(answer))
