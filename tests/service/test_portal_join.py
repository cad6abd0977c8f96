"""Joining: who becomes a member, when, and what nobody can tell from outside."""

import re

import pytest

from service.claims import CLAIM_CODE_WANTED
from tests.support.portal import FIELDS, PERSONAL, PHONE, Browser, Page, portal_world
from tests.support.world import JumpingClock

pytestmark = pytest.mark.anyio

MINUTE_US = 60_000_000
NEW = "089-000-7777"
ADULT = {"given_name": "มะลิคานารี", "day": "12", "month": "3", "year": "2535"}
CANARIES = (*PERSONAL, "มะลิคานารี", "89-000-7777", "890007777")


@pytest.fixture
async def world(settings):
    async with portal_world(settings, clock=JumpingClock()) as opened:
        opened.crm = await opened.app("crm")
        opened.member = await opened.crm.register(FIELDS)
        await opened.crm.register({"phone": "089-000-8888"})
        await opened.runtime.courier.deliver()
        yield opened


@pytest.fixture
def browser(world):
    return Browser(world)


async def apply(browser: Browser, contact: str = NEW, lang: str = "en", **typed: str) -> Page:
    await browser.open(f"/{lang}/join")
    return await browser.send("join", contact=contact, **ADULT | typed)


async def join(browser: Browser, contact: str = NEW, lang: str = "en", **typed: str) -> Page:
    await apply(browser, contact, lang, **typed)
    return await browser.send("join/code", code=await browser.newest_code())


async def members(world) -> int:
    (row,) = await world.fetch("SELECT count(*) AS n FROM member")
    return int(row["n"])


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


# --- becoming a member ----------------------------------------------------------------


async def test_nobody_is_a_member_before_the_code_comes_back(world, browser):
    before = await members(world)
    page = await apply(browser)
    assert page.url.path == "/en/join/code"
    await world.runtime.courier.deliver()
    assert await members(world) == before
    await browser.send("join/code", code=await browser.newest_code())
    assert await members(world) == before + 1


async def test_who_joins_is_signed_in_and_known_by_a_confirmed_contact(world, browser):
    page = await join(browser)
    assert page.url.path == "/en/choices"
    assert "Welcome, you are a member" in page.text
    found = await world.crm.post(
        "/v1/members:lookup",
        {"kind": "phone", "value": NEW, "region": "TH", "purpose": "membership"},
    )
    seen = (await world.crm.view(found.json()["id"])).json()["data"]
    assert seen["phone"] == "+66890007777"
    assert seen["given_name"] == "มะลิคานารี"
    assert seen["birth_date"] == "1992-03-12"
    home = await browser.open("/en/")
    assert "You told us" in home.text
    assert "Confirmed" in home.text


@pytest.mark.parametrize(
    ("lang", "year"), [("th", "2535"), ("th", "๒๕๓๕"), ("en", "1992"), ("zh-Hant", "81")]
)
async def test_a_year_is_read_as_its_reader_counts(world, browser, lang, year):
    await join(browser, lang=lang, year=year)
    home = await browser.open("/en/")
    assert "1992" in home.text


async def test_no_consent_comes_with_joining(world, browser):
    page = await join(browser)
    assert "checked" not in page.attributes
    assert page.unchosen
    before = len(await world.fetch("SELECT * FROM consent_event"))
    await browser.send("choices")
    assert len(await world.fetch("SELECT * FROM consent_event")) == before


async def test_answers_are_recorded_with_the_words_and_the_moment_they_were_shown(world, browser):
    await join(browser)
    page = await browser.send(
        "choices", **{"answer.marketing.sms": "given", "answer.profiling.": "refused"}
    )
    assert "Your answers are recorded" in page.text
    found = {
        (row["purpose"], row["channel"]): row
        for row in await world.fetch("SELECT * FROM consent_event")
    }
    assert found["marketing", "sms"]["decision"] == "given"
    assert found["profiling", ""]["decision"] == "refused"
    assert found["marketing", "sms"]["notice_revision"] == world.revision("marketing", "en")
    assert b"shown_at" in bytes(found["marketing", "sms"]["evidence"])
    assert len(found) == 2


async def test_a_channel_by_which_nobody_can_be_reached_is_not_asked_about(browser):
    page = await join(browser)
    assert "answer.marketing.sms" in page.unchosen
    assert "answer.marketing.email" not in page.unchosen


