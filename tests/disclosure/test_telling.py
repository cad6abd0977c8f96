"""What a feed tells of a member stands in the member's trail: whole, proven, and before it leaves."""

import json
import zipfile

import pytest

from audit import check_document, export_log, verify_stored_log
from audit.verify import verify_bundle
from disclosure import FEED_TYPES, told_words
from disclosure.telling import _PREFIXES
from service.audit_commands import audit_evidence, audit_prove
from tests.disclosure.test_feed import FEEDS, changes, settled, suppressions

pytestmark = pytest.mark.anyio


async def pages(world, action):
    return [one for one in await world.events(action) if "manifest" in one]


async def readings(app, member, action=None):
    answer = await app.get(f"/v1/members/{member.id}/disclosures")
    assert answer.status_code == 200, answer.text
    return [one for one in answer.json()["disclosures"] if action in {None, one["action"]}]


async def written(world):
    """How much the trail has grown to, in events and in rows."""
    return [
        (await world.fetch(f"SELECT count(*) AS many FROM {table}"))[0]["many"]
        for table in ("audit_event", "audit_manifest", "audit_manifest_token")
    ]


# --- what must not be -----------------------------------------------------------------


async def test_a_poll_that_finds_nothing_writes_nothing(world):
    crm = await world.app("crm", *FEEDS)
    await crm.register(consents={"marketing": "sms"})
    await settled(world)
    cursor = (await changes(crm))["next_cursor"]
    before = await written(world)
    for _ in range(3):
        assert (await changes(crm, cursor))["changes"] == []
    assert await written(world) == before


async def test_a_list_with_nobody_on_it_is_an_event_without_rows(world):
    crm = await world.app("crm", *FEEDS)
    await crm.register(consents={"marketing": "sms"})
    assert (await suppressions(crm))["suppressions"] == []
    (event,) = await world.events("suppression.read")
    assert (event["count"], "manifest" in event) == (0, False)
    assert await world.fetch("SELECT * FROM audit_manifest") == []


@pytest.mark.parametrize("path", ["/v1/changes", "/v1/suppressions?purpose=marketing&channel=sms"])
async def test_no_page_leaves_that_is_not_on_record(world, path):
    crm = await world.app("crm", *FEEDS)
    member = await crm.register()
    await crm.withdraw(member, channel="sms")
    await settled(world)
    world.runtime.audit.block("audit_lag")
    refused = await crm.get(path)
    world.runtime.audit.unblock()
    assert refused.status_code == 503
    assert member.id not in refused.text
    assert await pages(world, "change.read") == []
    assert await pages(world, "suppression.read") == []
    assert member.id in (await crm.get(path)).text


async def test_whoever_was_not_told_of_does_not_find_the_page(world):
    crm = await world.app("crm", *FEEDS)
    told = await crm.register(consents={"marketing": "sms"})
    silent = await crm.register()
    await settled(world)
    await changes(crm)
    assert [one["told"] for one in await readings(crm, told)] == [["consent.given"]]
    assert await readings(crm, silent) == []
    await suppressions(crm)
    assert [one["told"] for one in await readings(crm, silent)] == [["not_given"]]
    assert len(await readings(crm, told)) == 1


async def test_no_id_of_a_member_is_in_what_a_page_leaves(world):
    crm = await world.app("crm", *FEEDS)
    members = [await crm.register() for _ in range(3)]
    await suppressions(crm)
    stored = await world.fetch("SELECT * FROM audit_manifest")
    index = await world.fetch("SELECT * FROM audit_manifest_token")
    said = str(await pages(world, "suppression.read")) + str(index)
    said += b"".join(bytes(one["rows"]) for one in stored).decode()
    assert len(index) == 3
    for member in members:
        assert member.id not in said
        assert await world.member_id(member) not in said


# --- what is --------------------------------------------------------------------------


async def test_a_page_of_changes_is_an_event_a_purpose_and_each_member_finds_what_was_told(world):
    crm = await world.app("crm", *FEEDS)
    both = await crm.register(consents={"marketing": "sms", "profiling": None})
    one = await crm.register(consents={"marketing": "sms"})
    await crm.withdraw(one, channel="sms")
    await world.erase(await crm.register())
    await settled(world)
    page = (await changes(crm))["changes"]
    told = {
        event.get("purpose"): (event["manifest"]["rows"], event["fields"])
        for event in await pages(world, "change.read")
    }
    assert told == {
        "marketing": (2, ["change.consent.given", "change.consent.withdrawn"]),
        "profiling": (1, ["change.consent.given"]),
        None: (1, ["change.member.erased"]),
    }
    for member in (both, one):
        found = await readings(crm, member, "change.read")
        assert {(each["purpose"], word) for each in found for word in each["told"]} == {
            (each["purpose"], each["type"]) for each in page if each["id"] == member.id
        }
        for each in found:
            assert (each["fields"], each["decision"], each["by"]["id"]) == ([], "allow", crm.id)


