"""Merging two records of one person: nothing is widened, nothing is lost, and it can be undone."""

import asyncio

import pytest

from consent import ConsentState, Status
from kernel import YinyomError, to_date
from members import MergeError, repository
from members.merge import parted
from members.repository import propose_pair
from tests.support.invariants import assert_sound
from tests.support.world import DAY_US, EVERYTHING, App, JumpingClock, open_world, recorded

pytestmark = pytest.mark.anyio
SCOPES = (*EVERYTHING, "duplicates:resolve")


async def client(world, name="crm") -> App:
    return await world.app(name, *SCOPES)


async def pair_of(world, one, other) -> str:
    ids = [await world.member_id(one), await world.member_id(other)]
    async with recorded(world.runtime.database) as work:
        from kernel import new_id

        pair = new_id("dup", world.runtime.clock.now_us())
        await propose_pair(
            work,
            pair,
            "main",
            tuple(ids),
            90,
            ["phone", "name"],
            now_us=world.runtime.clock.now_us(),
        )
    return pair


async def rows(world, member_id):
    """All that is stored of a member, except what a merge and its undoing must move on."""
    tables = {
        "vault_tag": "SELECT owner_id, field, kind, tag, index_version FROM vault_tag "
        "WHERE owner_id = :id ORDER BY kind, tag",
        "contact_point": "SELECT * FROM contact_point WHERE member_id = :id ORDER BY id",
        "pairwise_id": "SELECT * FROM pairwise_id WHERE member_id = :id ORDER BY id",
        "member": "SELECT cells, provenance FROM member WHERE id = :id",
        "state": "SELECT purpose, channel, status FROM consent_state WHERE member_id = :id "
        "ORDER BY purpose, channel",
        "gate": "SELECT state, age_tier FROM member_gate WHERE member_id = :id",
    }
    return {
        name: [
            {k: bytes(v) if isinstance(v, memoryview) else v for k, v in row.items()}
            for row in await world.fetch(sql, id=member_id)
        ]
        for name, sql in tables.items()
    }


async def two(world, crm, **more):
    """An older record with a verified phone, and a newer one of the same person."""
    old = await crm.register(
        {"given_name": "สมหญิง", "family_name": "ใจดี", "phone": "081-234-5678", **more},
        consents={"marketing": "sms"},
    )
    await crm.verify(old)
    new = await crm.register(
        {"given_name": "สมหญิง", "phone": "089-111-2222", "email": "somying@example.com"},
        consents={"marketing": "email"},
    )
    return old, new


async def test_a_merge_keeps_verified_values_and_brings_what_was_missing(world):
    crm = await client(world)
    old, new = await two(world, crm)
    answer = await crm.post(f"/v1/duplicates/{await pair_of(world, old, new)}:merge", {})
    assert answer.status_code == 200, answer.text
    assert answer.json()["id"] == old.id
    await crm.verify(new, "email")
    seen = (await crm.view(old, "membership")).json()
    assert seen["data"]["phone"] == "+66812345678"
    assert seen["data"]["family_name"] == "ใจดี"
    assert seen["data"]["email"] == "somying@example.com"
    await assert_sound(world)


async def test_both_ids_of_a_client_name_the_survivor_after_a_merge(world):
    crm = await client(world)
    till = await client(world, "till")
    old, new = await two(world, crm)
    answer = await crm.post(f"/v1/members/{new.id}:introduce", {"to": till.id})
    tills = answer.json()["id"]
    await crm.post(f"/v1/duplicates/{await pair_of(world, old, new)}:merge", {})
    for app, identifier in ((crm, old.id), (crm, new.id), (till, tills)):
        seen = await app.view(identifier, "membership")
        assert seen.json()["data"]["phone"] == "+66812345678"
    found = await till.post(
        "/v1/members:lookup",
        {"kind": "phone", "value": "0812345678", "region": "TH", "purpose": "membership"},
    )
    assert found.json()["id"] == tills


async def test_a_no_of_either_record_is_a_no_of_the_merged_one(world):
    crm = await client(world)
    old, new = await two(world, crm)
    await crm.withdraw(new, channel="sms")
    await crm.post(f"/v1/duplicates/{await pair_of(world, old, new)}:merge", {})
    denied = await crm.view(old, "marketing", "sms")
    assert (denied.status_code, denied.json()["reason"]) == (403, "consent_withdrawn")
    # What only the merged record allowed is not carried over.
    assert (await crm.view(old, "marketing", "email")).status_code == 403