@pytest.mark.parametrize("seal", ["", "1.00", "x"])
async def test_an_answer_without_the_words_is_not_taken(world, browser, seal):
    await join(browser)
    page = await browser.send(
        "choices", **{"answer.marketing.sms": "given", "seal.marketing": seal}
    )
    assert page.answer.status_code == 409
    assert await world.fetch("SELECT * FROM consent_event") == []


async def test_a_minor_may_join_and_is_asked_for_nothing(world, browser):
    page = await join(browser, year="2560")
    assert page.unchosen == []
    assert "A parent or guardian decides with you" in page.text
    form = {"csrf": browser.page.form("sign-out").fields["csrf"], "answer.profiling.": "given"}
    assert (await browser.post("/en/choices", form)).answer.status_code in {403, 409}
    assert await world.fetch("SELECT * FROM consent_event") == []


async def test_without_a_birth_date_nothing_can_be_allowed_and_everything_refused(world, browser):
    page = await join(browser, day="", month="", year="")
    assert page.unchosen == []
    await browser.open("/en/purposes/profiling")
    assert not browser.page.has_form("purposes/profiling")
    await browser.open("/en/data/birth_date")
    await browser.send("data/birth_date", day="12", month="3", year="1992")
    await browser.open("/en/purposes/profiling")
    page = await browser.send("purposes/profiling", decision="given")
    assert "Allowed:" in page.text


@pytest.mark.parametrize(
    ("typed", "field"),
    [
        ({"contact": ""}, "contact"),
        ({"contact": "12345"}, "contact"),
        ({"contact": "0891"}, "contact"),
        ({"given_name": " "}, "given_name"),
        ({"day": "31", "month": "2"}, "day"),
        ({"day": "", "month": ""}, "day"),
        ({"year": "3000"}, "day"),
        ({"year": "35"}, "day"),
    ],
)
async def test_a_slip_is_shown_beside_its_field_and_nothing_typed_is_lost(browser, typed, field):
    page = await apply(browser, **{"contact": NEW} | typed)
    assert page.answer.status_code == 422
    assert f"{field}-error" in page.ids
    assert f"#{field}" in page.links
    sent = page.form("join").fields
    assert sent["year"] == typed.get("year", ADULT["year"])


async def test_what_was_typed_is_sealed_and_gone_once_used(world, browser):
    await apply(browser)
    (row,) = await world.fetch("SELECT * FROM contact_claim")
    assert not any(value.encode() in bytes(row["sealed"]) for value in CANARIES)
    await browser.send("join/code", code=await browser.newest_code())
    assert await world.fetch("SELECT * FROM contact_claim") == []
    assert await world.fetch("SELECT * FROM vault_key WHERE owner_id = :id", id=row["id"]) == []


async def test_what_nobody_proved_is_swept_away_key_first(world, browser):
    await apply(browser)
    (row,) = await world.fetch("SELECT id FROM contact_claim")
    assert await world.runtime.claims.sweep(world.operator) == 0
    world.runtime.clock.jump_us += 31 * MINUTE_US
    assert await world.runtime.claims.sweep(world.operator) == 1
    assert await world.fetch("SELECT * FROM contact_claim") == []
    assert await world.fetch("SELECT * FROM vault_key WHERE owner_id = :id", id=row["id"]) == []


# --- what nobody can tell -------------------------------------------------------------


async def test_a_known_number_an_unproven_one_and_a_stranger_get_the_same_answers(world):
    seen = []
    for at, contact in enumerate((PHONE, "089-000-8888", NEW)):
        browser = Browser(world, address=f"192.0.2.{at + 1}")
        answers = [comparable(await apply(browser, contact))]
        code = wrong(await browser.newest_code())
        for _ in range(5):
            answers.append(comparable(await browser.send("join/code", code=code)))  # noqa: PERF401 (one after the other)
        answers.append(comparable(await browser.send("code/new")))
        seen.append(answers)
    assert seen[0] == seen[1] == seen[2]


