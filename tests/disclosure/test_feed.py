"""The change feed and the suppression list: every change once, to those whom it concerns only."""

import asyncio

import pytest

from disclosure.feed_repository import note
from disclosure.happening import Happening
from kernel import new_id, put_message
from tests.support.world import EVERYTHING, JumpingClock, open_world

pytestmark = pytest.mark.anyio

FEEDS = (*EVERYTHING, "changes:read", "suppressions:read")
CANARY = "canary-value-7f3a"


async def settled(world):
    await world.runtime.courier.deliver()


async def changes(app, cursor=None, **query):
    query |= {"cursor": cursor} if cursor else {}
    answer = await app.get("/v1/changes", params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def suppressions(app, purpose="marketing", channel="sms", **query):
    answer = await app.get(
        "/v1/suppressions", params={"purpose": purpose, "channel": channel, **query}
    )
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_another_clients_members_never_appear(world):
    crm = await world.app("crm", *FEEDS)
    other = await world.app("other", *FEEDS)
    await crm.register(consents={"marketing": "sms"})
    await settled(world)
    assert (await changes(crm))["changes"] != []
    assert (await changes(other))["changes"] == []
    assert (await suppressions(other))["suppressions"] == []


async def test_a_cursor_of_another_client_or_of_nobody_is_refused(world):
    crm = await world.app("crm", *FEEDS)
    other = await world.app("other", *FEEDS)
    await crm.register(consents={"marketing": "sms"})
    await settled(world)
    cursor = (await changes(crm))["next_cursor"]
    for forged in (cursor, cursor[:-1], "A" * 32, "", "é", "0", cursor[:-4] + "AAAA"):
        refused = await other.get("/v1/changes", params={"cursor": forged})
        assert refused.status_code == 422, forged
    changed = "A" if cursor[5] != "A" else "B"
    refused = await crm.get("/v1/changes", params={"cursor": cursor[:5] + changed + cursor[6:]})
    assert refused.status_code == 422


async def test_a_change_of_a_purpose_that_the_client_does_not_read_for_is_not_told(world):
    crm = await world.app("crm", *FEEDS)
    sender = await world.app("sender", "changes:read", "purpose:marketing")
    member = await crm.register(consents={"marketing": "sms", "profiling": None})
    await crm.post(f"/v1/members/{member.id}:introduce", {"to": sender.id})
    await settled(world)
    told = (await changes(sender))["changes"]
    assert [(one["type"], one["purpose"]) for one in told] == [("consent.given", "marketing")]
    assert {one["purpose"] for one in (await changes(crm))["changes"]} == {"marketing", "profiling"}


async def test_no_scope_no_feed_and_the_refusal_is_on_record(world):
    till = await world.app("till", "purpose:marketing")
    assert (await till.get("/v1/changes")).status_code == 403
    query = {"purpose": "marketing", "channel": "sms"}
    assert (await till.get("/v1/suppressions", params=query)).status_code == 403
    narrow = await world.app("narrow", "suppressions:read", "purpose:membership")
    assert (await narrow.get("/v1/suppressions", params=query)).status_code == 403
    denied = [event for event in await world.events() if event.get("decision") == "deny"]
    assert [event["action"] for event in denied] == [
        "change.read",
        "suppression.read",
        "suppression.read",
    ]


async def test_the_feed_tells_thinly_what_happened_and_goes_on_where_it_stopped(world):
    crm = await world.app("crm", *FEEDS)
    member = await crm.register(given_name=CANARY, consents={"marketing": "sms"})
    await settled(world)
    first = await changes(crm)
    assert [one["type"] for one in first["changes"]] == ["consent.given"]
    assert (await changes(crm, first["next_cursor"])) == {
        "changes": [],
        "next_cursor": first["next_cursor"],
    }
    await crm.withdraw(member, channel="sms")
    await world.erase(member)
    await settled(world)
    second = await changes(crm, first["next_cursor"])
    assert [(one["type"], one["id"]) for one in second["changes"]] == [
        ("consent.withdrawn", member.id),
        ("member.erased", member.id),
    ]
    assert set(second["changes"][0]) == {"cursor", "id", "type", "at", "purpose", "channel"}
    assert second["changes"][0]["channel"] == "sms"
    one_by_one = []
    cursor = None
    while (page := await changes(crm, cursor, limit=1))["changes"]:
        one_by_one += page["changes"]
        cursor = page["next_cursor"]
    assert one_by_one == first["changes"] + second["changes"]
    rows = await world.fetch("SELECT * FROM change")
    assert CANARY not in repr(rows)


async def test_a_cursor_survives_a_restart(settings):
    async with open_world(settings) as world:
        crm = await world.app("crm", *FEEDS)
        member = await crm.register(consents={"marketing": "sms"})
        await settled(world)
        cursor = (await changes(crm))["next_cursor"]
    async with open_world(settings) as world:
        again = crm.through(world)
        assert (await changes(again, cursor))["next_cursor"] == cursor
        await again.withdraw(member, channel="sms")
        await settled(world)
        assert [c["type"] for c in (await changes(again, cursor))["changes"]] == [
            "consent.withdrawn"
        ]


async def test_a_message_that_is_told_twice_is_one_change(world):
    async with world.runtime.database.unit_of_work() as work:
        for _ in range(2):
            await note(
                work,
                Happening("msg_once", "member.erased", new_id("mem"), None, None, 1),
                now_us=world.runtime.clock.now_us(),
            )
    assert len(await world.fetch("SELECT position FROM change")) == 1


async def test_no_reader_can_pass_a_position_whose_change_has_not_committed(postgres_settings):
    """Two couriers at once: the later position waits until the earlier one is there to be read."""
    async with (
        open_world(postgres_settings, background=False) as world,
        open_world(postgres_settings, background=False) as second,
    ):
        drawn, go_on = asyncio.Event(), asyncio.Event()

        async def noting(which, message, hold=None):
            async with which.runtime.database.unit_of_work() as work:
                happened = Happening(message, "member.erased", new_id("mem"), None, None, 1)
                await note(work, happened, now_us=1)
                if hold is not None:
                    drawn.set()
                    await hold.wait()

        slow = asyncio.create_task(noting(world, "msg_slow", go_on))
        await drawn.wait()
        quick = asyncio.create_task(noting(second, "msg_quick"))
        await world.until_waiting_for_a_lock()
        assert await world.fetch("SELECT position FROM change") == []
        go_on.set()
        await asyncio.gather(slow, quick)
        rows = await world.fetch("SELECT message_id FROM change ORDER BY position")
        assert [row["message_id"] for row in rows] == ["msg_slow", "msg_quick"]


async def test_changes_go_when_the_pseudonym_would_and_an_older_cursor_is_told_so(settings):
    clock = JumpingClock()
    async with open_world(settings, clock=clock) as world:
        crm = await world.app("crm", *FEEDS)
        member = await crm.register(consents={"marketing": "sms"})
        await settled(world)
        start = (await changes(crm))["next_cursor"]
        await crm.withdraw(member, channel="sms")
        await settled(world)
        end = (await changes(crm))["next_cursor"]
        clock.jump_us = 400 * 86_400_000_000
        await world.runtime.feed.sweep()
        assert await world.fetch("SELECT position FROM change") == []
        await crm.sign_in()
        expired = await crm.get("/v1/changes", params={"cursor": start})
        assert expired.status_code == 410
        assert expired.json()["reason"] == "cursor_expired"
        assert (await changes(crm, end))["changes"] == []


async def test_a_cursor_from_after_the_moment_that_a_restore_went_back_to_is_told_so(world):
    crm = await world.app("crm", *FEEDS)
    await crm.register(consents={"marketing": "sms", "profiling": None})
    await settled(world)
    cursor = (await changes(crm))["next_cursor"]
    await world.execute("DELETE FROM change WHERE position > 1")
    await world.execute("UPDATE change_head SET position = 1")
    assert (await crm.get("/v1/changes", params={"cursor": cursor})).status_code == 410


async def test_a_message_about_nobody_or_about_a_lost_event_stops_no_courier(world):
    crm = await world.app("crm", *FEEDS)
    member = await crm.register()
    member_id = await world.member_id(member)
    async with world.runtime.database.unit_of_work() as work:
        now_us = world.runtime.clock.now_us()
        lost = {"member_id": member_id, "event_id": new_id("con")}
        await put_message(work, "consent.withdrawn", lost, now_us=now_us)
        nobody = {"request_id": new_id("rr"), "member_id": None, "state": "received"}
        await put_message(work, "rights_request.updated", nobody, now_us=now_us)
        later_us = now_us + 1_000
        await put_message(work, "member.erased", {"member_id": member_id}, now_us=later_us)
    await settled(world)
    assert [(c["type"], c["purpose"]) for c in (await changes(crm))["changes"]] == [
        ("consent.withdrawn", None),
        ("member.erased", None),
    ]


# --- suppressions ---------------------------------------------------------------------


async def test_everybody_whom_a_purpose_may_not_reach_is_listed_with_the_reason(world):
    crm = await world.app("crm", *FEEDS)
    allowed = await crm.register(consents={"marketing": "sms"})
    silent = await crm.register()
    by_mail = await crm.register(consents={"marketing": "email"}, email="a@example.org")
    withdrawn = await crm.register(consents={"marketing": "sms"})
    await crm.withdraw(withdrawn, channel="sms")
    refusing = await crm.register()
    answer = await crm.post(
        f"/v1/members/{refusing.id}/consents",
        {"consents": [world.decision("marketing", "sms", "refused")]},
    )
    assert answer.status_code == 201
    restricted = await crm.register(consents={"marketing": "sms"})
    await world.restrict(restricted)
    erased = await crm.register(consents={"marketing": "sms"})
    await world.erase(erased)
    listed = {one["id"]: one["reason"] for one in (await suppressions(crm))["suppressions"]}
    assert listed == {
        silent.id: "not_given",
        by_mail.id: "not_given",
        withdrawn.id: "withdrawn",
        refusing.id: "refused",
        restricted.id: "restricted",
        erased.id: "erased",
    }
    assert allowed.id not in listed
    pages = []
    cursor = {}
    while True:
        page = await suppressions(crm, limit=2, **cursor)
        pages += page["suppressions"]
        if page["next_cursor"] is None:
            break
        cursor = {"cursor": page["next_cursor"]}
    assert {one["id"]: one["reason"] for one in pages} == listed
    assert len(pages) == len(listed)


async def test_looking_at_suppressions_is_an_event_that_names_nobody_in_its_body(world):
    crm = await world.app("crm", *FEEDS)
    await crm.register()
    await suppressions(crm)
    (event,) = await world.events("suppression.read")
    assert event["count"] == 1
    assert "subject" not in event
