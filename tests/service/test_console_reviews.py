"""Reviews at the console: who may not, what the page shows, and that it is said once."""

import pytest

from audit import REVIEWED
from service.staff import staff_caller
from tests.support.console import office
from tests.support.emergency import CANARY, break_glass
from tests.support.portal import PERSONAL, Browser
from tests.support.requests import staff
from tests.support.reviews import nothing_reviewed, review
from tests.support.world import DAY_US, JumpingClock

pytestmark = pytest.mark.anyio

LIST = "/console/reviews"


@pytest.fixture
async def at(sqlite_settings):
    async with office(sqlite_settings, clock=JumpingClock()) as opened:
        yield opened


async def read_by(at, caller=None):
    """An emergency read, by somebody of no account where nobody is named."""
    member = await at.world.member_id(at.member)
    return (await break_glass(at.world, member, caller=caller)).audit_id


async def account_of(at, role):
    async with at.runtime.database.read() as session:
        account = await at.runtime.staff.account(session, at.staff[role]["staff_id"])
    return staff_caller(account, staff().request_id)


async def secret(browser):
    return (await browser.open("/console/")).forms[0].fields["csrf"]


async def test_who_may_not_review_is_refused_on_record_and_shown_nothing(at):
    event = await read_by(at)
    for role in ("clerk", "operator", "admin", "marketer"):
        browser = await at.sign_in(role)
        typed = {"csrf": await secret(browser), "outcome": "justified"}
        for page in (
            await browser.open(LIST),
            await browser.open(f"{LIST}/{event}"),
            await browser.post(f"{LIST}/{event}", typed),
            await browser.post(f"{LIST}/{event}/detail", typed),
        ):
            assert page.answer.status_code == 403
            assert event not in page.html
        refused = (await at.world.events("console.open"))[-1]
        assert (refused["resource"], refused["actor"]["role"]) == ("console/reviews", role)
    assert await nothing_reviewed(at.world, event)


async def test_whoever_read_sees_no_form_and_is_refused_on_record(at):
    event = await read_by(at, await account_of(at, "dpo"))
    browser = await at.sign_in("dpo")
    assert "You read" in (await browser.open(LIST)).text
    page = await browser.open(f"{LIST}/{event}")
    assert "Waiting for somebody else" in page.text
    assert not page.has_form(f"{LIST}/{event}")
    typed = {"csrf": page.forms[0].fields["csrf"], "outcome": "justified"}
    page = await browser.post(f"{LIST}/{event}", typed)
    assert page.answer.status_code == 403
    assert "Nobody reviews their own read" in page.text
    refused = (await at.world.events("approval.answer"))[-1]
    assert (refused["resource"], refused["decision"]) == (event, "deny")
    assert refused["reason"] == "own_read"
    assert await nothing_reviewed(at.world, event)


async def test_a_form_without_its_secret_or_an_answer_records_nothing(at):
    event = await read_by(at)
    browser = await at.sign_in("auditor")
    page = await browser.post(f"{LIST}/{event}", {"csrf": "forged", "outcome": "justified"})
    assert page.answer.status_code == 403
    for outcome in ("", "she asked me to"):
        typed = {"csrf": await secret(browser), "outcome": outcome}
        page = await browser.post(f"{LIST}/{event}", typed)
        assert page.answer.status_code == 422
        assert "Choose what you found." in page.text
        assert "she asked me to" not in page.html
    assert await nothing_reviewed(at.world, event)


async def test_an_auditor_reads_why_and_says_once_what_it_was(at):
    event = await read_by(at)
    browser = await at.sign_in("auditor")
    home = await browser.open("/console/")
    assert "Emergency reads to review" in home.text
    page = await browser.open(LIST)
    assert f"{LIST}/{event}" in page.links
    assert "Urgent medical help" in page.text
    assert "unverified" in page.text
    search = (await at.world.events("audit.search"))[-1]
    assert search["resource"] == "view/to-review"
    page = await browser.open(f"{LIST}/{event}")
    assert CANARY not in page.html
    opened = await browser.send("/detail")
    assert CANARY in opened.text
    assert "no-store" in opened.answer.headers["cache-control"]
    page = await browser.send(f"/reviews/{event}", outcome="not_justified")
    assert page.answer.status_code == 200
    assert "Not justified" in page.text
    assert not page.has_form(f"{LIST}/{event}")
    (told,) = await at.world.events(REVIEWED)
    assert (told["resource"], told["reason"]) == (event, "not_justified")
    assert told["actor"]["id"] == at.staff["auditor"]["staff_id"]
    typed = {"csrf": await secret(browser), "outcome": "justified"}
    again = await browser.post(f"{LIST}/{event}", typed)
    assert again.answer.status_code == 409
    assert "Somebody has reviewed this read already." in again.text
    assert "Nothing waits for a second person" in (await browser.open(LIST)).text
    assert f"{LIST}/{event}" in (await browser.open(f"/console/trail/{event}")).links
    assert not any(word in page.html for word in PERSONAL)


async def test_what_is_overdue_stands_on_the_first_page_and_in_the_list(at):
    event = await read_by(at)
    browser = await at.sign_in("dpo")
    assert "should have been reviewed" not in (await browser.open("/console/")).text
    at.runtime.clock.jump_us = (at.runtime.pack.emergency_review.value + 2) * DAY_US
    browser = await at.sign_in("dpo")
    home = await browser.open("/console/")
    assert "Emergency reads that should have been reviewed: 1" in home.text
    assert "Overdue" in (await browser.open(LIST)).text
    assert "Overdue" in (await browser.open(f"{LIST}/{event}")).text


async def test_what_waits_comes_in_pages(at, monkeypatch):
    monkeypatch.setattr("service.console.reviews._PAGE", 2)
    reads = [await read_by(at) for _ in range(3)]
    browser = await at.sign_in("dpo")
    first = await browser.open(LIST)
    (more,) = [link for link in first.links if "after=" in link]
    second = await browser.open(more)
    shown = [[link for link in page.links if "/reviews/evt_" in link] for page in (first, second)]
    assert shown == [[f"{LIST}/{one}" for one in reads[:2]], [f"{LIST}/{reads[2]}"]]
    assert (await browser.open(f"{LIST}?after=nonsense")).answer.status_code == 422
    empty = await browser.open(f"{LIST}/evt_{'0' * 26}")
    assert empty.answer.status_code == 404


async def test_the_member_goes_on_seeing_the_read_after_its_review(at):
    event = await read_by(at)
    await review(at.world, event, "not_justified")
    browser = Browser(at.world)
    await browser.sign_in(lang="en")
    page = await browser.open("/en/readers")
    assert "Read in full in an emergency: Urgent medical help" in page.text


async def test_the_page_of_a_review_speaks_the_readers_language(at):
    event = await read_by(at)
    for role, lang, words in (
        ("auditor", "th", "ทบทวนการอ่านในเหตุฉุกเฉิน"),
        ("dpo", "zh-Hant", "覆核緊急讀取"),
    ):
        browser = await at.sign_in(role, lang=lang)
        page = await browser.open(f"{LIST}/{event}")
        assert words in page.text
