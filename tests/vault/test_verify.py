"""Rows held against the trail: whoever writes to the database cannot put an older value back."""

import msgpack
import pytest

from kernel import new_id
from members import Reindex, Rows
from members.repository import propose_pair
from members.row_digest import recorded_digest
from service.commands import members_import
from service.vault_commands import vault_verify
from tests.support.stores import begin, create
from tests.support.world import DAY_US, EVERYTHING, JumpingClock, open_world, recorded

pytestmark = pytest.mark.anyio
ROW = "SELECT * FROM member WHERE id = :id"
PUT = (
    "UPDATE member SET cells = :cells, provenance = :provenance, version = :version WHERE id = :id"
)


def quiet(_done: int, _total: int) -> None:
    """No bar in a test."""


async def verified(world, after=""):
    return await vault_verify(world.runtime, quiet, after=after)


async def named(world) -> dict[str, str]:
    """Who deviates, and how."""
    answer = await verified(world)
    assert answer["log_ok"]
    assert answer["ok"] is not bool(answer["named"])
    assert answer["deviating"] == len(answer["named"])
    return {one["member"]: one["finding"] for one in answer["named"]}


async def stored(world, member_id):
    (row,) = await world.fetch(ROW, id=member_id)
    return {k: bytes(v) if isinstance(v, memoryview) else v for k, v in row.items()}


async def put(world, row, **changed):
    row = {**row, **changed}
    await world.execute(PUT, **{k: row[k] for k in ("id", "cells", "provenance", "version")})


