"""The trail as other rooms use it: what it takes, what it refuses to hold, what it finds again."""

# ruff: noqa: F811 (fixtures are asked for by name)

import json
from itertools import pairwise

import pytest

from audit import AuditEvent, repository
from audit.errors import EventError
from audit.event import Actor, Subject, canonical_bytes, check
from kernel import Caller, NotFoundError, RequestId, UnavailableError, new_id
from tests.support.world import (  # noqa: F401 (fixtures)
    DAY_US,
    JumpingClock,
    installed_sqlite,
    open_world,
    postgres_settings,
    settings,
    sqlite_settings,
    world,
)
from vault import PSEUDONYM

pytestmark = pytest.mark.anyio

PERSONAL = ("0812345678", "สมหญิง", "somying@example.com", "1101700230708", "+66812345678")


async def counted(world):
    return len(await world.fetch("SELECT id FROM audit_event"))


def caller(**change):
    details = {
        "id": "cli_" + "0" * 26,
        "role": "app",
        "via": "api",
        "brand": "main",
        "request_id": RequestId(new_id("req")),
    }
    return Caller(**details | change)


# --- what has no place in it ----------------------------------------------------------

WORDS = ("action", "purpose", "channel", "legal_basis", "reason", "resource")
MEMBER_IDS = tuple(f"{prefix}_{'0' * 26}" for prefix in ("mem", "sub", "cp"))


@pytest.mark.parametrize("member", WORDS)
async def test_a_value_that_may_be_personal_has_no_place_in_a_word(world, member):
    before = await counted(world)
    for value in (*PERSONAL, *MEMBER_IDS, "two words", "Somying", "x" * 65, ""):
        details = {"action": "test.event", member: value}
        action = details.pop("action")
        with pytest.raises(EventError) as refused:
            async with world.runtime.database.unit_of_work() as work:
                await world.runtime.audit.record(work, caller(), action, **details)
        assert not value or value not in refused.value.diagnostics()
    assert await counted(world) == before


DETAILS = {
    "a value among field names": {"fields": ("phone", "+66812345678")},
    "a name among field names": {"fields": ("สมหญิง",)},
    "field names out of order": {"fields": ("phone", "given_name")},
    "a field name twice": {"fields": ("phone", "phone")},
    "a plain value before": {"before": {"phone": "+66812345678"}},
    "a plain value after": {"after": {"given_name": "สมหญิง"}},
    "a hash that is no digest": {"after": {"phone": "ab" * 32}},
    "a value as a field name": {"after": {"+66812345678": "ab" * 16}},
    "a count below zero": {"count": -1},
    "a count that is none": {"count": 1.5},
    "a decision nobody knows": {"decision": "maybe"},
    "an outcome nobody knows": {"outcome": "fine"},
}


@pytest.mark.parametrize("name", DETAILS)
async def test_what_does_not_fit_the_format_is_not_recorded(world, name):
    before = await counted(world)
    with pytest.raises(EventError):
        async with world.runtime.database.unit_of_work() as work:
            await world.runtime.audit.record(work, caller(), "test.event", **DETAILS[name])
    assert await counted(world) == before


@pytest.mark.parametrize(
    "change",
    [
        {"id": "mem_" + "0" * 26},
        {"id": "sub_" + "0" * 26},
        {"id": "สมหญิง"},
        {"id": "0812345678"},
        {"role": "The Boss"},
        {"via": "somying@example.com"},
        {"request_id": RequestId("0812345678 ")},
        {"request_id": RequestId("req_" + "mem_" + "0" * 26)},
    ],
)
async def test_an_actor_is_a_pseudonym_and_a_request_id_names_nobody(world, change):
    with pytest.raises(EventError):
        async with world.runtime.database.unit_of_work() as work:
            await world.runtime.audit.record(work, caller(**change), "test.event")


async def test_a_change_whose_event_is_refused_does_not_happen(world):
    crm = await world.app()
    member = await crm.register(phone="081-234-5678")
    runtime, member_id = world.runtime, await world.member_id(member)
    with pytest.raises(EventError):
        async with runtime.database.unit_of_work() as work:
            await runtime.consent.restrict(work, member_id, on=True)
            await runtime.audit.record(work, caller(), "0812345678")
    assert (await crm.view(member)).status_code == 200


