"""Guardians: a minor's yes counts with a proven guardian, and with nobody else's proof."""

import pytest

from kernel import to_date
from tests.support.world import DAY_US, JumpingClock, open_world

pytestmark = pytest.mark.anyio

PARENT = {
    "relation": "parent",
    "contact": {"kind": "phone", "value": "089-876-5432", "region": "TH"},
}
CANARY = "89876543"


def born(world, years):
    """A birth date by which somebody is so many years old."""
    today = to_date(world.runtime.clock.now_us())
    day = today.replace(day=min(today.day, 28))
    return day.replace(year=day.year - years).isoformat()


@pytest.fixture
async def crm(world):
    return await world.app()


async def minor(crm, world, years=15, phone="081-234-5678", **more):
    member = await crm.register(phone=phone, birth_date=born(world, years), **more)
    await crm.verify(member)
    return member


async def named(app, member, body=PARENT):
    return await app.post(f"/v1/members/{member.id}/guardians", body)


async def proven(app, world, member, body=PARENT):
    made = await named(app, member, body)
    assert made.status_code == 201, made.text
    guardian = made.json()["id"]
    answer = await prove(app, member, guardian, world.code_for(guardian))
    assert answer.status_code == 200, answer.text
    assert answer.json()["proven_at"] is not None
    return guardian


async def prove(app, member, guardian, code):
    return await app.post(f"/v1/members/{member.id}/guardians/{guardian}:verify", {"code": code})


async def say_yes(app, world, member, guardian=None, purpose="marketing", channel="sms"):
    one = world.decision(purpose, channel) | ({"guardian": guardian} if guardian else {})
    return await app.post(f"/v1/members/{member.id}/consents", {"consents": [one]})


async def events(world):
    return await world.fetch(
        "SELECT id, decision, guardian_id, joint_with FROM consent_event ORDER BY at_us, id"
    )


@pytest.mark.parametrize("years", [8, 15])
async def test_without_a_guardian_a_minor_consents_to_nothing(crm, world, years):
    member = await minor(crm, world, years)

    answer = await say_yes(crm, world, member)

    assert (answer.status_code, answer.json()["reason"]) == (403, "guardian_required")
    assert await events(world) == []


async def test_a_named_guardian_who_is_not_proven_does_not_help(crm, world):
    member = await minor(crm, world)
    guardian = (await named(crm, member)).json()["id"]

    answer = await say_yes(crm, world, member, guardian)

    assert (answer.status_code, answer.json()["reason"]) == (403, "guardian_required")
    assert await events(world) == []


async def test_minor_and_guardian_together_are_two_linked_events(crm, world):
    member = await minor(crm, world)
    guardian = await proven(crm, world, member)

    answer = await say_yes(crm, world, member, guardian)

    assert answer.status_code == 201, answer.text
    minors, guardians = await events(world)
    assert (minors["guardian_id"], minors["joint_with"]) == (None, guardians["id"])
    assert (guardians["guardian_id"], guardians["joint_with"]) == (guardian, None)
    assert (await crm.view(member, "marketing", "sms")).status_code == 200
    (state,) = (await crm.get(f"/v1/members/{member.id}/consents")).json()["consents"]
    assert (state["status"], state["guardian"], state["id"]) == ("given", guardian, guardians["id"])


async def test_for_a_small_child_the_guardian_decides_alone(crm, world):
    member = await minor(crm, world, 8)
    guardian = await proven(crm, world, member)

    assert (await say_yes(crm, world, member, guardian)).status_code == 201

    (only,) = await events(world)
    assert (only["guardian_id"], only["joint_with"]) == (guardian, None)
    assert (await crm.view(member, "marketing", "sms")).status_code == 200


@pytest.mark.parametrize(
    ("jurisdiction", "years", "status"),
    [("EU", 15, 403), ("EU", 17, 201), ("TW", 17, 403), ("TW", 19, 201), ("TH", 19, 403)],
)
async def test_who_needs_a_guardian_is_the_law_of_the_place(
    crm, world, jurisdiction, years, status
):
    member = await minor(crm, world, years, jurisdiction=jurisdiction)

    assert (await say_yes(crm, world, member)).status_code == status


async def test_one_proof_does_not_serve_another_minor(crm, world):
    one = await minor(crm, world)
    other = await minor(crm, world, phone="081-111-2222")
    guardian = await proven(crm, world, one)

    answer = await say_yes(crm, world, other, guardian)

    assert (answer.status_code, answer.json()["reason"]) == (403, "guardian_required")
    assert (await prove(crm, other, guardian, "000000")).status_code == 404


