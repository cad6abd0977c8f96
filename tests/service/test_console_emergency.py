"""Emergencies at the console: the form, the page that is shown once, and who sees it afterwards."""

import pytest

from service.staff.sessions import IDLE_US
from tests.support.console import office
from tests.support.emergency import CANARY
from tests.support.portal import PERSONAL, PHONE, Browser
from tests.support.world import JumpingClock

pytestmark = pytest.mark.anyio

OPEN = "/console/members/emergency/open"
FILLED = {
    "field.phone": "on",
    "field.address": "on",
    "reason": "medical_help",
    "justification": CANARY,
}


@pytest.fixture
async def at(sqlite_settings):
    async with office(sqlite_settings, clock=JumpingClock()) as opened:
        yield opened


async def ask(at, role="dpo", **typed):
    """Sign somebody in and send the form; gives browser and answer."""
    browser = await at.sign_in(role)
    return browser, await send(at, browser, **typed)


async def send(at, browser, **typed):
    csrf = browser.page.forms[0].fields["csrf"]
    member = await at.world.member_id(at.member)
    return await browser.post(OPEN, {"csrf": csrf, "member": member, **FILLED, **typed})


def says_nothing(page):
    return not any(word in page.html for word in PERSONAL)


async def test_a_clerk_and_an_auditor_are_refused_on_record(at):
    for role, action in (("clerk", "member.break_glass"), ("auditor", "console.open")):
        browser, page = await ask(at, role)
        assert page.answer.status_code == 403
        assert says_nothing(page)
        event = (await at.world.events(action))[-1]
        assert (event["decision"], event["actor"]["role"]) == ("deny", role)
        form = await browser.post(
            "/console/members/emergency", {"csrf": await fresh(browser), "member": "mem_x"}
        )
        assert form.answer.status_code == 403
    assert await at.world.fetch("SELECT * FROM audit_detail") == []


async def fresh(browser):
    """The secret of the forms of a page that every role may open."""
    return (await browser.open("/console/")).forms[0].fields["csrf"]


async def test_a_form_of_another_site_without_the_secret_or_after_the_session_opens_nothing(at):
    browser, page = await ask(at, csrf="forged")
    assert page.answer.status_code == 403
    csrf = await fresh(browser)
    member = await at.world.member_id(at.member)
    page = await browser.post(
        OPEN,
        {"csrf": csrf, "member": member, **FILLED},
        headers={"Origin": "https://evil.example"},
    )
    assert page.answer.status_code == 403
    at.runtime.clock.jump_us = IDLE_US + 1
    page = await browser.post(OPEN, {"csrf": csrf, "member": member, **FILLED})
    assert page.answer.status_code >= 400 or page.url.path == "/console/sign-in"
    assert says_nothing(page)
    assert await at.world.events("member.break_glass") == []


async def test_what_is_missing_is_said_and_what_was_typed_stays(at):
    browser, page = await ask(at, justification="too short", reason="")
    assert page.answer.status_code == 422
    assert "too short" in page.html
    assert {"reason", "justification"} <= set(page.ids)
    assert "Choose what has happened." in page.text
    assert says_nothing(page)
    assert await at.world.events("member.break_glass") == []
    del browser


async def test_an_officer_sees_the_named_fields_once_and_nothing_stays_in_an_address(at):
    browser = await at.sign_in("dpo")
    await browser.open("/console/members")
    page = await browser.send("/members", kind="phone", value=PHONE, region="TH")
    page = await browser.send("/members/emergency")
    assert "Somebody&#39;s life was in danger" in page.html
    page = await send(at, browser)
    assert page.answer.status_code == 200
    assert "no-store" in page.answer.headers["cache-control"]
    assert "+66812345678" in page.text
    assert "99/7 ถนนคานารี" in page.text
    assert "1992" not in page.text
    assert not any("mem_" in url or "81-234" in url for url in browser.urls)
    assert (await browser.open(OPEN)).answer.status_code == 404


async def test_other_officers_see_it_at_once_and_the_auditor_reads_why(at):
    calm = await at.sign_in("auditor")
    assert "Emergency reads of" not in (await calm.open("/console/")).text
    await ask(at)
    page = await calm.open("/console/")
    assert "Emergency reads of the last 7 days: 1" in page.text
    assert "/console/trail?view=break-glass" in page.links
    found = await calm.open("/console/trail?view=break-glass")
    (place,) = [link for link in found.links if link.startswith("/console/trail/evt_")]
    event = await calm.open(place)
    assert CANARY not in event.html
    opened = await calm.send("/detail")
    assert CANARY in opened.text
    assert "no-store" in opened.answer.headers["cache-control"]
    assert (await at.world.events("audit.detail_read"))[-1]["actor"]["role"] == "auditor"
    await at.world.erase(at.member)
    await calm.open(place)
    assert "It is gone" in (await calm.send("/detail")).text
    for role in ("clerk", "admin"):
        browser = await at.sign_in(role)
        assert "Emergency reads of" not in (await browser.open("/console/")).text
        csrf = await fresh(browser)
        assert (await browser.post(f"{place}/detail", {"csrf": csrf})).answer.status_code == 403


async def test_one_too_many_is_said_on_the_page(at):
    browser, _ = await ask(at)
    for _ in range(at.runtime.settings.emergency.reads_a_day - 1):
        assert (await send_again(at, browser)).answer.status_code == 200
    page = await send_again(at, browser)
    assert page.answer.status_code == 403
    assert "Ask another officer" in page.text
    assert says_nothing(page)


async def send_again(at, browser):
    await fresh(browser)
    return await send(at, browser)


async def test_the_member_sees_role_and_reason_and_neither_words_nor_name(at):
    await ask(at)
    officer = at.staff["dpo"]
    for lang, words in (
        ("en", "Read in full in an emergency: Urgent medical help"),
        ("th", "อ่านแบบเต็มในเหตุฉุกเฉิน: ต้องให้ความช่วยเหลือทางการแพทย์โดยด่วน"),
        ("zh-Hant", "緊急情況下完整讀取：緊急醫療救助"),
    ):
        browser = Browser(at.world)
        await browser.sign_in(lang=lang)
        page = await browser.open(f"/{lang}/readers")
        assert words in page.text
        assert "quince-justification" not in page.html
        assert officer["name"] not in page.text
        assert officer["staff_id"] not in page.html
        await at.runtime.courier.deliver()


async def test_the_view_answers_over_http_and_apps_learn_the_role_alone(at):
    await ask(at)
    answer = await at.crm.get("/v1/audit/events", params={"view": "break-glass"})
    (event,) = answer.json()["events"]
    assert (event["action"], event["reason"]) == ("member.break_glass", "medical_help")
    told = (await at.crm.get(f"/v1/members/{at.member.id}/disclosures")).json()["disclosures"]
    assert [(one["by"], one["emergency"]) for one in told] == [({"id": "dpo", "role": "dpo"}, True)]


async def test_the_justification_is_in_no_table_log_or_file(at, caplog):
    await ask(at)
    await at.runtime.sequencer.drain()
    folder = at.world.settings.data_dir
    needles = [CANARY.encode(), b"quince-justification", "ถูกนำส่ง".encode()]
    for file in folder.rglob("*"):
        if file.is_file():
            content = file.read_bytes()
            assert not any(needle in content for needle in needles), file.name
    assert "quince-justification" not in caplog.text