async def insert(world, table, row):
    letters = dict(zip("abcdefghijklmnop", row.values(), strict=False))
    values = ", ".join(f":{letter}" for letter in letters)
    await world.execute(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({values})", **letters)


async def patched(crm, member, **fields):
    answer = await crm.patch(
        f"/v1/members/{member.id}",
        {"formats": {"phone_region": "TH"}, "fields": fields},
    )
    assert answer.status_code == 200, answer.text


async def changed_once(world, crm):
    """A member before and after a change: what a thief of yesterday's rows could put back."""
    member = await crm.register({"email": "old@example.com"})
    member_id = await world.member_id(member)
    before = await stored(world, member_id)
    await patched(crm, member, email="new@example.com")
    return member_id, before, await stored(world, member_id)


async def test_an_older_value_put_back_into_its_own_place_is_named(world):
    crm = await world.app()
    member_id, before, now = await changed_once(world, crm)
    bystander = await world.member_id(await crm.register(phone="081-555-0001"))
    assert await named(world) == {}
    old, cells = msgpack.unpackb(before["cells"]), msgpack.unpackb(now["cells"])
    await put(world, now, cells=msgpack.packb({**cells, "email": old["email"]}))
    assert await named(world) == {member_id: "changed"}
    answer = await verified(world)
    (event,) = await world.events("member.update")
    assert answer["named"][0]["event"] == event["id"]
    assert bystander not in {one["member"] for one in answer["named"]}


async def test_a_whole_row_put_back_with_its_version_is_named(world):
    crm = await world.app()
    member_id, before, _ = await changed_once(world, crm)
    await put(world, before)
    assert await named(world) == {member_id: "older_version"}


async def test_a_row_and_all_its_keys_rolled_back_together_are_named(world):
    crm = await world.app()
    member = await crm.register({"email": "old@example.com"})
    member_id = await world.member_id(member)
    row = await stored(world, member_id)
    keys = await world.fetch("SELECT * FROM vault_key WHERE owner_id = :id", id=member_id)
    await patched(crm, member, email="new@example.com")
    await world.execute("DELETE FROM vault_key WHERE owner_id = :id", id=member_id)
    for key in keys:
        await insert(world, "vault_key", key)
    await put(world, row)
    assert await named(world) == {member_id: "older_version"}


async def test_a_version_set_back_alone_is_named(world):
    crm = await world.app()
    member_id, before, now = await changed_once(world, crm)
    await put(world, now, version=before["version"])
    assert await named(world) == {member_id: "older_version"}


async def test_an_old_row_under_the_newest_version_is_named(world):
    crm = await world.app()
    member_id, before, now = await changed_once(world, crm)
    await put(world, before, version=now["version"])
    assert await named(world) == {member_id: "changed"}


async def test_a_version_that_the_trail_never_saw_is_named(world):
    crm = await world.app()
    member_id, _, now = await changed_once(world, crm)
    await put(world, now, version=now["version"] + 1)
    assert await named(world) == {member_id: "not_on_record"}


async def test_cells_swapped_removed_or_added_are_named(world):
    crm = await world.app()
    ids = []
    for at in range(3):
        member = await crm.register(
            {"given_name": "สมหญิง", "family_name": "ใจดี", "phone": f"081-555-000{at}"}
        )
        ids.append(await world.member_id(member))
    rows = [await stored(world, one) for one in ids]
    cells = [msgpack.unpackb(row["cells"]) for row in rows]
    swapped = {
        **cells[0],
        "given_name": cells[0]["family_name"],
        "family_name": cells[0]["given_name"],
    }
    removed = {field: cell for field, cell in cells[1].items() if field != "family_name"}
    added = {**cells[2], "note": cells[2]["given_name"]}
    for row, new in zip(rows, (swapped, removed, added), strict=True):
        await put(world, row, cells=msgpack.packb(new))
    assert await named(world) == dict.fromkeys(ids, "changed")


async def test_a_value_called_verified_behind_the_trail_is_named(world):
    crm = await world.app()
    member_id = await world.member_id(await crm.register({"email": "a@example.com"}))
    row = await stored(world, member_id)
    provenance = msgpack.unpackb(row["provenance"])
    source, collected, _, _ = provenance["email"]
    provenance["email"] = [source, collected, collected, "otp:cp_made_up"]
    await put(world, row, provenance=msgpack.packb(provenance))
    assert await named(world) == {member_id: "changed"}


async def test_a_member_moved_under_another_law_or_brand_is_named(world):
    crm = await world.app()
    ids = [await world.member_id(await crm.register(phone=f"081-555-000{at}")) for at in range(2)]
    await world.execute("UPDATE member SET jurisdiction = 'SG' WHERE id = :id", id=ids[0])
    await world.execute("UPDATE member SET brand = 'other' WHERE id = :id", id=ids[1])
    assert await named(world) == dict.fromkeys(ids, "changed")


async def test_a_row_taken_out_or_made_up_is_named(world):
    crm = await world.app()
    gone = await world.member_id(await crm.register(phone="081-555-0001"))
    row = await stored(world, gone)
    await world.execute("DELETE FROM member WHERE id = :id", id=gone)
    made_up = new_id("mem", world.runtime.clock.now_us())
    await insert(world, "member", {**row, "id": made_up})
    assert await named(world) == {gone: "row_gone", made_up: "key_gone"}


async def test_anothers_pseudonym_key_hides_nothing(world):
    crm = await world.app()
    first = await world.member_id(await crm.register(phone="081-555-0001"))
    second = await world.member_id(await crm.register(phone="081-555-0002"))
    (key,) = await world.fetch(
        "SELECT wrapped FROM vault_key WHERE owner_id = :id AND kind = 'pseudonym'", id=first
    )
    await world.execute(
        "UPDATE vault_key SET wrapped = :wrapped WHERE owner_id = :id AND kind = 'pseudonym'",
        wrapped=bytes(key["wrapped"]),
        id=second,
    )
    assert await named(world) == {second: "key_does_not_open"}


async def test_whoever_deletes_the_newest_event_too_is_caught_by_the_log(world):
    crm = await world.app()
    _, before, _ = await changed_once(world, crm)
    (event,) = await world.events("member.update")
    await world.runtime.sequencer.drain()
    await world.unguard("audit_event")
    await put(world, before)
    await world.execute("DELETE FROM audit_event WHERE id = :id", id=event["id"])
    answer = await verified(world)
    assert not answer["named"]
    assert not answer["log_ok"]
    assert not answer["ok"]


async def test_nobody_is_named_after_everything_that_may_change_a_row(settings):
    clock = JumpingClock()
    async with open_world(settings, clock=clock) as world:
        crm = await world.app("crm", *EVERYTHING, "duplicates:resolve")
        old = await crm.register(
            {"given_name": "สมหญิง", "family_name": "ใจดี", "phone": "081-234-5678"},
            consents={"marketing": "sms"},
        )
        await crm.verify(old)
        new = await crm.register(
            {"given_name": "สมหญิง", "phone": "089-111-2222", "email": "somying@example.com"}
        )
        added = await crm.post(
            f"/v1/members/{new.id}/contact-points",
            {"kind": "phone", "value": "089-333-4444", "region": "TH"},
        )
        assert added.status_code == 201, added.text
        await patched(crm, new, family_name="ใจดี")
        assert await named(world) == {}
        clock.jump_us += 45 * DAY_US  # the trail names them by other tokens now
        await crm.sign_in()
        await patched(crm, new, given_name="สมหมาย")
        ids = [await world.member_id(old), await world.member_id(new)]
        for undo in (True, False):
            await world.execute("DELETE FROM duplicate")
            pair, now_us = new_id("dup", clock.now_us()), clock.now_us()
            async with recorded(world.runtime.database) as work:
                await propose_pair(work, pair, "main", tuple(ids), 90, ["phone"], now_us=now_us)
            merged = await world.runtime.merges.merge(world.caller(crm), pair)
            assert await named(world) == {}
            if undo:
                await patched(crm, old, given_name="สมหมาย")
                await world.runtime.partings.undo(world.caller(crm), merged.merge_id)
                assert await named(world) == {}
        clock.jump_us += 400 * DAY_US
        assert await world.runtime.partings.settle_due(world.operator) == 1
        assert await named(world) == {}
        await crm.sign_in()
        erased = await crm.register(phone="081-555-0001")
        await world.erase(erased)
        assert await named(world) == {}


async def test_an_erased_member_without_a_key_is_skipped_and_counted(world):
    crm = await world.app()
    erased = await world.erase(await crm.register(phone="081-555-0001"))
    await crm.register(phone="081-555-0002")
    await world.execute("DELETE FROM vault_key WHERE owner_id = :id", id=erased)
    answer = await verified(world)
    assert answer["ok"]
    assert (answer["members"], answer["erased"]) == (2, 1)


async def test_a_member_whose_key_somebody_took_is_not_taken_for_erased(world):
    crm = await world.app()
    taken = await world.member_id(await crm.register(phone="081-555-0001"))
    await world.execute("DELETE FROM vault_key WHERE owner_id = :id", id=taken)
    assert await named(world) == {taken: "key_gone"}


async def test_events_tell_nothing_of_a_row_without_the_members_key(world):
    crm = await world.app()
    first = await crm.register({"email": "a@example.com"})
    await crm.register({"email": "b@example.com"})
    digests = [recorded_digest(one["after"]) for one in await world.events("member.register")]
    assert {version for version, _ in digests} == {1}
    assert len({digest for _, digest in digests}) == 2
    before = await stored(world, await world.member_id(first))
    assert not any(digest.encode() in before["cells"] for _, digest in digests)


async def test_verifying_goes_on_after_a_member_and_is_on_record(world):
    crm = await world.app()
    ids = [await world.member_id(await crm.register(phone=f"081-555-00{at:02}")) for at in range(3)]
    await world.execute("UPDATE member SET version = 9")
    answer = await verified(world, after=ids[0])
    assert [one["member"] for one in answer["named"]] == ids[1:]
    assert answer["members"] == 2
    (event,) = await world.events("vault.verify")
    assert (event["count"], event["outcome"]) == (2, "error")


async def test_rows_that_go_back_on_purpose_are_put_on_record_once(world):
    crm = await world.app()
    member_id, before, now = await changed_once(world, crm)
    await put(world, before)
    runtime = world.runtime
    rows = Rows(runtime.database, runtime.vault, runtime.audit, runtime.rights, runtime.clock)
    since_us = runtime.clock.now_us() - DAY_US
    assert await rows.settle(world.operator, since_us=since_us) == 1
    assert await named(world) == {}
    assert (await stored(world, member_id))["version"] == now["version"] + 1
    assert await rows.settle(world.operator, since_us=since_us) == 0


async def test_nobody_is_named_after_an_import_a_correction_and_a_reindex(world):
    crm = await world.app()
    file = world.settings.data_dir / "members.csv"
    file.write_text("given_name,phone\nสมหญิง,081-555-0001\nสมชาย,081-555-0002\n", "utf-8")
    runtime = world.runtime
    await members_import(
        runtime,
        quiet,
        path=str(file),
        brand="main",
        profile=None,
        region="TH",
        dates="iso",
        encoding=None,
        id_country=None,
        jurisdiction="TH",
        columns={},
        dry_run=False,
    )
    assert await world.events("member.import")
    await crm.register(phone="081-555-0003")
    await Reindex(
        runtime.database, runtime.pack, runtime.vault, runtime.audit, runtime.consent
    ).run(world.operator, quiet)
    answer = await verified(world)
    assert (answer["ok"], answer["members"]) == (True, 3)


async def test_nobody_is_named_after_a_restore_to_a_day_before_changes_and_erasures(
    sqlite_settings, folder_store, restore
):
    async with open_world(folder_store.used_by(sqlite_settings)) as world:
        crm = await world.app()
        changed, erased, same = [
            await crm.register({"email": f"{at}@example.com"}) for at in range(3)
        ]
        await begin(world, folder_store)
        await create(world)
        await patched(crm, changed, email="new@example.com")
        await world.erase(erased)
        ids = [await world.member_id(one) for one in (changed, same)]
        assert await named(world) == {}
    made, told = await restore(sqlite_settings, folder_store)
    assert told["went_back"] == 1  # erasing again leaves the row that the trail knows
    async with open_world(made) as world:
        assert await named(world) == {}
        assert (await stored(world, ids[0]))["version"] == 3
        assert (await stored(world, ids[1]))["version"] == 1
