"""One event for many members: everybody finds it, nobody is in it unallowed, nothing parts them."""

import csv
import io
import json
import zipfile
from base64 import b64decode

import asyncpg
import pytest

from audit import (
    AuditLog,
    EventFilter,
    Shown,
    check_document,
    draft_bulk,
    export_log,
    is_seen_by,
    record_bulk,
    verify_stored_log,
)
from audit.errors import EventError
from audit.manifest import check_row
from audit.search_repository import _fitting
from audit.verify import verify_bundle
from kernel import NotFoundError, UnavailableError
from service.audit_commands import audit_evidence, audit_prove
from service.trail_views import trail_views
from tests.audit.test_views import plan_of
from tests.disclosure.test_audience import AUDIENCES, export, in_hundreds, some_members  # noqa: F401
from vault import PSEUDONYM, OwnerKey

pytestmark = pytest.mark.anyio


def strangers(number, fields=("phone",)):
    """Members that stand in no table; enough for a row."""
    return [
        Shown(f"mem_{at}", OwnerKey(f"mem_{at}", PSEUDONYM, 1, at.to_bytes(32)), fields)
        for at in range(number)
    ]


async def told(world, shown, action="audience.export", **details):
    details = {"purpose": "marketing", "channel": "sms"} | details
    bulks = draft_bulk(world.runtime.audit, world.operator, action, shown, **details)
    async with world.runtime.database.unit_of_work() as work:
        for bulk in bulks:
            await record_bulk(world.runtime.audit, work, bulk)
    return bulks


async def manifests(world):
    return [event for event in await world.events("audience.export") if "manifest" in event]


async def test_an_export_is_one_event_and_every_member_finds_it_with_their_own_fields(world):
    crm = await world.app("crm", *AUDIENCES, "audit:read")
    members = await some_members(crm, 4, verified=2)
    *lines, last = await export(crm)
    assert last["count"] == len(lines) == 4
    (event,) = await manifests(world)
    assert (event["count"], event["manifest"]["rows"]) == (4, 4)
    assert event["fields"] == ["given_name", "phone"]
    assert event["legal_basis"] == "consent"
    assert "subject" not in event
    shown = {line["id"]: sorted(line["data"]) for line in lines}
    for member in members:
        path = f"/v1/members/{member.id}/disclosures"
        (reading,) = (await crm.get(path)).json()["disclosures"]
        assert reading["audit_id"] == event["id"]
        assert sorted(reading["fields"]) == shown[member.id]
        found = (await crm.get(f"/v1/audit/events?member={member.id}")).json()["events"]
        (one,) = [each for each in found if each["id"] == event["id"]]
        assert one["row"]["fields"] == shown[member.id]
        narrowed = await crm.get(f"/v1/audit/events?member={member.id}&field=phone")
        assert (event["id"] in {each["id"] for each in narrowed.json()["events"]}) == (
            "phone" in shown[member.id]
        )


async def test_a_member_who_was_not_in_it_does_not_find_it(world):
    crm = await world.app("crm", *AUDIENCES, "audit:read")
    await some_members(crm, 1)
    other = await crm.register(phone="082-345-6789")
    await export(crm)
    assert (await crm.get(f"/v1/members/{other.id}/disclosures")).json()["disclosures"] == []


async def test_no_id_of_a_member_is_in_rows_or_index(world):
    crm = await world.app("crm", *AUDIENCES)
    members = await some_members(crm, 3)
    await export(crm)
    stored = await world.fetch("SELECT * FROM audit_manifest")
    index = await world.fetch("SELECT * FROM audit_manifest_token ORDER BY place")
    said = b"".join(bytes(row["rows"]) for row in stored).decode() + str(index)
    for member in members:
        assert member.id not in said
        assert await world.member_id(member) not in said
    assert [row["token"] for row in index] == sorted(row["token"] for row in index)


async def test_whoever_is_refused_is_in_no_row_and_has_an_event_of_their_own(world):
    crm = await world.app("crm", *AUDIENCES)
    members = await some_members(crm, 3)
    ids = [member.id for member in members]
    await world.restrict(members[2])
    runtime = world.runtime
    question = runtime.disclosure.question("marketing", "sms", None)
    lines = await runtime.disclosure.disclose_many(
        world.caller(crm),
        ids,
        question,
        runtime.gatekeeper.epochs(),
        action="audience.export",
        resource="export:exp_01k9z6m3q8x7v5t2r4n6p8s0w1",
    )
    assert [line["id"] for line in lines] == ids[:2]
    told = await world.events("audience.export")
    assert sorted(one["decision"] for one in told) == ["allow", "deny"]
    (refused,) = [one for one in told if one["decision"] == "deny"]
    assert (refused["reason"], "subject" in refused) == ("member_restricted", True)