async def test_an_objection_of_either_record_stands_and_covers_the_addresses_of_both(world):
    crm = await client(world)
    old, new = await two(world, crm)
    answer = await crm.post(f"/v1/members/{new.id}/objections", {"purpose": "marketing"})
    assert answer.status_code < 300, answer.text
    made = await crm.post(f"/v1/duplicates/{await pair_of(world, old, new)}:merge", {})
    assert made.status_code == 200, made.text
    denied = await crm.view(old, "marketing", "sms")
    assert (denied.status_code, denied.json()["reason"]) == (403, "objected")
    async with world.runtime.database.read() as session:
        kept_from = await world.runtime.consent.suppressions.of_member(
            session, await world.member_id(old)
        )
    assert {("marketing", "sms"), ("marketing", "email")} <= set(kept_from)
    answer = await crm.post(f"/v1/merges/{made.json()['merge_id']}:undo")
    assert answer.status_code == 200, answer.text
    assert (await crm.view(old, "marketing", "sms")).json()["reason"] == "objected"
    await assert_sound(world)


async def test_undoing_a_merge_brings_both_records_back_as_they_were(world):
    crm = await client(world)
    old, new = await two(world, crm, birth_date="1990-05-12")
    await crm.withdraw(new, channel="sms")
    ids = [await world.member_id(one) for one in (old, new)]
    before = [await rows(world, one) for one in ids]
    made = await crm.post(f"/v1/duplicates/{await pair_of(world, old, new)}:merge", {})
    answer = await crm.post(f"/v1/merges/{made.json()['merge_id']}:undo")
    assert answer.status_code == 200, answer.text
    assert answer.json()["members"] == [old.id, new.id]
    assert [await rows(world, one) for one in ids] == before
    again = await crm.post(f"/v1/merges/{made.json()['merge_id']}:undo")
    assert (again.status_code, again.json()["reason"]) == (409, "undone")
    await assert_sound(world)


async def test_what_was_changed_since_the_merge_stays_and_a_no_binds_both(world):
    crm = await client(world)
    old, new = await two(world, crm)
    made = await crm.post(f"/v1/duplicates/{await pair_of(world, old, new)}:merge", {})
    await crm.patch(f"/v1/members/{old.id}", {"fields": {"given_name": "สมใจ"}})
    await crm.withdraw(new, channel="email")
    await crm.post(f"/v1/members/{old.id}/consents", {"consents": [world.decision("profiling")]})
    await crm.post(f"/v1/merges/{made.json()['merge_id']}:undo")
    assert (await crm.view(old, "membership")).json()["data"]["given_name"] == "สมใจ"
    assert (await crm.view(new, "membership")).json()["data"]["given_name"] == "สมหญิง"
    denied = await crm.view(new, "marketing", "email")
    assert (denied.status_code, denied.json()["reason"]) == (403, "consent_withdrawn")
    denied = await crm.view(old, "profiling")
    assert (denied.status_code, denied.json()["reason"]) == (403, "consent_withdrawn")
    await assert_sound(world)


async def test_erasing_the_survivor_erases_who_was_merged_into_it(world):
    crm = await client(world)
    old, new = await two(world, crm)
    merged = await world.member_id(new)
    await crm.post(f"/v1/duplicates/{await pair_of(world, old, new)}:merge", {})
    await world.erase(old)
    kinds = await world.fetch("SELECT kind FROM vault_key WHERE owner_id = :id", id=merged)
    assert [row["kind"] for row in kinds] == ["pseudonym"]
    for table in ("member_merge", "duplicate", "vault_tag", "contact_point"):
        assert await world.fetch(f"SELECT * FROM {table}") == []
    await assert_sound(world)


async def test_a_merge_is_refused_where_a_member_is_restricted_or_the_pair_decided(world):
    crm = await client(world)
    old, new = await two(world, crm)
    pair = await pair_of(world, old, new)
    await world.restrict(new)
    answer = await crm.post(f"/v1/duplicates/{pair}:merge", {})
    assert (answer.status_code, answer.json()["reason"]) == (409, "restricted")
    await world.restrict(new, on=False)
    assert (await crm.post(f"/v1/duplicates/{pair}:dismiss")).status_code == 200
    answer = await crm.post(f"/v1/duplicates/{pair}:merge", {})
    assert (answer.status_code, answer.json()["reason"]) == (409, "decided")


async def test_a_decision_repeated_under_its_key_is_answered_and_done_once(world):
    crm = await client(world)
    old, new = await two(world, crm)
    pair = await pair_of(world, old, new)
    path, headers = f"/v1/duplicates/{pair}:merge", {"Idempotency-Key": "k1"}
    answers = [await crm.post(path, {"survivor": new.id}, headers=headers) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 200]
    assert answers[0].json() == answers[1].json()
    assert answers[1].headers["Idempotency-Replayed"] == "true"
    assert answers[0].json()["id"] == new.id
    path = f"/v1/merges/{answers[0].json()['merge_id']}:undo"
    answers = [await crm.post(path, headers=headers) for _ in range(2)]
    assert [answer.json()["members"] for answer in answers] == [[new.id, old.id]] * 2