# --- what is in it --------------------------------------------------------------------


def rebuilt(body):
    """The event that a stored body speaks of."""
    from kernel import from_rfc3339

    told = {key: value for key, value in body.items() if key not in {"v", "nonce", "ts"}}
    told["actor"] = Actor(**told["actor"])
    if "subject" in told:
        told["subject"] = Subject(**told["subject"])
    told["fields"] = tuple(told.get("fields", ()))
    return AuditEvent(ts=from_rfc3339(body["ts"]), nonce=bytes.fromhex(body["nonce"]), **told)


async def live(world):
    """Do everything that leaves an event."""
    crm = await world.app()
    till = await world.app("till", "purpose:membership")
    member = await crm.register(
        {"phone": "081-234-5678", "email": "somying@example.com", "birth_date": "1990-05-12"},
        consents={"marketing": "sms"},
    )
    await crm.verify(member)
    base = f"/v1/members/{member.id}"
    await crm.view(member, "marketing", "sms")
    await crm.view(member, "analytics")
    await crm.view("sub_unknown")
    await crm.get(base, params={"purpose": "membership"})
    await crm.post("/v1/members:view", {"ids": [member.id, "sub_x"], "purpose": "membership"})
    await crm.post("/v1/decisions:check", {"id": member.id, "purpose": "profiling"})
    body = {"kind": "phone", "value": "081-234-5678", "region": "TH", "purpose": "membership"}
    await till.post("/v1/members:lookup", body)
    await till.post("/v1/members:lookup", body | {"purpose": "marketing"})
    await crm.post(f"{base}:introduce", {"to": till.id})
    await crm.post(f"{base}/contact-points", {"kind": "email", "value": "other@example.com"})
    await crm.patch(base, {"fields": {"given_name": "สมศรี"}})
    await crm.get("/v1/audit/events")
    await crm.post(f"{base}/consents", {"consents": [world.decision("analytics")]})
    await crm.withdraw(member)
    await till.patch(base, {"fields": {"given_name": "x"}})
    await world.runtime.clients.rotate(world.operator, till.id)
    await world.runtime.clients.revoke(world.operator, till.id)
    await world.erase(member)
    await crm.view(member)
    return member


async def test_every_event_of_a_life_fits_the_format_and_is_stored_as_it_is_hashed(
    world, monkeypatch
):
    monkeypatch.setattr("service.auth.clients.DRAIN_SECONDS", 0)
    member = await live(world)
    member_id = await world.member_id(member)
    rows = await world.fetch("SELECT * FROM audit_event")
    actions = set()
    for row in rows:
        raw = bytes(row["body"])
        body = json.loads(raw)
        event = rebuilt(body)
        check(event)
        assert canonical_bytes(event) == raw
        assert world.runtime.audit.row(event) == {**row, "body": raw}
        text = raw.decode()
        assert not [value for value in (*PERSONAL, "สมศรี", "other@example.com") if value in text]
        assert member_id not in text
        assert member.id not in text
        actions.add(body["action"])
    assert actions >= {
        "member.register",
        "member.view",
        "member.lookup",
        "member.introduce",
        "member.update",
        "member.erase",
        "contact_point.add",
        "contact_point.verify",
        "consent.given",
        "consent.withdrawn",
        "decision.check",
        "audit.search",
        "client.add",
        "client.rotate",
        "client.revoke",
        "policy.activate",
    }


async def test_no_two_events_share_a_nonce_and_ids_follow_time(world):
    crm = await world.app()
    member = await crm.register(phone="081-234-5678")
    for _ in range(30):
        await crm.view(member)
    bodies = await world.events()
    assert len({body["nonce"] for body in bodies}) == len(bodies)
    assert all(one["ts"] <= two["ts"] for one, two in pairwise(bodies))


# --- blocked --------------------------------------------------------------------------


