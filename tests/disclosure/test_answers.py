"""What reads answer: one event for each decision, the same face for all that is unknown."""

import asyncio
import contextlib
import json
import sqlite3

import pytest

from kernel import new_id
from policies import mask
from tests.support.world import open_world, registration

pytestmark = pytest.mark.anyio

FULL = {
    "given_name": "สมหญิง",
    "family_name": "ใจดีมาก",
    "card_no": "Y-204-881",
    "phone": "+66812345678",
    "email": "somying.jaidee@example.com",
    "address": "99/1 ถนนสุขุมวิท แขวงคลองเตย กรุงเทพฯ",
    "postcode": "10110",
    "national_id": "1101700230708",
    "birth_date": "1992-03-12",
    "gender": "female",
    "language": "th",
    "notes": "แพ้กุ้ง โทรหลังหกโมงเย็น",
}
NOBODY = "sub_" + "0" * 26


@pytest.fixture
async def crm(world):
    return await world.app()


@pytest.fixture
async def member(crm):
    known = await crm.register(FULL, consents={"marketing": "sms"})
    await crm.verify(known, "phone")
    await crm.verify(known, "email")
    return known


def face(answer):
    """An answer without what must differ from one to the next."""
    return answer.status_code, {
        key: value for key, value in answer.json().items() if key not in {"audit_id", "request_id"}
    }


def of_reads(events):
    return [e for e in events if e["action"] in {"member.view", "decision.check"}]


# --- unknown --------------------------------------------------------------------------

READS = {
    "view": lambda app, sub: app.view(sub),
    "masked": lambda app, sub: app.get(f"/v1/members/{sub}", params={"purpose": "membership"}),
    "check": lambda app, sub: app.post("/v1/decisions:check", {"id": sub, "purpose": "membership"}),
}
OTHERS = {
    "consents": lambda app, sub: app.get(f"/v1/members/{sub}/consents"),
    "disclosures": lambda app, sub: app.get(f"/v1/members/{sub}/disclosures"),
    "withdraw": lambda app, sub: app.withdraw(sub),
    "update": lambda app, sub: app.patch(f"/v1/members/{sub}", {"fields": {"given_name": "ก้อย"}}),
    "introduce": lambda app, sub: app.post(f"/v1/members/{sub}:introduce", {"to": app.id}),
    "add": lambda app, sub: app.post(
        f"/v1/members/{sub}/contact-points", {"kind": "email", "value": "x@example.com"}
    ),
}


@pytest.mark.parametrize("way", READS)
async def test_an_unknown_member_is_a_404_and_exactly_one_event(world, crm, way):
    before = len(await world.events())
    answer = await READS[way](crm, NOBODY)
    assert answer.status_code == 404
    events = await world.events()
    assert len(events) == before + 1
    last = events[-1]
    assert last["id"] == answer.json()["audit_id"]
    assert (last["decision"], last["reason"]) == ("deny", "member_unknown")
    assert "subject" not in last


@pytest.mark.parametrize("sub", ["sub_x", "mem_" + "0" * 26, "x" * 40, "ก", "sub_'--"])
async def test_an_id_that_is_none_is_just_as_unknown(world, crm, sub):
    answer = await crm.view(sub)
    assert answer.status_code == 404
    assert sub not in answer.text
    assert len(of_reads(await world.events())) == 1


@pytest.mark.parametrize("way", READS | OTHERS)
async def test_erased_of_another_brand_and_unknown_look_the_same(world, crm, way):
    ask = (READS | OTHERS)[way]
    erased = await crm.register(phone="081-111-1111")
    await world.erase(erased)
    elsewhere = await crm.register(phone="082-222-2222")
    member_id = await world.member_id(elsewhere)
    await world.execute("UPDATE member SET brand = 'other' WHERE id = :id", id=member_id)
    another_clients = await (await world.app("till")).register(phone="083-333-3333")
    faces = [
        face(await ask(crm, sub)) for sub in (NOBODY, erased.id, elsewhere.id, another_clients.id)
    ]
    for got in faces:
        assert got == faces[0]
    assert faces[0][0] == 404
    assert faces[0][1]["type"].endswith("/member-unknown")