async def test_another_brand_neither_sees_nor_merges_a_pair(world):
    crm = await client(world)
    old, new = await two(world, crm)
    pair = await pair_of(world, old, new)
    other = await world.app("other", *SCOPES, brand="other")
    assert (await other.get("/v1/duplicates")).json()["duplicates"] == []
    assert (await other.post(f"/v1/duplicates/{pair}:merge", {})).status_code == 404
    assert (await other.post(f"/v1/duplicates/{pair}:dismiss")).status_code == 404


async def test_of_two_merges_of_one_pair_at_once_one_happens(world):
    crm = await client(world)
    old, new = await two(world, crm)
    pair = await pair_of(world, old, new)
    answers = await asyncio.gather(
        *(crm.post(f"/v1/duplicates/{pair}:merge", {}) for _ in range(4))
    )
    assert sorted(answer.status_code for answer in answers) == [200, 409, 409, 409]
    assert len(await world.fetch("SELECT id FROM member_merge")) == 1
    await assert_sound(world)


async def test_a_withdrawal_beside_a_merge_is_never_lost(world):
    crm = await client(world)
    old, new = await two(world, crm)
    pair = await pair_of(world, old, new)
    merged, withdrawn = await asyncio.gather(
        crm.post(f"/v1/duplicates/{pair}:merge", {}), crm.withdraw(new, channel="sms")
    )
    assert (merged.status_code, withdrawn.status_code) == (200, 200)
    assert (await crm.view(old, "marketing", "sms")).status_code == 403
    await assert_sound(world)


async def test_a_withdrawal_that_a_merge_overtakes_reaches_the_other_member(world):
    if not world.settings.on_postgres:
        pytest.skip("SQLite has one writer; nothing comes between")
    crm = await client(world)
    old, new = await two(world, crm)
    pair = await pair_of(world, old, new)
    resolve, merged = world.runtime.members.resolve, []

    async def resolve_and_be_overtaken(session, pairwise, caller):
        found = await resolve(session, pairwise, caller)
        if not merged:
            merged.append(None)
            merged.append(await crm.post(f"/v1/duplicates/{pair}:merge", {}))
        return found

    world.runtime.members.resolve = resolve_and_be_overtaken
    withdrawn = await crm.withdraw(new, channel="sms")
    assert (merged[1].status_code, withdrawn.status_code) == (200, 200)
    assert (await crm.view(old, "marketing", "sms")).status_code == 403


async def test_a_withdrawal_between_looking_and_writing_is_seen_by_the_merge(world):
    crm = await client(world)
    old, new = await two(world, crm)
    pair = await pair_of(world, old, new)
    look, looks = world.runtime.merges._look, []

    async def look_and_be_overtaken(*asked):
        seen = await look(*asked)
        looks.append(seen)
        if len(looks) == 1:
            assert (await crm.withdraw(new, channel="sms")).status_code == 200
        return seen

    world.runtime.merges._look = look_and_be_overtaken
    assert (await crm.post(f"/v1/duplicates/{pair}:merge", {})).status_code == 200
    assert len(looks) == 2
    denied = await crm.view(old, "marketing", "sms")
    assert (denied.status_code, denied.json()["reason"]) == (403, "consent_withdrawn")


async def test_an_erasure_beside_a_merge_leaves_one_whole_story(world):
    crm = await client(world)
    old, new = await two(world, crm)
    pair = await pair_of(world, old, new)

    async def erase():
        try:
            return await world.erase(new)
        except YinyomError:
            return None

    merged, erased = await asyncio.gather(crm.post(f"/v1/duplicates/{pair}:merge", {}), erase())
    assert merged.status_code in {200, 404, 409}
    assert merged.status_code == 200 or erased is not None
    await assert_sound(world)


async def test_after_its_days_a_merge_stands_for_good_and_keeps_no_way_back(settings):
    clock = JumpingClock()
    async with open_world(settings, clock=clock, background=False) as world:
        crm = await client(world)
        old, new = await two(world, crm)
        made = await crm.post(f"/v1/duplicates/{await pair_of(world, old, new)}:merge", {})
        clock.jump_us = 31 * DAY_US
        with pytest.raises(MergeError):
            await world.runtime.duplicates.undo(world.caller(crm), made.json()["merge_id"])
        assert await world.runtime.partings.settle_due(world.operator) == 1
        (row,) = await world.fetch("SELECT * FROM member_merge")
        assert (row["state"], row["survivor_cell"], row["merged_cell"]) == ("settled", None, None)
        assert await world.runtime.partings.settle_due(world.operator) == 0