async def test_while_the_trail_is_blocked_nothing_is_drafted_and_so_nothing_happens(world):
    crm = await world.app()
    member = await crm.register(phone="081-234-5678", consents={"marketing": "sms"})
    world.runtime.audit.block("audit_behind")
    for request in (
        crm.view(member),
        crm.view(member, "analytics"),
        crm.withdraw(member),
        crm.patch(f"/v1/members/{member.id}", {"fields": {"given_name": "x"}}),
    ):
        answer = await request
        assert (answer.status_code, answer.json()["reason"]) == (503, "audit_behind")
    with pytest.raises(UnavailableError):
        world.runtime.audit.draft(caller(), "test.event")
    world.runtime.audit.unblock()
    assert (await crm.view(member, "marketing", "sms")).status_code == 200


# --- found again ----------------------------------------------------------------------


async def readings(world, member_id, **details):
    async with world.runtime.database.read() as session:
        keys = await world.runtime.vault.keys_of(session, member_id)
        return await world.runtime.audit.disclosures(
            session, keys[PSEUDONYM], since_us=0, **details
        )


async def test_a_member_is_told_every_reading_of_theirs_and_of_nobody_else(world):
    crm = await world.app()
    hers, his = [await crm.register(phone=f"081-234-567{at}") for at in range(2)]
    for member in (hers, his, hers, hers):
        await crm.view(member)
    await crm.view(hers, "analytics")
    member_id = await world.member_id(hers)
    found = await readings(world, member_id)
    assert [event["decision"] for event in found] == ["deny", "allow", "allow", "allow"]
    assert [e["id"] for e in found] == sorted((e["id"] for e in found), reverse=True)
    pages, before = [], None
    while page := await readings(world, member_id, before=before, most=3):
        pages.append(len(page))
        before = page[-1]["id"]
    assert pages == [3, 1]


async def test_readings_of_other_months_are_found_though_no_token_is_the_same(settings):
    clock = JumpingClock()
    async with open_world(settings, clock=clock, background=False) as world:
        crm = await world.app()
        member = await crm.register(phone="081-234-5678")
        for _ in range(4):
            await crm.sign_in()
            await crm.view(member)
            clock.jump_us += 31 * DAY_US
        events = await world.events("member.view")
        assert len({event["subject"]["token"] for event in events}) == 4
        assert len({event["subject"]["epoch"] for event in events}) == 4
        assert len(await readings(world, await world.member_id(member))) == 4


async def test_an_event_is_found_by_its_id_and_an_unknown_one_is_not(world):
    crm = await world.app()
    member = await crm.register(phone="081-234-5678")
    audit_id = (await crm.view(member)).json()["audit_id"]
    async with world.runtime.database.read() as session:
        assert (await world.runtime.audit.event(session, audit_id))["id"] == audit_id
        assert await repository.leaf_index_of(session, "evt_unknown") is None
        with pytest.raises(NotFoundError):
            await world.runtime.audit.event(session, "evt_unknown")


async def test_a_search_of_the_trail_is_an_event_of_its_own_and_needs_the_scope(world):
    auditor = await world.app("auditor", "audit:read")
    till = await world.app("till", "purpose:membership")
    found = (await auditor.get("/v1/audit/events")).json()["events"]
    assert found[0]["action"] == "audit.search"
    assert found[0]["actor"]["id"] == auditor.id
    refused = await till.get("/v1/audit/events")
    assert refused.status_code == 403
    last = (await world.events())[-1]
    assert (last["action"], last["decision"]) == ("audit.read", "deny")
    assert last["id"] == refused.json()["audit_id"]


async def test_pages_of_the_trail_join_without_a_gap(world):
    auditor = await world.app("auditor", "audit:read")
    crm = await world.app()
    member = await crm.register(phone="081-234-5678")
    for _ in range(120):
        await crm.view(member)
    seen, cursor = [], None
    for _ in range(10):
        page = (
            await auditor.get("/v1/audit/events", params={"cursor": cursor} if cursor else {})
        ).json()
        seen += [event["id"] for event in page["events"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert cursor is None
    assert len(seen) == len(set(seen))
    stored = {event["id"] for event in await world.events() if event["action"] != "audit.search"}
    assert stored <= set(seen)
