"""Retention and holds at the console: what is shown, who may place a hold, whom it never names."""

import pytest

from kernel import new_id
from tests.support.console import office
from tests.support.world import JumpingClock

pytestmark = pytest.mark.anyio
PATH = "/console/retention"


@pytest.fixture
async def at(settings):
    async with office(settings, clock=JumpingClock()) as opened:
        yield opened


async def place(browser, **fields):
    await browser.open(PATH)
    form = browser.page.form("/retention/hold")
    return await browser.post(form.action, {**form.fields, **fields})


async def holds(at):
    return await at.world.fetch("SELECT * FROM audit_hold")


async def test_every_period_stands_there_with_its_law(at):
    page = await (await at.sign_in("auditor")).open(PATH)
    pack = at.runtime.pack
    facts = [
        fact
        for one in (*pack.trail_rules.values(), *pack.retention_classes.values())
        for fact in one.period.values()
    ]
    assert facts
    for fact in facts:
        assert " ".join(fact.source.split()) in page.text
    assert page.text.count("unverified") >= sum(fact.unverified for fact in facts)


async def test_a_hold_is_placed_seen_and_released_by_an_officer(at):
    browser = await at.sign_in("dpo")
    page = await place(
        browser,
        reason="litigation",
        **{"from": "2026-01", "until": "2026-12"},
        action="member.view",
    )
    ((hold,), (placed,)) = await holds(at), await at.world.events("retention.hold")
    assert placed["resource"] == f"hold:{hold['id']}"
    assert placed["actor"]["id"] == at.staff["dpo"]["staff_id"]
    assert "2026-01 – 2026-12" in page.text
    page = await browser.send(f"/{hold['id']}/release")
    assert page.answer.status_code == 200
    assert len(await at.world.events("retention.release")) == 1
    csrf = page.forms[0].fields["csrf"]
    again = await browser.post(f"{PATH}/hold/{hold['id']}/release", {"csrf": csrf})
    assert again.answer.status_code == 404


async def test_a_hold_on_a_member_shows_nobody(at):
    browser = await at.sign_in("dpo")
    member = await at.world.member_id(at.member)
    page = await place(browser, reason="authority_order", member=member)
    assert member not in page.html
    assert "one member" in page.text
    assert (await holds(at))[0]["by_subject"] == 1


@pytest.mark.parametrize(
    ("typed", "status"),
    [
        ({"reason": "because"}, 422),
        ({"from": "2026-13"}, 422),
        ({"from": "2026-02", "until": "2026-01"}, 422),
        ({"action": "somying@example.co.th"}, 422),
        ({"member": "mem_" + "0" * 26}, 404),
        ({"member": "somying"}, 404),
    ],
)
async def test_what_cannot_be_held_is_said_and_changes_nothing(at, typed, status):
    browser = await at.sign_in("dpo")
    page = await place(browser, **{"reason": "litigation", **typed})
    assert page.answer.status_code == status
    assert "No hold was placed" in page.text
    assert await holds(at) == []
    assert await at.world.events("retention.hold") == []


async def test_an_auditor_sees_holds_and_places_none(at):
    await place(await at.sign_in("dpo"), reason="investigation")
    browser = await at.sign_in("auditor")
    page = await browser.open(PATH)
    assert "Investigation" in page.text
    assert not page.has_form(f"{PATH}/hold")
    csrf = page.forms[0].fields["csrf"]
    (hold,) = await holds(at)
    for path in (f"{PATH}/hold", f"{PATH}/hold/{hold['id']}/release"):
        refused = await browser.post(path, {"csrf": csrf, "reason": "litigation"})
        assert refused.answer.status_code == 403
    assert [one["released_us"] for one in await holds(at)] == [None]
    denied = await at.world.events("console.open")
    assert {one["resource"] for one in denied} == {"console/retention/hold"}


async def test_a_form_of_another_page_places_nothing(at):
    browser = await at.sign_in("dpo")
    refused = await browser.post(f"{PATH}/hold", {"csrf": new_id("req"), "reason": "litigation"})
    assert refused.answer.status_code == 403
    assert await holds(at) == []


async def test_another_brands_hold_and_member_are_not_this_officers(at):
    there = await at.world.app("there", "members:write", "legal-holds:manage", brand="elsewhere")
    made = (await there.post("/v1/legal-holds", {"reason": "litigation"})).json()["id"]
    other = await at.world.member_id(await there.register(brand="elsewhere", phone="089-111-2222"))
    browser = await at.sign_in("dpo")
    page = await browser.open(PATH)
    assert made not in page.html
    csrf = page.forms[0].fields["csrf"]
    refused = await browser.post(f"{PATH}/hold/{made}/release", {"csrf": csrf})
    assert refused.answer.status_code == 404
    page = await place(browser, reason="litigation", member=other)
    assert page.answer.status_code == 404
    assert [(one["id"], one["released_us"]) for one in await holds(at)] == [(made, None)]