async def test_in_a_batch_they_look_the_same_too(world, crm, member):
    erased = await crm.register(phone="081-111-1111")
    await world.erase(erased)
    body = {"ids": [NOBODY, erased.id, "sub_x"], "purpose": "membership"}
    results = (await crm.post("/v1/members:view", body)).json()["results"]
    assert {result["denied"] for result in results} == {"member_unknown"}
    assert all(result.keys() == {"id", "denied", "audit_id"} for result in results)


async def test_the_trail_knows_what_the_answer_does_not_tell(world, crm):
    erased = await crm.register(phone="081-111-1111")
    await world.erase(erased)
    await crm.view(erased)
    assert (await world.events("member.view"))[-1]["reason"] == "member_erased"


# --- one event for each decision ------------------------------------------------------


async def test_each_read_leaves_exactly_one_event_that_says_what_left(world, crm, member):
    await world.rest()
    till = await world.app("till", "purpose:membership")
    tills = (await crm.post(f"/v1/members/{member.id}:introduce", {"to": till.id})).json()["id"]
    reads = [
        (crm.view(member, "marketing", "sms"), "allow", ["given_name", "language", "phone"]),
        (crm.view(member, "marketing", "sms", fields="birth_date"), "allow", []),
        (crm.view(member, "marketing", "email"), "deny", []),
        (crm.view(member, "analytics"), "deny", []),
        (till.view(tills, "marketing", "sms"), "deny", []),
        (
            crm.get(
                f"/v1/members/{member.id}", params={"purpose": "membership", "fields": "phone"}
            ),
            "allow",
            ["phone"],
        ),
        (
            crm.post(
                "/v1/decisions:check",
                {"id": member.id, "purpose": "marketing", "channel": "sms", "fields": ["phone"]},
            ),
            "allow",
            ["phone"],
        ),
        (crm.post("/v1/decisions:check", {"id": member.id, "purpose": "analytics"}), "deny", []),
    ]
    for read, decision, fields in reads:
        before = len(await world.events())
        answer = await read
        events = await world.events()
        assert len(events) == before + 1
        assert events[-1]["id"] == answer.json()["audit_id"]
        assert (events[-1]["decision"], events[-1].get("fields", [])) == (decision, fields)
        assert "subject" in events[-1]


async def test_a_request_that_is_faulty_is_no_decision_and_leaves_none(world, crm, member):
    await world.rest()
    before = len(await world.events())
    for query in (
        {},
        {"purpose": ""},
        {"purpose": "astrology"},
        {"purpose": "marketing"},
        {"purpose": "marketing", "channel": "pigeon"},
        {"purpose": "membership", "channel": "sms"},
        {"purpose": "membership", "fields": ""},
        {"purpose": "membership", "fields": "given_name,shoe_size"},
        {"purpose": "membership", "fields": ",".join(["phone"] * 101)},
        {"purpose": "membership", "surprise": "1"},
    ):
        answer = await crm.get(f"/v1/members/{member.id}/view", params=query)
        assert answer.status_code == 422, query
        assert "shoe_size" not in answer.text
        assert "pigeon" not in answer.text
        assert "astrology" not in answer.text
    assert len(await world.events()) == before


async def test_who_read_a_member_is_told_with_purpose_and_fields(world, crm, member):
    await crm.view(member, "marketing", "sms", fields="given_name")
    await crm.view(member, "analytics")
    answer = (await crm.get(f"/v1/members/{member.id}/disclosures")).json()
    assert [(d["decision"], d["purpose"], d["fields"]) for d in answer["disclosures"]] == [
        ("deny", "analytics", []),
        ("allow", "marketing", ["given_name"]),
    ]


