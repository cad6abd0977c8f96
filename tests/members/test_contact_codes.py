"""Codes prove that a value reaches its member: one value, one use, five attempts, ten minutes."""

# ruff: noqa: F811 (fixtures are asked for by name)

import asyncio

import pytest

from members.contact import CODE_ATTEMPTS, CODE_LIFETIME_US
from tests.support.world import (  # noqa: F401 (fixtures)
    JumpingClock,
    installed_sqlite,
    open_world,
    postgres_settings,
    settings,
    sqlite_settings,
    world,
)

pytestmark = pytest.mark.anyio

PHONE = "081-234-5678"


async def answer_with(app, member, code, point=None):
    point = point or member.point("phone")
    answer = await app.post(
        f"/v1/members/{member.id}/contact-points/{point}:verify", {"code": code}
    )
    return answer.status_code, answer.json().get("reason")


def wrong(code):
    return f"{(int(code) + 1) % 1_000_000:06}"


@pytest.fixture
async def crm(world):
    return await world.app()


@pytest.fixture
async def member(crm):
    return await crm.register(phone=PHONE)


async def test_the_right_code_verifies_once(world, crm, member):
    code = world.code_for(member.point("phone"))
    assert await answer_with(crm, member, code) == (200, None)
    assert await answer_with(crm, member, code) == (422, "no_code")


async def test_after_five_wrong_codes_the_right_one_is_too_late(world, crm, member):
    code = world.code_for(member.point("phone"))
    for _ in range(CODE_ATTEMPTS):
        assert await answer_with(crm, member, wrong(code)) == (422, "code_wrong")
    assert await answer_with(crm, member, code) == (422, "too_many_attempts")


async def test_guessing_in_parallel_buys_no_attempt_more(world, crm, member):
    code = world.code_for(member.point("phone"))
    guesses = [f"{(int(code) + 1 + at) % 1_000_000:06}" for at in range(20)]
    reasons = [
        reason
        for _, reason in await asyncio.gather(
            *(answer_with(crm, member, guess) for guess in guesses)
        )
    ]
    assert reasons.count("code_wrong") == CODE_ATTEMPTS
    assert reasons.count("too_many_attempts") == len(guesses) - CODE_ATTEMPTS


async def test_a_code_is_good_for_ten_minutes(settings):
    clock = JumpingClock()
    async with open_world(settings, clock=clock) as world:
        crm = await world.app()
        member = await crm.register(phone=PHONE)
        code = world.code_for(member.point("phone"))
        clock.jump_us += CODE_LIFETIME_US + 1_000_000
        await crm.sign_in()
        assert await answer_with(crm, member, code) == (422, "code_expired")


async def test_a_code_sent_to_the_old_number_does_not_prove_the_new_one(world, crm, member):
    """The new number's code is still on its way; the holder of the old one answers first."""
    code = world.code_for(member.point("phone"))
    async with world.runtime.courier._turn:  # nothing is delivered meanwhile
        body = {"fields": {"phone": "089-876-5432"}, "formats": {"phone_region": "TH"}}
        changed = await crm.patch(f"/v1/members/{member.id}", body)
        assert changed.status_code == 200
        assert await answer_with(crm, member, code) == (422, "no_code")
    read = (await crm.view(member, fields="phone")).json()
    assert read["omitted"] == {"phone": "unverified"}
    await world.runtime.courier.deliver()
    assert await answer_with(crm, member, world.code_for(member.point("phone"))) == (200, None)
    assert (await crm.view(member, fields="phone")).json()["data"] == {"phone": "+66898765432"}


async def test_a_changed_number_is_unverified_at_once(world, crm, member):
    await crm.verify(member)
    assert (await crm.view(member, fields="phone")).json()["data"] == {"phone": "+66812345678"}
    body = {"fields": {"phone": "089-876-5432"}, "formats": {"phone_region": "TH"}}
    await crm.patch(f"/v1/members/{member.id}", body)
    assert (await crm.view(member, fields="phone")).json()["omitted"] == {"phone": "unverified"}


async def test_no_code_rests_in_the_database_or_is_kept_for_a_point_that_has_gone(world, crm):
    async with world.runtime.courier._turn:
        member = await crm.register(phone=PHONE)  # settling gives up after a second
        member_id = await world.member_id(member)
        await world.erase(member)
    await world.runtime.courier.deliver()
    assert member_id
    assert await world.fetch("SELECT * FROM contact_code") == []
    assert world.codes() == []


async def test_a_code_of_one_member_does_not_verify_another(world, crm, member):
    other = await crm.register(phone="089-876-5432")
    code = world.code_for(member.point("phone"))
    status, reason = await answer_with(crm, other, code, member.point("phone"))
    assert (status, reason) == (404, "contact_point_unknown")
    status, _ = await answer_with(crm, other, code)
    assert status == 422 or code == world.code_for(other.point("phone"))


async def test_every_attempt_is_an_event_and_no_event_holds_a_code(world, crm, member):
    code = world.code_for(member.point("phone"))
    await answer_with(crm, member, wrong(code))
    await answer_with(crm, member, code)
    events = await world.events("contact_point.verify")
    assert [(e["decision"], e.get("reason")) for e in events] == [
        ("deny", "code_wrong"),
        ("allow", None),
    ]
    assert not any(code in str({**e, "nonce": "", "ts": ""}) for e in events)


async def test_a_restricted_member_gets_no_further_contact_point(world, crm, member):
    await world.restrict(member)
    body = {"kind": "email", "value": "new@example.com"}
    answer = await crm.post(f"/v1/members/{member.id}/contact-points", body)
    assert (answer.status_code, answer.json()["reason"]) == (409, "restricted")


async def test_whoever_verified_a_shared_number_last_signs_in_by_it(world, crm):
    first, second = [await crm.register(phone=PHONE) for _ in range(2)]
    await crm.verify(first)
    await crm.verify(second)
    holders = await world.fetch("SELECT id FROM contact_point WHERE sign_in_tag IS NOT NULL")
    assert [row["id"] for row in holders] == [second.point("phone")]
    assert (await crm.view(first, fields="phone")).json()["data"] == {"phone": "+66812345678"}


@pytest.mark.postgres
async def test_two_members_who_verify_one_number_at_the_same_moment_both_get_an_answer(
    postgres_settings,
):
    async with open_world(postgres_settings) as world:
        crm = await world.app()
        members = [await crm.register(phone=PHONE) for _ in range(2)]
        await world.execute(
            "CREATE FUNCTION sleepy() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN PERFORM pg_sleep(0.4); RETURN NEW; END $$; "
            "CREATE TRIGGER sleepy AFTER UPDATE ON contact_point "
            "FOR EACH ROW WHEN (NEW.sign_in_tag IS NOT NULL) EXECUTE FUNCTION sleepy()"
        )
        answers = await asyncio.gather(
            *(answer_with(crm, member, world.code_for(member.point("phone"))) for member in members)
        )
        # whoever comes while the other still sleeps hears of it; whoever comes after does not
        assert set(answers) <= {(200, None), (409, "verified_elsewhere")}
        assert (200, None) in answers
        holders = await world.fetch("SELECT id FROM contact_point WHERE sign_in_tag IS NOT NULL")
        assert len(holders) == 1
