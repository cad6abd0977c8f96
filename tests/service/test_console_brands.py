"""The console of one brand shows that brand: its trail, its numbers, its people."""

import pytest

from service.tasks import system_caller
from tests.support.console import office
from tests.support.world import JumpingClock

pytestmark = pytest.mark.anyio
ROLES = ("auditor", "dpo", "admin")


@pytest.fixture
async def at(settings):
    async with office(settings, clock=JumpingClock()) as opened:
        for brand, prefix in (("elsewhere", "away-"), ("*", "all-")):
            for role in ROLES:
                opened.staff[prefix + role] = await opened.runtime.staff.add(
                    opened.world.operator, prefix + role, role, brand=brand, one_time=False
                )
        await opened.crm.view(opened.member, "membership")
        yield opened


async def trail(browser, **query):
    page = await browser.open("/console/trail", params=query)
    return {
        link.rpartition("/")[2] for link in page.links if link.startswith("/console/trail/evt_")
    }


async def test_a_search_of_the_trail_finds_nothing_of_another_brand(at):
    theirs = {event["id"] for event in await at.world.events("member.view")}
    assert theirs
    assert not await trail(await at.sign_in("away-auditor"), action="member.view")
    assert await trail(await at.sign_in("auditor"), action="member.view") == theirs
    assert await trail(await at.sign_in("all-auditor"), action="member.view") == theirs


async def test_an_event_of_another_brand_is_unknown_by_its_id_too(at):
    (event, *_) = await at.world.events("member.view")
    place = f"/console/trail/{event['id']}"
    assert (await (await at.sign_in("away-auditor")).open(place)).answer.status_code == 404
    assert (await (await at.sign_in("auditor")).open(place)).answer.status_code == 200


async def test_what_the_registry_did_to_a_member_is_in_no_overview_of_a_brand(at):
    runtime = at.runtime
    member_id = await at.world.member_id(at.member)
    async with runtime.database.unit_of_work() as work:
        key = await runtime.members.pseudonym(work, member_id)
        about = await runtime.audit.record(work, system_caller("worker"), "test.about", subject=key)
        house = await runtime.audit.record(work, system_caller("worker"), "test.house")
    for name, expected in (("away-auditor", {house}), ("all-auditor", {house, about})):
        browser = await at.sign_in(name)
        found = await trail(browser, action="test.about") | await trail(
            browser, action="test.house"
        )
        assert found == expected


async def test_an_app_reads_the_trail_of_its_own_brand(at):
    away = await at.world.app("reader", "audit:read", brand="elsewhere")
    here = await at.world.app("reader-here", "audit:read")
    (event, *_) = await at.world.events("member.view")
    for app, sees in ((away, False), (here, True)):
        found = (await app.get("/v1/audit/events")).json()["events"]
        assert (event["id"] in {one["id"] for one in found}) is sees
    await at.runtime.sequencer.drain()
    path = f"/v1/audit/events/{event['id']}/proof"
    assert (await away.get(path)).status_code == 404
    assert (await here.get(path)).status_code == 200


async def test_the_numbers_of_consent_are_those_of_the_brand(at):
    away = await (await at.sign_in("away-dpo")).open("/console/consents")
    here = await (await at.sign_in("dpo")).open("/console/consents")
    assert away.text != here.text
    crm = await at.world.app("there", brand="elsewhere")
    await crm.register(brand="elsewhere", consents={"marketing": "sms"}, phone="089-111-2222")
    assert (await (await at.sign_in("dpo")).open("/console/consents")).text == here.text
    again = await (await at.sign_in("away-dpo")).open("/console/consents")
    assert again.text != away.text


async def test_the_access_review_lists_who_reaches_the_brand(at):
    page = await (await at.sign_in("away-admin")).open("/console/staff")
    for role in ROLES:
        assert f"away-{role}" in page.text
        assert f"all-{role}" in page.text
        assert at.staff[role]["staff_id"] not in page.html
    whole = await (await at.sign_in("all-admin")).open("/console/staff")
    for name in ("auditor", "away-dpo", "all-dpo"):
        assert name in whole.text


async def test_names_of_people_of_another_brand_are_in_no_list_to_choose_from(at):
    page = await (await at.sign_in("away-auditor")).open("/console/trail")
    assert at.crm.id not in page.html
    assert at.staff["dpo"]["staff_id"] not in page.html