async def test_a_restricted_member_is_a_423_until_the_restriction_ends(world, crm, member):
    await world.restrict(member)
    answer = await crm.view(member, "marketing", "sms")
    assert (answer.status_code, answer.json()["reason"]) == (423, "member_restricted")
    look_up = {"kind": "phone", "value": "081-234-5678", "region": "TH", "purpose": "membership"}
    assert (await crm.post("/v1/members:lookup", look_up)).status_code == 404
    await world.restrict(member, on=False)
    assert (await crm.view(member, "marketing", "sms")).status_code == 200


# --- batch ----------------------------------------------------------------------------


async def test_a_batch_answers_each_by_itself_and_leaves_one_event_each(world, crm, member):
    silent = await crm.register(given_name="สมศรี", phone="081-111-1111")
    gone = await crm.register(phone="082-222-2222")
    await world.erase(gone)
    limited = await crm.register(phone="083-333-3333", consents={"marketing": "sms"})
    await world.restrict(limited)
    ids = [member.id, NOBODY, silent.id, gone.id, limited.id, member.id]
    before = len(await world.events())
    body = {"ids": ids, "purpose": "marketing", "channel": "sms", "fields": ["phone", "gender"]}
    answer = await crm.post("/v1/members:view", body)
    assert answer.status_code == 200
    results = answer.json()["results"]
    assert [result["id"] for result in results] == ids[:5]
    assert [result.get("denied") for result in results] == [
        None,
        "member_unknown",
        "consent_not_given",
        "member_unknown",
        "member_restricted",
    ]
    assert results[0] == {
        "id": member.id,
        "purpose": "marketing",
        "channel": "sms",
        "data": {"phone": "+66812345678"},
        "omitted": {"gender": "not_in_purpose"},
        "basis": results[0]["basis"],
        "audit_id": results[0]["audit_id"],
    }
    events = await world.events()
    assert len(events) == before + 5
    assert {e["id"] for e in events[before:]} == {result["audit_id"] for result in results}


@pytest.mark.parametrize("count", [0, 101, 1000])
async def test_a_batch_is_of_1_to_100_members(world, crm, count):
    body = {"ids": [f"sub_{at}" for at in range(count)], "purpose": "membership"}
    answer = await crm.post("/v1/members:view", body)
    assert answer.status_code == 422
    assert of_reads(await world.events()) == []


async def test_a_batch_of_100_is_answered_whole(world, crm):
    members = [
        (await crm.register(given_name=f"คน{at}", phone=f"081-000-{at:04}")).id for at in range(100)
    ]
    body = {"ids": members, "purpose": "membership", "fields": ["given_name"]}
    results = (await crm.post("/v1/members:view", body)).json()["results"]
    assert [r["data"]["given_name"] for r in results] == [f"คน{at}" for at in range(100)]
    assert len(of_reads(await world.events())) == 100


# --- masked ---------------------------------------------------------------------------


async def test_an_outline_never_shows_a_value(world, crm, member):
    answer = await crm.get(f"/v1/members/{member.id}", params={"purpose": "membership"})
    assert answer.status_code == 200
    shown = answer.json()["data"]
    assert shown.keys() == FULL.keys() - {"notes"}
    pack = world.runtime.pack
    for key, outline in shown.items():
        assert outline == mask(pack.fields[key].mask, FULL[key])
        assert outline != FULL[key]
        assert len(FULL[key]) <= 2 or FULL[key] not in answer.text
    assert "5678" in shown["phone"]
    assert "812345678" not in answer.text


async def test_an_outline_is_decided_and_recorded_like_a_read(world, crm, member):
    await crm.withdraw(member, channel="sms")
    answer = await crm.get(
        f"/v1/members/{member.id}", params={"purpose": "marketing", "channel": "sms"}
    )
    assert (answer.status_code, answer.json()["reason"]) == (403, "consent_withdrawn")


# --- no audit, no answer --------------------------------------------------------------