async def test_a_page_of_suppressions_tells_each_member_the_reason_that_was_told(world):
    crm = await world.app("crm", *FEEDS)
    silent = await crm.register()
    withdrawn = await crm.register(consents={"marketing": "sms"})
    await crm.withdraw(withdrawn, channel="sms")
    restricted = await crm.register(consents={"marketing": "sms"})
    await world.restrict(restricted)
    listed = {one["id"]: one["reason"] for one in (await suppressions(crm))["suppressions"]}
    (event,) = await pages(world, "suppression.read")
    assert (event["purpose"], event["channel"], event["count"]) == ("marketing", "sms", 3)
    for member in (silent, withdrawn, restricted):
        (one,) = await readings(crm, member)
        assert one["told"] == [listed[member.id]]
        assert (one["audit_id"], one["purpose"], one["channel"]) == (
            event["id"],
            "marketing",
            "sms",
        )


async def test_pages_are_told_page_by_page_and_nobody_is_left_out(world):
    crm = await world.app("crm", *FEEDS)
    members = [await crm.register() for _ in range(5)]
    cursor = {}
    while cursor is not None:
        page = await suppressions(crm, limit=2, **cursor)
        cursor = page["next_cursor"] and {"cursor": page["next_cursor"]}
    assert [one["count"] for one in await pages(world, "suppression.read")] == [2, 2, 1]
    for member in members:
        assert len(await readings(crm, member)) == 1


async def test_a_member_with_two_ids_is_one_row(world):
    crm = await world.app("crm", *FEEDS)
    member = await crm.register()
    again = await crm.register()
    await world.execute(
        "UPDATE pairwise_id SET made_for = member_id, member_id = :member WHERE id = :id",
        member=await world.member_id(member),
        id=again.id,
    )
    assert len((await suppressions(crm))["suppressions"]) == 2
    (event,) = await pages(world, "suppression.read")
    assert event["count"] == 1


async def test_an_erased_member_is_a_row_and_one_whose_key_is_lost_is_only_counted(world):
    """A restore brings back who was erased since, without their keys: no token is left of them."""
    crm = await world.app("crm", *FEEDS)
    erased = await crm.register()
    await crm.register()
    await world.erase(erased)
    await suppressions(crm)
    (event,) = await pages(world, "suppression.read")
    assert event["fields"] == ["suppression.erased", "suppression.not_given"]
    await world.unguard("vault_key")
    await world.execute(
        "DELETE FROM vault_key WHERE owner_id = :owner", owner=await world.member_id(erased)
    )
    assert len((await suppressions(crm))["suppressions"]) == 2
    later = [one for one in await world.events("suppression.read") if one != event]
    assert sorted(("manifest" in one, one["count"]) for one in later) == [(False, 1), (True, 1)]
    assert {*(one.get("fields", ("",))[0] for one in later)} == {"", "suppression.not_given"}


async def test_a_row_of_a_page_is_proven_by_api_command_line_and_pack(world, tmp_path):
    crm = await world.app("crm", *FEEDS)
    member = await crm.register()
    await crm.register()
    await suppressions(crm)
    runtime = world.runtime
    await runtime.sequencer.drain()
    (event,) = await pages(world, "suppression.read")
    found = (await crm.get(f"/v1/audit/events?member={member.id}")).json()["events"]
    (own,) = [one["row"] for one in found if one["id"] == event["id"]]
    path = f"/v1/audit/events/{event['id']}/proof?row={own['token']}"
    document = (await crm.get(path)).json()
    proven, _ = check_document(document, runtime.audit.vkey)
    assert proven["row"] == own
    mem = await world.member_id(member)
    told = await audit_prove(runtime, lambda *_: None, event=event["id"], member=mem)
    assert told["row"] == document["row"]
    out = tmp_path / "pack.zip"
    await audit_evidence(runtime, lambda *_: None, out=str(out), member=mem)
    with zipfile.ZipFile(out) as archive:
        (name,) = [name for name in archive.namelist() if name.startswith("rows/")]
        assert json.loads(archive.read(name))["row"] == document["row"]["row"]
    await export_log(runtime.database, tmp_path / "log")
    assert verify_bundle(tmp_path / "log", runtime.audit.vkey).ok
    report, misleading = await verify_stored_log(runtime.database, runtime.audit)
    assert (report.ok, misleading) == (True, [])


def test_every_kind_of_change_is_a_word_of_the_trail_and_comes_back_as_the_feed_says_it():
    from audit.event import is_word

    for kind in FEED_TYPES:
        word = _PREFIXES["change.read"] + kind
        assert is_word(word)
        assert told_words("change.read", [word]) == [kind]
    assert told_words("member.view", ["phone"]) == []