async def test_a_ticket_opens_the_fields_of_its_own_row_only(world):
    first, second = strangers(2)
    (bulk,) = await told(world, [first, second._replace(fields=("email", "phone"))])
    assert bulk.event.fields == ("email", "phone")
    assert bulk.ticket("mem_0").fields == {"phone"}
    assert bulk.ticket("mem_1").fields == {"email", "phone"}
    with pytest.raises(EventError):
        bulk.ticket("mem_2")
    with pytest.raises(EventError):
        draft_bulk(world.runtime.audit, world.operator, "audience.export", [first, first])


async def test_more_than_a_thousand_are_told_in_as_few_events_as_hold_them(world):
    bulks = await told(world, strangers(2_100))
    assert [bulk.event.count for bulk in bulks] == [1_000, 1_000, 100]
    assert {len(bulk.allowed) for bulk in bulks} == {1_000, 100}


async def test_the_rows_commit_with_their_event_or_not_at_all(world):
    (bulk,) = draft_bulk(world.runtime.audit, world.operator, "audience.export", strangers(3))
    with pytest.raises(RuntimeError):
        async with world.runtime.database.unit_of_work() as work:
            await record_bulk(world.runtime.audit, work, bulk)
            raise RuntimeError
    for table in ("audit_event", "audit_manifest", "audit_manifest_token"):
        column = "id" if table == "audit_event" else "event_id"
        assert not await world.fetch(
            f"SELECT 1 FROM {table} WHERE {column} = :event", event=bulk.event.id
        )
    async with world.runtime.database.unit_of_work() as work:
        await record_bulk(world.runtime.audit, work, bulk)
    (stored,) = await world.fetch("SELECT rows FROM audit_manifest")
    index = await world.fetch("SELECT token FROM audit_manifest_token ORDER BY place")
    assert (bytes(stored["rows"]), len(index)) == (bulk.rows, 3)
    world.runtime.audit.block("audit_lag")
    with pytest.raises(UnavailableError):
        draft_bulk(world.runtime.audit, world.operator, "audience.export", strangers(3))
    world.runtime.audit.unblock()


async def test_a_member_among_many_counts_for_the_view_of_many_members_a_day(world):
    views = trail_views(world.runtime.settings)
    await told(world, strangers(world.runtime.settings.audit.members_a_day + 1))
    async with world.runtime.database.read() as session:
        found = await world.runtime.audit.search(session, EventFilter(view=views["many-members"]))
        bulk = await world.runtime.audit.search(session, EventFilter(view=views["bulk"]))
    assert [event["actor"]["id"] for event in found.events] == [world.operator.id]
    assert len(bulk.events) >= 1


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE audit_manifest SET width = 1",
        "DELETE FROM audit_manifest",
        "UPDATE audit_manifest_token SET place = 9",
        "DELETE FROM audit_manifest_token",
        "INSERT INTO audit_manifest_token SELECT 'ab', event_id, 0 FROM audit_manifest",
        "INSERT INTO audit_manifest SELECT id, 1, body FROM audit_event WHERE action = 'test.event'",
    ],
)
async def test_rows_are_added_with_their_event_and_never_changed(world, change):
    await told(world, strangers(2))
    async with world.runtime.database.unit_of_work() as work:
        await world.runtime.audit.record(work, world.operator, "test.event")
    await world.runtime.sequencer.drain()
    with pytest.raises(Exception, match=r"append-only|same transaction"):
        await world.execute(change)


async def test_replacing_is_refused_as_well(world):
    if world.settings.on_postgres:
        with pytest.raises(asyncpg.PostgresError, match="append-only"):
            await world.execute("TRUNCATE audit_manifest, audit_manifest_token")
        return
    await told(world, strangers(2))
    for table in ("audit_manifest", "audit_manifest_token"):
        with pytest.raises(Exception, match="append-only"):
            await world.execute(f"INSERT OR REPLACE INTO {table} SELECT * FROM {table}")


async def test_the_log_verifies_with_its_rows_and_a_misleading_index_is_found(world, tmp_path):
    runtime = world.runtime
    (bulk,) = await told(world, strangers(300))
    await runtime.sequencer.drain()
    await export_log(runtime.database, tmp_path / "log")
    assert verify_bundle(tmp_path / "log", runtime.audit.vkey).ok
    report, misleading = await verify_stored_log(runtime.database, runtime.audit)
    assert (report.ok, misleading) == (True, [])
    await world.unguard("audit_manifest_token")
    await world.execute("UPDATE audit_manifest_token SET place = 0 WHERE place = 7")
    report, misleading = await verify_stored_log(runtime.database, runtime.audit)
    assert report.ok
    assert [finding.code for finding in misleading] == ["columns"]
    assert bulk.event.id in str(misleading[0])