async def refuse_events(world):
    """Make the trail's table refuse every insert."""
    if world.settings.on_postgres:
        await world.execute(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE EXCEPTION 'no'; END $$; "
            "CREATE TRIGGER refuse BEFORE INSERT ON audit_event EXECUTE FUNCTION refuse()"
        )
    else:
        await world.execute(
            "CREATE TRIGGER refuse BEFORE INSERT ON audit_event "
            "BEGIN SELECT RAISE(ABORT, 'no'); END"
        )


async def refuse_by_constraint(world):
    if world.settings.on_postgres:
        await world.execute("ALTER TABLE audit_event ADD CONSTRAINT never CHECK (false) NOT VALID")
    else:
        await refuse_events(world)


async def rename_the_table(world):
    await world.execute("ALTER TABLE audit_event RENAME TO audit_event_away")


async def fill_the_disk(world):
    if world.settings.on_postgres:
        pytest.skip("a full disk is planted on SQLite; PostgreSQL has a table that refuses")
    writer = world.runtime.database._writer
    while writer.in_transaction:  # noqa: ASYNC110 (the worker may be at its first round)
        await asyncio.sleep(0)
    writer.execute("VACUUM")
    pages = writer.execute("PRAGMA page_count").fetchone()[0]
    writer.execute(f"PRAGMA max_page_count = {pages}")
    for size in (2_000, 400, 50, 1):  # use up what is free inside the file
        with contextlib.suppress(sqlite3.OperationalError):
            for _ in range(10_000):
                writer.execute(
                    "INSERT INTO audit_event (id, recorded_us, actor, action, body) "
                    "VALUES (?, 1, 'a', 'filler', ?)",
                    (new_id("evt"), b"x" * size),
                )


FAILURES = (refuse_events, refuse_by_constraint, rename_the_table, fill_the_disk)


@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: failure.__name__)
async def test_when_the_trail_fails_nothing_leaves_and_nothing_changes(world, crm, member, failure):
    await world.runtime.sequencer.stop()
    tables = ("member", "member_gate", "consent_event", "consent_state", "contact_point")
    before = [await world.fetch(f"SELECT * FROM {table} ORDER BY 1") for table in tables]
    await failure(world)
    look_up = {"kind": "phone", "value": "081-234-5678", "region": "TH", "purpose": "membership"}
    batch = {"ids": [member.id], "purpose": "marketing", "channel": "sms"}
    asked = {
        "view": crm.view(member, "marketing", "sms"),
        "masked": crm.get(f"/v1/members/{member.id}", params={"purpose": "membership"}),
        "batch": crm.post("/v1/members:view", batch),
        "check": crm.post("/v1/decisions:check", {"id": member.id, "purpose": "membership"}),
        "lookup": crm.post("/v1/members:lookup", look_up),
        "unknown": crm.view(NOBODY),
        "withdraw": crm.withdraw(member, channel="sms"),
        "update": crm.patch(f"/v1/members/{member.id}", {"fields": {"given_name": "สมศรี"}}),
        "register": crm.post("/v1/members", registration({"given_name": "อีกคน"})),
    }
    for way, request in asked.items():
        answer = await request
        assert answer.status_code == 503, (way, answer.text)
        assert answer.headers["content-type"] == "application/problem+json"
        said = json.dumps(answer.json(), ensure_ascii=False)
        assert [value for value in FULL.values() if len(value) > 2 and value in said] == []
        assert "data" not in answer.json()
    for table, rows in zip(tables, before, strict=True):
        assert await world.fetch(f"SELECT * FROM {table} ORDER BY 1") == rows


async def test_a_full_disk_that_has_room_again_is_written_to_again(sqlite_settings):
    async with open_world(sqlite_settings) as world:
        crm = await world.app()
        member = await crm.register(FULL, consents={"marketing": "sms"})
        await world.runtime.sequencer.stop()
        await fill_the_disk(world)
        assert (await crm.view(member, "marketing", "sms")).status_code == 503
        world.runtime.database._writer.execute("PRAGMA max_page_count = 1000000")
        assert (await crm.view(member, "marketing", "sms")).status_code == 200
        await world.runtime.sequencer.drain()
        assert await world.fetch("SELECT * FROM audit_pending") == []