async def test_the_code_of_another_guardian_is_refused(crm, world):
    member = await minor(crm, world)
    mother = (await named(crm, member)).json()["id"]
    other = {**PARENT, "contact": {"kind": "email", "value": "father@example.com"}}
    father = (await named(crm, member, other)).json()["id"]
    code = world.code_for(father)
    if code == world.code_for(mother):
        pytest.skip("two random codes are the same once in a million")

    answer = await prove(crm, member, mother, code)

    assert (answer.status_code, answer.json()["reason"]) == (422, "code_wrong")
    assert (await say_yes(crm, world, member, mother)).status_code == 403


async def test_guessing_ends_after_five_attempts(crm, world):
    member = await minor(crm, world)
    guardian = (await named(crm, member)).json()["id"]
    code = world.code_for(guardian)
    wrong = f"{(int(code) + 1) % 1_000_000:06d}"
    for _ in range(5):
        assert (await prove(crm, member, guardian, wrong)).json()["reason"] == "code_wrong"

    answer = await prove(crm, member, guardian, code)

    assert (answer.status_code, answer.json()["reason"]) == (422, "too_many_attempts")


async def test_a_minor_is_not_their_own_guardian(crm, world):
    member = await minor(crm, world)
    own = {**PARENT, "contact": {"kind": "phone", "value": "0812345678", "region": "TH"}}

    answer = await named(crm, member, own)

    assert answer.status_code == 422
    assert answer.json()["errors"][0]["code"] == "guardian_is_member"
    assert (
        await named(crm, member, {"relation": "parent", "member": member.id})
    ).status_code == 422


async def test_a_member_of_age_can_be_a_guardian_and_a_minor_cannot(crm, world):
    child = await minor(crm, world)
    parent = await crm.register(phone="089-555-6666", birth_date=born(world, 40))
    await crm.verify(parent)
    friend = await minor(crm, world, 17, phone="089-777-8888")

    refused = await named(crm, child, {"relation": "parent", "member": friend.id})
    assert (refused.status_code, refused.json()["reason"]) == (422, "guardian_not_adult")
    guardian = await proven(crm, world, child, {"relation": "parent", "member": parent.id})

    assert (await say_yes(crm, world, child, guardian)).status_code == 201
    parent_id = await world.member_id(parent)
    async with world.runtime.database.read() as session:
        (ward,) = await world.runtime.guardians.wards(session, parent_id)
    assert ward.member_id == await world.member_id(child)


async def test_an_erased_member_is_nobodys_guardian_and_leads_to_no_child(crm, world):
    child = await minor(crm, world)
    parent = await crm.register(phone="089-555-6666", birth_date=born(world, 40))
    await crm.verify(parent)
    guardian = await proven(crm, world, child, {"relation": "parent", "member": parent.id})
    await say_yes(crm, world, child, guardian)

    await world.erase(parent)

    (row,) = await world.fetch("SELECT guardian_member_id, contact_point_id FROM guardian")
    assert (row["guardian_member_id"], row["contact_point_id"]) == (None, None)
    assert (await say_yes(crm, world, child, guardian, "profiling", None)).status_code == 403
    # What was given by a proven guardian stands until somebody withdraws it.
    assert (await crm.view(child, "marketing", "sms")).status_code == 200


async def test_an_adult_has_no_guardian(crm, world):
    adult = await crm.register(phone="081-234-5678", birth_date=born(world, 30))

    answer = await named(crm, adult)

    assert (answer.status_code, answer.json()["reason"]) == (422, "guardian_not_applicable")
    named_anyway = await say_yes(crm, world, adult, "grd_01m834me8bfjwbgnk89sr02kdz")
    assert named_anyway.json()["reason"] == "guardian_not_applicable"


async def test_a_guardian_withdraws_like_the_member_and_the_minor_does_so_alone(crm, world):
    member = await minor(crm, world)
    guardian = await proven(crm, world, member)
    for body in ({"guardian": guardian}, {}):
        await say_yes(crm, world, member, guardian)
        answer = await crm.post(
            f"/v1/members/{member.id}/consents:withdraw",
            {"purpose": "marketing", "channel": "sms", **body},
        )
        assert answer.status_code == 200, answer.text
        assert (await crm.view(member, "marketing", "sms")).json()["reason"] == "consent_withdrawn"


