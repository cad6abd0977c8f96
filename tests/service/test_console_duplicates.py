"""The duplicates queue at the console: masked side by side, decided by a person, undone by one."""

import pytest

from kernel import new_id
from tests.support.console import office
from tests.support.portal import FIELDS, PERSONAL
from tests.support.world import JumpingClock

pytestmark = pytest.mark.anyio


@pytest.fixture
async def at(settings):
    async with office(settings, clock=JumpingClock()) as opened:
        await opened.crm.register(FIELDS)
        await opened.runtime.courier.deliver()
        while await opened.runtime.worker.run_one():
            pass
        yield opened


async def first_pair(browser):
    page = await browser.open("/console/duplicates")
    (place,) = [link for link in page.links if link.startswith("/console/duplicates/dup_")]
    return place


async def test_two_records_stand_side_by_side_masked_with_an_event_each(at):
    browser = await at.sign_in("dpo")
    page = await browser.open(await first_pair(browser))
    assert page.text.count("081-xxx-5678") == 2
    for value in PERSONAL:
        assert value not in page.html
    assert len(await at.world.events("member.view_staff")) == 2


async def test_a_merge_is_done_on_record_and_undone(at):
    browser = await at.sign_in("dpo")
    place = await first_pair(browser)
    await browser.open(place)
    page = await browser.send(place, answer="merge")
    assert page.url.path == "/console/duplicates"
    assert "Merged." in page.text
    assert (await at.world.events())[-1]["actor"]["id"] == at.staff["dpo"]["staff_id"]
    before = len(await at.world.events())
    page = await browser.send("duplicates/undo")
    assert not page.has_form("duplicates/undo")
    undone = (await at.world.events())[before:]
    assert at.staff["dpo"]["staff_id"] in {event["actor"]["id"] for event in undone}
    states = await at.world.fetch("SELECT state FROM duplicate")
    assert [one["state"] for one in states] == ["dismissed"]


async def test_a_pair_that_was_kept_apart_waits_no_more(at):
    browser = await at.sign_in("dpo")
    place = await first_pair(browser)
    await browser.open(place)
    page = await browser.send(place, answer="apart")
    assert "Kept apart." in page.text
    assert place not in page.links
    assert (await browser.open(place)).answer.status_code == 404


async def test_a_pair_nobody_has_is_a_calm_page(at):
    browser = await at.sign_in("dpo")
    for pair in (new_id("dup"), "dup_x", "x"):
        assert (await browser.open(f"/console/duplicates/{pair}")).answer.status_code == 404
    assert (await browser.open("/console/duplicates?after=x")).answer.status_code == 422


@pytest.mark.parametrize("role", ["auditor", "clerk", "admin"])
async def test_no_other_role_reads_or_decides_a_pair(at, role):
    place = await first_pair(await at.sign_in("dpo"))
    browser = await at.sign_in(role)
    csrf = browser.page.forms[0].fields["csrf"]
    assert (await browser.open(place)).answer.status_code == 403
    answer = {"csrf": csrf, "answer": "merge"}
    assert (await browser.post(place, answer)).answer.status_code == 403
