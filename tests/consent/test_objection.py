"""Objection to direct marketing: at once, on every channel, past imports and past erasure."""

import pytest

from kernel import rfc3339
from members.registration import Prepared
from tests.support.world import EVERYTHING

pytestmark = pytest.mark.anyio

PHONE = "081-234-5678"


@pytest.fixture
async def crm(world):
    return await world.app()


@pytest.fixture
async def member(crm):
    known = await crm.register(
        phone=PHONE, email="somying@example.com", consents={"marketing": "sms", "profiling": None}
    )
    await crm.verify(known)
    return known


async def reason(app, member, purpose="marketing", channel="sms"):
    answer = await app.view(member, purpose, channel)
    return None if answer.status_code == 200 else answer.json()["reason"]


async def stop(app, member, **body):
    path = f"/v1/members/{getattr(member, 'id', member)}/objections"
    return await app.post(path, {"purpose": "marketing", **body})


async def say_yes(app, world, member, evidence, channel="sms"):
    one = {**world.decision("marketing", channel), "evidence": evidence}
    return await app.post(f"/v1/members/{member.id}/consents", {"consents": [one]})


async def topics(world):
    return [row["topic"] for row in await world.fetch("SELECT topic FROM outbox ORDER BY id")]


async def test_an_objection_denies_the_very_next_read_on_every_channel(crm, member):
    assert await reason(crm, member) is None

    answer = await stop(crm, member)

    assert answer.status_code == 201, answer.text
    for channel in ("sms", "email", "line", "push"):
        assert await reason(crm, member, "marketing", channel) == "objected"
    assert await reason(crm, member, "profiling", None) == "objected"  # GDPR art. 21(2)
    assert await reason(crm, member, "membership", None) is None
    listed = (await crm.get(f"/v1/members/{member.id}/objections")).json()["objections"]
    assert {(one["purpose"], one["channel"]) for one in listed} == {
        *(("marketing", channel) for channel in ("sms", "email", "line", "push")),
        ("profiling", None),
    }


async def test_whoever_must_stop_is_told_and_the_trail_knows(crm, member, world):
    await stop(crm, member)

    told = await topics(world)
    assert told.count("objection.recorded") == 2
    assert told.count("suppression.added") == 5
    assert len(await world.events("consent.objected")) == 5


@pytest.mark.parametrize("purpose", ["membership", "analytics", "astrology"])
async def test_other_purposes_are_not_objected_to_this_way(crm, member, world, purpose):
    answer = await stop(crm, member, purpose=purpose)

    assert answer.status_code == 422
    assert await world.fetch("SELECT tag FROM suppression") == []


async def test_evidence_of_an_objection_holds_no_person(crm, member, world):
    answer = await stop(crm, member, evidence={"ui_action": "Somying 0812345678"})

    assert answer.status_code == 422
    assert "0812345678" not in answer.text
    assert await world.fetch("SELECT tag FROM suppression") == []


async def test_neither_withdrawal_nor_refusal_weakens_an_objection(crm, member, world):
    await stop(crm, member)
    assert (await crm.withdraw(member)).status_code == 200
    refused = {"consents": [world.decision("marketing", "sms", "refused")]}
    assert (await crm.post(f"/v1/members/{member.id}/consents", refused)).status_code == 201

    assert await reason(crm, member) == "objected"


@pytest.mark.parametrize(
    "evidence",
    [
        {},
        {"ui_action": "switch_on"},
        {"form": "import"},
        {"ui_action": "switch_on", "shown_at": "2020-01-01T00:00:00Z"},
        {"ui_action": "switch_on", "shown_at": "in a minute"},
    ],
    ids=["none", "no moment", "an import", "from before", "still to come"],
)
async def test_a_consent_without_fresh_evidence_does_not_lift_it(crm, member, world, evidence):
    await stop(crm, member)
    if evidence.get("shown_at") == "in a minute":  # no clock differs so little that it proves this
        ahead = rfc3339(world.runtime.clock.now_us() + 60_000_000)
        evidence = {**evidence, "shown_at": ahead}

    answer = await say_yes(crm, world, member, evidence)

    assert (answer.status_code, answer.json()["reason"]) == (422, "objected")
    assert await reason(crm, member) == "objected"