async def test_a_corrected_birth_date_keeps_its_age_tier_when_the_merge_is_undone(world):
    crm = await client(world)
    old, new = await two(world, crm, birth_date="1990-05-12")
    made = await crm.post(f"/v1/duplicates/{await pair_of(world, old, new)}:merge", {})
    child = f"{to_date(world.runtime.clock.now_us()).year - 8}-01-05"
    changed = await crm.patch(f"/v1/members/{old.id}", {"fields": {"birth_date": child}})
    assert changed.status_code == 200, changed.text
    answer = await crm.post(f"/v1/merges/{made.json()['merge_id']}:undo")
    assert answer.status_code == 200, answer.text
    (gate,) = await world.fetch(
        "SELECT age_tier FROM member_gate WHERE member_id = :id", id=await world.member_id(old)
    )
    assert gate["age_tier"] == "guardian_only"


async def test_a_contact_that_was_removed_since_the_merge_does_not_come_back(world):
    crm = await client(world)
    old, new = await two(world, crm)
    second = await crm.post(
        f"/v1/members/{old.id}/contact-points",
        {"kind": "phone", "value": "086-555-4444", "region": "TH"},
    )
    assert second.status_code == 201, second.text
    made = await crm.post(f"/v1/duplicates/{await pair_of(world, old, new)}:merge", {})
    points = world.runtime.members.contact_points
    member_id = await world.member_id(old)
    async with world.runtime.database.unit_of_work() as work:
        (point,) = [p for p in await points.points_of(work, member_id) if p.field == "phone.2"]
        await points.remove(
            work, world.operator, member_id, point.id, now_us=world.runtime.clock.now_us()
        )
    answer = await crm.post(f"/v1/merges/{made.json()['merge_id']}:undo")
    assert answer.status_code == 200, answer.text
    async with world.runtime.database.read() as session:
        row = await world.runtime.members.read(session, member_id)
        held = await points.points_of(session, member_id)
    assert "phone.2" not in row.cells
    assert "phone.2" not in row.provenance
    assert [point.field for point in held] == ["phone"]


async def test_an_objection_said_since_the_merge_covers_the_addresses_of_both_after_it(world):
    crm = await client(world)
    old, new = await two(world, crm)
    made = await crm.post(f"/v1/duplicates/{await pair_of(world, old, new)}:merge", {})
    assert (
        await crm.post(f"/v1/members/{old.id}/objections", {"purpose": "marketing"})
    ).status_code < 300
    assert (await crm.post(f"/v1/merges/{made.json()['merge_id']}:undo")).status_code == 200
    # 089-111-2222 was the merged record's own and is nowhere else.
    again = await crm.register({"given_name": "สมหญิง", "phone": "089-111-2222"})
    assert (await crm.view(again, "marketing", "sms")).json()["reason"] == "objected"


def test_undoing_a_merge_gives_back_no_yes_of_a_guardian():
    def state(status, event, guardian=None):
        return ConsentState("marketing", "sms", status, event, "rev", 1, guardian)

    narrowed_by_merge = [state(Status.WITHDRAWN, "con_2")]
    theirs = [state(Status.WITHDRAWN, "con_3")]
    own = parted([state(Status.GIVEN, "con_1")], frozenset({"con_2"}), narrowed_by_merge, theirs)
    led = parted(
        [state(Status.GIVEN, "con_1", "grd_1")], frozenset({"con_2"}), narrowed_by_merge, theirs
    )
    assert [one.status for one in own.survivor] == [Status.GIVEN]
    assert led.survivor == ()


@pytest.mark.postgres
async def test_a_merge_undone_beside_its_settling_loses_no_field(postgres_settings):
    clock = JumpingClock()
    async with open_world(postgres_settings, clock=clock, background=False) as world:
        crm = await client(world)
        old, new = await two(world, crm)
        made = await crm.post(f"/v1/duplicates/{await pair_of(world, old, new)}:merge", {})
        find = repository.merges_to_settle

        async def overtaken(work, *, now_us, most):
            due = await find(work, now_us=now_us, most=most)
            clock.jump_us = 0
            await world.runtime.duplicates.undo(world.caller(crm), made.json()["merge_id"])
            return due

        clock.jump_us = 31 * DAY_US
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(repository, "merges_to_settle", overtaken)
            await world.runtime.partings.settle_due(world.operator)
        (kept,) = (await rows(world, await world.member_id(new)))["member"]
        assert b"given_name" in kept["cells"]
        (row,) = await world.fetch("SELECT state FROM member_merge")
    assert row["state"] == "undone"
