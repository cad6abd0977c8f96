"""Whoever asks who read what is told that older readings went, by rule: member, app, officer."""

import json

import pytest

from tests.support.console import office
from tests.support.portal import FIELDS, Browser, portal_world
from tests.support.world import DAY_US

pytestmark = pytest.mark.anyio

NOTE = {
    "th": "ครบกำหนดเก็บ",
    "en": "when their time had come",
    "zh-Hant": "已屆保存期限",
}


async def as_if_pruned(world):
    """Let the table say that a month that ends after the member came was pruned."""
    until_us = world.runtime.clock.now_us() + DAY_US
    await world.execute(
        "INSERT INTO audit_pruned VALUES (1000000, 1000000, 'evt_none', 0, :until, :due)",
        until=until_us,
        due=until_us,
    )


async def test_a_member_is_told_that_older_readings_went(sqlite_settings):
    async with portal_world(sqlite_settings) as world:
        crm = await world.app("crm")
        member = await crm.register(FIELDS)
        await crm.view(member)
        await world.runtime.courier.deliver()
        browser = Browser(world)
        await browser.sign_in(lang="en")
        assert NOTE["en"] not in (await browser.open("/en/readers")).text
        await as_if_pruned(world)
        for lang, note in NOTE.items():
            assert note in (await browser.open(f"/{lang}/readers")).text


async def test_an_app_is_told_until_when_readings_went(world):
    crm = await world.app()
    member = await crm.register(phone="081-234-5678")
    await crm.view(member)
    path = f"/v1/members/{member.id}/disclosures"
    assert (await crm.get(path)).json()["pruned_until"] is None
    await as_if_pruned(world)
    answer = (await crm.get(path)).json()
    assert answer["pruned_until"].endswith("Z")
    assert len(answer["disclosures"]) == 1


async def test_an_officer_is_told_that_older_events_went(sqlite_settings):
    async with office(sqlite_settings) as at:
        browser = await at.sign_in("auditor")
        assert "whose time had come were deleted" not in (await browser.open("/console/trail")).text
        await as_if_pruned(at.world)
        assert "whose time had come were deleted" in (await browser.open("/console/trail")).text
        (gone, *_) = await at.world.events("member.register")
        await at.world.unguard("audit_event")
        await at.runtime.sequencer.drain()
        await at.world.execute("DELETE FROM audit_event WHERE id = :id", id=gone["id"])
        (leaf,) = await at.world.fetch(
            "SELECT leaf_index AS at FROM audit_leaf WHERE event_id = :id", id=gone["id"]
        )
        place = leaf["at"]
        await at.world.execute(
            "INSERT INTO audit_pruned VALUES (:one, :last, 'evt_none', 0, 1, 1)",
            one=place,
            last=place,
        )
        page = await browser.open(f"/console/trail/{gone['id']}")
        assert page.answer.status_code == 410
        assert "deleted by policy" in page.text
        assert json.dumps(gone) not in page.text