async def test_a_known_number_leaves_the_same_traces_as_a_new_one(world):
    shapes = []
    for at, contact in enumerate((PHONE, NEW)):
        events = len(await world.events())
        await apply(Browser(world, address=f"192.0.2.{at + 1}"), contact)
        rows = await world.fetch("SELECT * FROM contact_claim ORDER BY id")
        made = rows[-1]
        sessions = await world.fetch("SELECT state, member_id FROM portal_session")
        shapes.append(
            (made["kind"], made["member_id"], made["slot"], sessions[-1], len(made["sealed"]))
        )
        (event,) = (await world.events())[events:]
        assert event["action"] == "contact_claim.open"
        assert "subject" not in event
        shapes.append((event.keys(), event["actor"], event["fields"]))
    assert shapes[:2] == shapes[2:]


async def test_a_member_who_joins_again_is_signed_in_and_nothing_typed_is_kept(world, browser):
    before = await members(world)
    page = await join(browser, PHONE)
    assert page.url.path == "/en/"
    assert "You were a member already" in page.text
    assert await members(world) == before
    assert "มะลิคานารี" not in page.html
    assert (await world.crm.view(world.member)).json()["data"]["given_name"] == FIELDS["given_name"]


async def test_codes_are_limited_for_each_contact_whoever_asks(world):
    for at in range(7):
        await apply(Browser(world, address=f"192.0.2.{at + 1}"))
    waiting = await world.fetch("SELECT * FROM outbox WHERE topic = :t", t=CLAIM_CODE_WANTED)
    assert len(waiting) == 5


async def test_codes_are_limited_for_each_address_signing_in_and_joining_together(world):
    busy = Browser(world, address="198.51.100.7")
    for at in range(10):
        await busy.ask_for_code(f"089-100-{at:04d}")
        await apply(busy, f"089-200-{at:04d}")
    before = len(await world.fetch("SELECT * FROM outbox"))
    await apply(busy, "089-300-0001")
    assert len(await world.fetch("SELECT * FROM outbox")) == before


# --- codes and sessions ---------------------------------------------------------------


async def test_after_five_wrong_codes_the_right_one_does_not_help(world, browser):
    await apply(browser)
    code = await browser.newest_code()
    for _ in range(5):
        await browser.send("join/code", code=wrong(code))
    form = browser.page.form("code/new")
    page = await browser.post("/en/join/code", {**form.fields, "code": code})
    assert page.url.path == "/en/join/code"
    assert await members(world) == 2
    await browser.send("code/new")
    assert (await browser.send("join/code", code=await browser.newest_code())).url.path == (
        "/en/choices"
    )


async def test_a_code_is_good_for_ten_minutes_and_once(world, browser):
    await apply(browser)
    code = await browser.newest_code()
    world.runtime.clock.jump_us += 11 * MINUTE_US
    await browser.send("join/code", code=code)
    assert await members(world) == 2
    await browser.send("code/new")
    code = await browser.newest_code()
    waiting = browser.cookie
    form = browser.page.form("join/code").fields
    await browser.send("join/code", code=code)
    thief = Browser(world)
    thief.plant(waiting)
    await thief.post("/en/join/code", {**form, "code": code})
    assert await members(world) == 3
    assert not (await thief.open("/en/")).has_form("sign-out")


async def test_a_joining_session_is_no_member_anywhere(browser):
    await apply(browser)
    for path in ("", "data", "history", "choices", "readers", "code"):
        page = await browser.open(f"/en/{path}")
        assert not page.has_form("sign-out")


@pytest.mark.parametrize("action", ["join", "join/code", "join/code/new", "choices"])
async def test_a_form_from_elsewhere_is_refused(world, browser, action):
    await apply(browser)
    fields = {**browser.page.form("join/code").fields, "contact": NEW}
    page = await browser.post(f"/en/{action}", fields, headers={"Origin": "https://evil.example"})
    assert page.answer.status_code == 403
    del fields["csrf"]
    page = await browser.post(f"/en/{action}", fields)
    assert page.answer.status_code == 403


async def test_nothing_typed_is_in_an_address_a_title_a_log_line_or_the_trail(world, capfd):
    browser = Browser(world)
    pages = [await apply(browser, "12", lang="th"), await join(browser, lang="th")]
    captured = capfd.readouterr()
    for value in CANARIES:
        assert not any(value in url for url in browser.urls)
        assert not any(value in page.title for page in pages)
        assert not any(value in str(answer.headers) for answer in browser.answers)
        assert value not in captured.out + captured.err
    for event in await world.events():
        assert not any(value in str(event) for value in CANARIES)
    for row in await world.fetch("SELECT * FROM outbox"):
        assert not any(value in str(row) for value in CANARIES)