async def test_an_index_that_lies_shows_a_member_nothing(world):
    (bulk,) = await told(world, strangers(3))
    liar = strangers(4)[3].pseudonym
    audit: AuditLog = world.runtime.audit
    (token, *_) = reversed(audit.tokens(liar, since_us=bulk.event.ts))
    await world.unguard("audit_manifest_token")
    await world.execute(
        "INSERT INTO audit_manifest_token VALUES (:token, :event, 1)",
        token=token,
        event=bulk.event.id,
    )
    async with world.runtime.database.read() as session:
        assert await audit.disclosures(session, liar, since_us=bulk.event.ts) == []


async def test_the_planner_goes_to_the_events_of_a_row_by_index(world):
    for _ in range(3):
        await told(world, strangers(1_000))
    if world.settings.on_postgres:
        await world.execute("ANALYZE audit_event")
        await world.execute("ANALYZE audit_manifest_token")
    statement = _fitting(frozenset(), of_subject=True, of_actions=False)
    asked = {f"subject_{at}": "" for at in range(60)}
    plan = await plan_of(world, statement, before="evt_~", oldest="", most=51, **asked)
    named = "pk_audit_manifest_token" if world.settings.on_postgres else "USING PRIMARY KEY"
    assert named in plan, plan
    assert "Seq Scan on audit_manifest_token" not in plan, plan


async def test_a_row_is_proven_over_the_api_and_at_the_command_line(world):
    crm = await world.app("crm", *AUDIENCES, "audit:read")
    member, _ = await some_members(crm, 2)
    stranger = await crm.register(phone="082-345-6789")
    await export(crm)
    runtime = world.runtime
    await runtime.sequencer.drain()
    (event,) = await manifests(world)
    found = (await crm.get(f"/v1/audit/events?member={member.id}")).json()["events"]
    (own,) = [one["row"] for one in found if one["id"] == event["id"]]
    path = f"/v1/audit/events/{event['id']}/proof"
    document = (await crm.get(f"{path}?row={own['token']}")).json()
    proven, _ = check_document(document, runtime.audit.vkey)
    assert proven["row"] == own
    mem = await world.member_id(member)
    told = await audit_prove(runtime, lambda *_: None, event=event["id"], member=mem)
    assert told["row"] == document["row"]
    (asked, *_) = reversed(await world.events("audit.prove"))
    assert asked["subject"]["token"] == own["token"]
    assert "row" not in (await crm.get(path)).json()
    for token in ("0" * 32, "x"):
        assert (await crm.get(f"{path}?row={token}")).status_code in {404, 422}
    with pytest.raises(NotFoundError):
        nobody = await world.member_id(stranger)
        await audit_prove(runtime, lambda *_: None, event=event["id"], member=nobody)


async def test_a_pack_about_a_member_holds_their_row_and_no_other(world, tmp_path):
    crm = await world.app("crm", *AUDIENCES)
    member, *_ = await some_members(crm, 3)
    await export(crm)
    (event,) = await manifests(world)
    index = await world.fetch("SELECT token FROM audit_manifest_token")

    async def pack(**chosen):
        out = tmp_path / f"pack-{len(chosen)}.zip"
        await audit_evidence(world.runtime, lambda *_: None, out=str(out), **chosen)
        with zipfile.ZipFile(out) as archive:
            return {name: archive.read(name) for name in archive.namelist()}

    files = await pack(member=await world.member_id(member))
    (name,) = [name for name in files if name.startswith("rows/")]
    said = json.loads(files[name])
    stored = json.loads(files[name.replace("rows", "events")])
    assert stored["id"] == event["id"]
    row = check_row(stored, said["row"].encode(), said["place"], [*map(b64decode, said["hashes"])])
    everything = b"".join(files.values()).decode("utf-8", "replace")
    assert [one["token"] for one in index if one["token"] in everything] == [row.token]
    lines = csv.DictReader(io.StringIO(files["events.csv"].decode()))
    (line,) = [line for line in lines if line["id"] == event["id"]]
    assert (line["subject"], line["fields"]) == (row.token, " ".join(row.fields))
    assert not [name for name in await pack() if name.startswith("rows/")]


def test_an_event_of_many_members_is_not_everybodys_business():
    body = {"action": "audience.export", "manifest": {"rows": 3, "root": "ab" * 32}}
    assert not is_seen_by(body, "main")
    assert is_seen_by(body | {"brand": "main"}, "main")
    assert is_seen_by(body, None)