async def test_a_fresh_yes_of_the_person_lifts_it_there_and_is_on_record(crm, member, world):
    await stop(crm, member)
    entries = len(await world.fetch("SELECT tag FROM suppression"))
    fresh = rfc3339(world.runtime.clock.now_us())

    answer = await say_yes(crm, world, member, {"ui_action": "allow", "shown_at": fresh})

    assert answer.status_code == 201, answer.text
    assert await reason(crm, member) is None
    assert await reason(crm, member, "marketing", "email") == "objected"
    (event,) = await world.events("suppression.lift")
    assert (event["purpose"], event["channel"], event["count"]) == ("marketing", "sms", 1)
    assert len(await world.fetch("SELECT tag FROM suppression")) == entries - 1


async def imported(world, phone):
    """A member as an import brings one in; the pairwise id is what a client would learn."""
    runtime = world.runtime
    values = Prepared({"given_name": "สมหญิง", "phone": phone})
    async with runtime.database.unit_of_work() as work:
        made = await runtime.members.register(
            work,
            world.operator,
            brand="main",
            jurisdiction="TH",
            prepared=values,
            consents=(),
            now_us=runtime.clock.now_us(),
            action="member.import",
            send_codes=False,
        )
    return made.member_id


async def test_who_objected_and_was_erased_is_not_contactable_after_an_import(crm, member, world):
    await stop(crm, member)
    await world.erase(member)

    member_id = await imported(world, "+66812345678")

    async with world.runtime.database.read() as session:
        standing = await world.runtime.consent.objections(session, member_id)
    assert {(s.purpose, s.channel) for s in standing} == {
        ("marketing", "sms"),
        ("marketing", "push"),
        ("profiling", ""),
    }


async def test_an_import_of_an_address_does_not_bring_the_old_consent_back(crm, member, world):
    await stop(crm, member)
    await world.erase(member)

    again = await crm.register(phone=PHONE, consents={"marketing": "sms"})

    assert again.consents == []
    assert await reason(crm, again) == "objected"


async def test_an_address_given_later_brings_its_objection_along(crm, member, world):
    await stop(crm, member)
    await world.erase(member)
    other = await crm.register(phone="089-999-8888", consents={"marketing": "sms"})
    await crm.verify(other)
    assert await reason(crm, other) is None

    body = {"kind": "phone", "value": PHONE, "region": "TH"}
    answer = await crm.post(f"/v1/members/{other.id}/contact-points", body)

    assert answer.status_code == 201, answer.text
    assert await reason(crm, other) == "objected"


async def test_a_changed_address_brings_its_objection_along(crm, member, world):
    await stop(crm, member)
    other = await crm.register(phone="089-999-8888", consents={"marketing": "sms"})
    body = {"fields": {"phone": PHONE}, "formats": {"phone_region": "TH"}}

    assert (await crm.patch(f"/v1/members/{other.id}", body)).status_code == 200

    assert await reason(crm, other) == "objected"


async def test_the_list_holds_no_address_and_no_member(crm, member, world):
    await stop(crm, member)
    member_id = await world.member_id(member)
    index = {bytes(row["tag"]) for row in await world.fetch("SELECT tag FROM vault_tag")}

    rows = await world.fetch("SELECT * FROM suppression")

    assert set(rows[0]) == {"tag", "purpose", "channel", "since_us"}
    assert not index & {bytes(row["tag"]) for row in rows}
    assert member_id not in str(rows)


async def test_a_client_that_does_not_know_the_member_records_nothing(crm, member, world):
    stranger = await world.app("cdp", *EVERYTHING)

    assert (await stop(stranger, member)).status_code == 404
    assert await reason(crm, member) is None


async def test_as_of_a_moment_before_the_objection_the_consent_stands(crm, member, world):
    before = rfc3339(world.runtime.clock.now_us())
    await stop(crm, member)

    then = await crm.get(f"/v1/members/{member.id}/consents", params={"as_of": before})
    now = await crm.get(f"/v1/members/{member.id}/consents")

    def sms(answer):
        return next(c["status"] for c in answer.json()["consents"] if c["channel"] == "sms")

    assert (sms(then), sms(now)) == ("given", "objected")
