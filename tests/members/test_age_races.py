"""Growing up beside other changes: an old birth date never overrules a new one, or an erasure."""

# ruff: noqa: F811 (fixtures are asked for by name)

import pytest

from members import age
from tests.support.world import (  # noqa: F401 (fixtures)
    DAY_US,
    JumpingClock,
    installed_sqlite,
    open_world,
    postgres_settings,
    settings,
    sqlite_settings,
)

pytestmark = pytest.mark.anyio

YEAR_US = 365 * DAY_US


@pytest.fixture
async def grown(settings):
    """A registry five years after a child of sixteen was registered."""
    clock = JumpingClock()
    async with open_world(settings, clock=clock, background=False) as world:
        crm = await world.app()
        year = int(str(clock_year(clock))) - 16
        child = await crm.register(
            {"given_name": "ขวัญ", "phone": "081-000-0000", "birth_date": f"{year}-01-01"}
        )
        clock.jump_us = 5 * YEAR_US
        await crm.sign_in()
        yield world, crm, child, year


def clock_year(clock):
    from kernel import to_date

    return to_date(clock.now_us()).year


async def tier(world, child):
    member_id = await world.member_id(child)
    rows = await world.fetch("SELECT age_tier FROM member_gate WHERE member_id = :id", id=member_id)
    return rows[0]["age_tier"]


async def refresh(world):
    return await world.runtime.housekeeping._age_tiers.refresh(world.operator)


async def test_a_minor_grows_up_with_one_look_and_one_change_on_record(grown):
    world, _, child, _ = grown
    assert await tier(world, child) != "adult"
    assert await refresh(world) == 1
    assert await tier(world, child) == "adult"
    assert len(await world.events("member.age_check")) == 1
    assert len(await world.events("member.age_tier")) == 1
    assert await refresh(world) == 0
    assert len(await world.events("member.age_check")) == 1


async def change_while_looking(world, monkeypatch, change):
    """Let something happen between the reading of the birth date and the writing of the tier."""
    genuine = age.AgeTiers._move

    async def after_a_change(self, *details):
        await change()
        return await genuine(self, *details)

    monkeypatch.setattr(age.AgeTiers, "_move", after_a_change)
    return await refresh(world)


async def test_a_birth_date_corrected_meanwhile_is_not_overruled_by_the_old_one(grown, monkeypatch):
    world, crm, child, year = grown

    async def correct():
        body = {
            "fields": {"birth_date": f"{year + 8}-01-01"},
            "formats": {"date_era": "iso"},
        }
        assert (await crm.patch(f"/v1/members/{child.id}", body)).status_code == 200

    assert await change_while_looking(world, monkeypatch, correct) == 0
    assert await tier(world, child) != "adult"


async def test_a_member_erased_meanwhile_stays_erased_and_ends_nothing(grown, monkeypatch):
    world, crm, child, year = grown
    other = await crm.register(
        {"given_name": "ก้อย", "phone": "082-000-0000", "birth_date": f"{year + 10}-01-01"}
    )

    async def erase():
        await world.erase(child)

    assert await change_while_looking(world, monkeypatch, erase) == 0
    assert (await crm.view(child)).status_code == 404
    assert len(await world.events("member.age_check")) == 2
    assert (await crm.view(other)).status_code == 200


async def test_a_restricted_member_is_not_looked_at(grown):
    world, _, child, _ = grown
    await world.restrict(child)
    assert await refresh(world) == 0
    assert await world.events("member.age_check") == []
    await world.restrict(child, on=False)
    assert await refresh(world) == 1