async def test_what_rested_on_a_guardian_ends_with_the_guardianship(crm, world):
    member = await minor(crm, world)
    guardian = await proven(crm, world, member)
    await say_yes(crm, world, member, guardian)

    answer = await crm.post(f"/v1/members/{member.id}/guardians/{guardian}:end")

    assert answer.status_code == 200, answer.text
    assert (await crm.view(member, "marketing", "sms")).json()["reason"] == "consent_expired"
    assert (await say_yes(crm, world, member, guardian)).status_code == 403


@pytest.mark.postgres
async def test_a_yes_given_beside_the_end_of_a_guardianship_ends_with_it(postgres_settings):
    async with open_world(postgres_settings, background=False) as world:
        crm = await world.app()
        member = await minor(crm, world)
        guardian = await proven(crm, world, member)
        hold, held = world.runtime.consent.hold_gate, []

        async def overtaken(work, member_id):
            held.append(member_id)
            if len(held) == 1:
                assert (await say_yes(crm, world, member, guardian)).status_code < 300
            return await hold(work, member_id)

        world.runtime.consent.hold_gate = overtaken
        ended = await crm.post(f"/v1/members/{member.id}/guardians/{guardian}:end")
        assert ended.status_code == 200, ended.text
        denied = await crm.view(member, "marketing", "sms")
    assert denied.json()["reason"] == "consent_expired"


async def test_what_a_guardian_gave_waits_on_the_day_the_minor_is_of_age(settings):
    clock = JumpingClock()
    async with open_world(settings, clock=clock) as world:
        crm = await world.app()
        member = await minor(crm, world, 19)
        guardian = await proven(crm, world, member)
        assert (await say_yes(crm, world, member, guardian)).status_code == 201
        clock.jump_us += 366 * DAY_US
        await world.runtime.housekeeping.grow_up()
        await crm.sign_in()

        denied = await crm.view(member, "marketing", "sms")

        assert (denied.status_code, denied.json()["reason"]) == (403, "came_of_age")
        assert (await crm.view(member)).status_code == 200  # the contract goes on
        (state,) = (await crm.get(f"/v1/members/{member.id}/consents")).json()["consents"]
        assert (state["status"], state["reconfirm"]) == ("reconfirm_needed", "came_of_age")
        assert (await say_yes(crm, world, member)).status_code == 201
        assert (await crm.view(member, "marketing", "sms")).status_code == 200


async def test_how_a_guardian_is_reached_is_told_nowhere_and_goes_with_the_minor(crm, world):
    member = await minor(crm, world)
    guardian = await proven(crm, world, member)
    answers = [
        (await named(crm, member)).text,
        (await crm.get(f"/v1/members/{member.id}/guardians")).text,
        str(await world.events()),
        str(await world.fetch("SELECT * FROM guardian")),
        str(await world.fetch("SELECT * FROM outbox")),
        str(world.codes()),
    ]
    assert not any(CANARY in answer for answer in answers)

    await world.erase(member)

    rows = await world.fetch("SELECT cells, code_mac, proven_us, relation FROM guardian")
    assert all(row["cells"] is None and row["code_mac"] is None for row in rows)
    assert [row["relation"] for row in rows if row["proven_us"]] == ["parent"]  # the proof stays
    assert guardian


async def test_another_client_neither_sees_nor_names_guardians(crm, world):
    member = await minor(crm, world)
    stranger = await world.app("cdp")

    assert (await named(stranger, member)).status_code == 404
    assert (await stranger.get(f"/v1/members/{member.id}/guardians")).status_code == 404


@pytest.mark.parametrize(
    "body",
    [
        {"relation": "parent"},
        {**PARENT, "member": "sub_52d26pfztp1nmz8kye4m2pcahc"},
        {**PARENT, "relation": "friend"},
        {**PARENT, "contact": {"kind": "pigeon", "value": "x"}},
        {**PARENT, "contact": {"kind": "phone", "value": "not a number 89876543"}},
    ],
)
async def test_a_faulty_guardian_is_refused_without_repeating_it(crm, world, body):
    member = await minor(crm, world)

    answer = await named(crm, member, body)

    assert answer.status_code == 422
    assert CANARY not in answer.text
    assert await world.fetch("SELECT id FROM guardian") == []
