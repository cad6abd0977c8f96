"""Searching by a piece of a name, over HTTP and a real search process, on both engines."""

import asyncio
import json
import os
import signal
from pathlib import Path

import pytest

from disclosure import NameRecord
from kernel import MemberId, new_id
from service.search.client import SearchClient
from service.settings import SearchSettings
from tests.support.searching import (
    found,
    memory_of,
    search,
    searching,
    until_found,
    until_held,
    until_warm,
    written,
)
from tests.support.world import EVERYTHING, open_world

pytestmark = pytest.mark.anyio

SCOPES = (*EVERYTHING, "members:search", "audiences:query", "audiences:export")
PLANTED = "พลานเตดไม่มีใครเหมือน"


def reason(answer):
    return answer.json()["reason"]


# --- refusals -------------------------------------------------------------------------


async def test_while_no_process_holds_names_nothing_is_found_and_nobody_is_told_of(world):
    crm = await world.app("crm", *SCOPES)
    await crm.register(given_name="สมหญิง")
    answer = await search(crm, "สมหญิง")
    assert answer.status_code == 503
    assert reason(answer) == "search_cold"
    assert answer.headers["Retry-After"]
    assert await world.events("member.search") == []
    assert await world.events("member.view") == []


async def test_it_can_be_switched_off(settings):
    off = settings.model_copy(update={"search": SearchSettings(enabled=False)})
    async with open_world(off) as world:
        crm = await world.app("crm", *SCOPES)
        await crm.register(given_name="สมหญิง")
        world.runtime.search_keeper.start()
        answer = await search(crm, "สมหญิง")
        assert answer.status_code == 503
        assert reason(answer) == "search_off"
        assert not (settings.data_dir / "search.sock").exists()
        assert await world.events("search.warm") == []


async def test_whoever_may_not_search_finds_nobody(world):
    crm = await world.app("crm", *SCOPES)
    await crm.register(given_name="สมหญิง")
    plain = await world.app("plain")
    narrow = await world.app("narrow", "members:search", "purpose:analytics", "purpose:marketing")
    async with searching(world):
        without_scope = await search(plain, "สมหญิง")
        assert without_scope.status_code == 403
        without_purpose = await search(narrow, "สมหญิง")
        assert (without_purpose.status_code, reason(without_purpose)) == (403, "scope_missing")
        nameless = await search(narrow, "สมหญิง", "analytics")
        assert (nameless.status_code, reason(nameless)) == (403, "not_in_purpose")
    refused = await world.events("member.search")
    assert [event["decision"] for event in refused] == ["deny", "deny", "deny"]
    assert await world.events("member.view") == []


@pytest.mark.parametrize(
    "name",
    ["", " ", "ก", "x", "\u200b\u200b", "a b c", "x" * 10_000, "aa bb cc dd ee ff", "a\x00b"],
)
async def test_a_name_that_says_too_little_or_too_much_is_refused_and_not_repeated(world, name):
    crm = await world.app("crm", *SCOPES)
    answer = await search(crm, name)
    assert answer.status_code == 422
    assert len(name) < 4 or json.dumps(name)[1:-1] not in answer.text


@pytest.mark.parametrize(
    "name",
    [
        "\ufeff\u202e\u2066abc",
        "ก\u0e47" * 40,
        "\U00023456\U00023456",
        "''; --",
        "{{7*7}}",
        "%00%01",
        "ﷺﷺ",
        "🙂🙂",
    ],
)
async def test_hostile_letters_find_nobody_and_break_nothing(sqlite_settings, name):
    async with open_world(sqlite_settings) as world:
        crm = await world.app("crm", *SCOPES)
        member = await crm.register(given_name="สมหญิง")
        async with searching(world):
            answer = await search(crm, name)
            assert answer.status_code == 200
            assert answer.json()["results"] == []
            assert await found(crm, "สมหญิง") == [member.id]


async def test_an_unknown_purpose_and_a_missing_channel_are_refused(world):
    crm = await world.app("crm", *SCOPES)
    assert (await search(crm, "สมหญิง", "nothing")).status_code == 422
    assert (await search(crm, "สมหญิง", "marketing")).status_code == 422


async def test_a_client_may_search_so_often_within_the_hour(sqlite_settings):
    few = sqlite_settings.model_copy(update={"search": SearchSettings(queries_per_hour=2)})
    async with open_world(few) as world:
        crm, other = await world.app("crm", *SCOPES), await world.app("other", *SCOPES)
        async with searching(world):
            assert [(await search(crm, "สม")).status_code for _ in range(3)] == [200, 200, 429]
            assert (await search(other, "สม")).status_code == 200


# --- who is found ---------------------------------------------------------------------


async def test_a_hit_is_what_view_would_show_and_on_record_like_it(world):
    crm = await world.app("crm", *SCOPES)
    member = await crm.register(given_name="สมหญิง", family_name="ใจดี")
    async with searching(world):
        answer = (await search(crm, "มหญ", fields=["family_name"])).json()
    (hit,) = answer["results"]
    assert hit["id"] == member.id
    assert hit["data"] == {"family_name": "ใจดี", "given_name": "สมหญิง"}
    (viewed,) = await world.events("member.view")
    assert viewed["id"] == hit["audit_id"]
    assert viewed["fields"] == ["family_name", "given_name"]
    (searched,) = await world.events("member.search")
    assert searched["id"] == answer["audit_id"]
    assert searched["count"] == 1
    assert searched["purpose"] == "membership"
    assert "subject" not in searched


async def test_names_are_opened_under_one_event_with_a_purpose(world):
    crm = await world.app("crm", *SCOPES)
    for at in range(5):
        await crm.register(given_name=f"สมหญิง{at}", phone=f"081-234-567{at}")
    async with searching(world):
        await world.runtime.search_keeper.walk()
    (warmed,) = await world.events("search.warm")
    assert warmed["purpose"] == "member_search"
    assert warmed["decision"] == "allow"
    assert set(warmed["fields"]) == {"birth_date", "family_name", "given_name"}
    assert "subject" not in warmed


async def test_restricted_erased_and_other_brands_members_are_not_held(world):
    crm = await world.app("crm", *SCOPES)
    shop = await world.app("shop", *SCOPES, brand="shop")
    stays = await crm.register(given_name="สมหญิง", phone="081-234-5670")
    restricted = await crm.register(given_name="สมหญิง", phone="081-234-5671")
    erased = await crm.register(given_name="สมหญิง", phone="081-234-5672")
    other = await shop.register(given_name="สมหญิง", phone="081-234-5673", brand="shop")
    await world.restrict(restricted)
    await world.erase(erased)
    async with searching(world):
        await until_held(world, 2)
        assert await found(crm, "สมหญิง") == [stays.id]
        assert await found(shop, "สมหญิง") == [other.id]


async def test_a_hit_that_may_not_be_told_of_leaves_no_gap_and_no_id(world):
    crm = await world.app("crm", *SCOPES)
    sender = await world.app("sender", "members:search", "purpose:marketing")
    await crm.register(given_name="สมหญิง", phone="081-234-5670")
    willing = await crm.register(
        given_name="สมหญิง", phone="081-234-5671", consents={"marketing": "sms"}
    )
    async with searching(world):
        answer = (await search(sender, "สมหญิง", "marketing", channel="sms")).json()
        assert len(answer["results"]) == 1
        assert answer["next_cursor"] is None
        known = await world.fetch(
            "SELECT member_id FROM pairwise_id WHERE client_id = :client", client=sender.id
        )
        assert [row["member_id"] for row in known] == [await world.member_id(willing)]
        assert (await world.events("member.search"))[-1]["count"] == 1
        await crm.withdraw(willing, "marketing", "sms")
        assert await found(sender, "สมหญิง", "marketing", channel="sms") == []


async def test_a_name_that_the_purpose_does_not_show_is_not_searched(world):
    crm = await world.app("crm", *SCOPES)
    await crm.register(given_name="สมหญิง", family_name="ใจดี", consents={"marketing": "sms"})
    async with searching(world):
        assert len(await found(crm, "สมหญิง", "marketing", channel="sms")) == 1
        assert await found(crm, "ใจดี", "marketing", channel="sms") == []
        assert await found(crm, "สมหญิง ใจดี", "marketing", channel="sms") == []


async def test_a_minor_whose_guardian_said_nothing_is_not_found_for_marketing(world):
    crm = await world.app("crm", *SCOPES)
    child = await crm.register(given_name="สมหญิง", birth_date="2015-03-12")
    async with searching(world):
        assert await found(crm, "สมหญิง") == [child.id]
        assert await found(crm, "สมหญิง", "marketing", channel="sms") == []


async def test_what_is_held_only_proposes_and_the_opened_name_decides(world):
    crm = await world.app("crm", *SCOPES)
    member = await crm.register(given_name="สมหญิง")
    async with searching(world):
        await world.rest()  # nobody tells the process of the change
        answer = await crm.patch(
            f"/v1/members/{member.id}",
            {"formats": {"phone_region": "TH"}, "fields": {"given_name": "มาลี"}},
        )
        assert answer.status_code == 200, answer.text
        assert await found(crm, "สมหญิง") == []


async def test_pages_follow_each_other_and_a_cursor_is_its_clients_own(world):
    crm, other = await world.app("crm", *SCOPES), await world.app("other", *SCOPES)
    members = [
        (await crm.register(given_name=f"สมหญิง{at}", phone=f"081-234-56{at:02}")).id
        for at in range(7)
    ]
    async with searching(world):
        seen, cursor = [], None
        for _ in range(4):
            page = (
                await search(crm, "สมหญิง", limit=3, **({"cursor": cursor} if cursor else {}))
            ).json()
            seen += [one["id"] for one in page["results"]]
            last, cursor = cursor, page["next_cursor"]
            if cursor is None:
                break
        assert sorted(seen) == sorted(members)
        for stolen in (last, last[:-2] + "AA", "x", "é"):
            assert (await search(other, "สมหญิง", cursor=stolen)).status_code == 422


# --- following ------------------------------------------------------------------------


async def test_new_names_are_found_and_old_ones_are_not(world):
    crm = await world.app("crm", *SCOPES)
    async with searching(world):
        member = await crm.register(given_name="สมหญิง")
        await until_found(crm, "สมหญิง", [member.id])
        body = {"formats": {"phone_region": "TH"}, "fields": {"given_name": "มาลี"}}
        await crm.patch(f"/v1/members/{member.id}", body)
        await until_found(crm, "มาลี", [member.id])
        assert await found(crm, "สมหญิง") == []
    follows = await world.events("search.follow")
    assert follows
    assert {event["purpose"] for event in follows} == {"member_search"}


async def test_a_restriction_takes_a_member_out_and_its_end_brings_them_back(world):
    crm = await world.app("crm", *SCOPES, "restrictions:write")
    member = await crm.register(given_name="สมหญิง")
    async with searching(world):
        await until_held(world, 1)
        made = await crm.post(
            "/v1/restrictions", {"member": member.id, "ground": "accuracy_contested"}
        )
        assert made.status_code == 201, made.text
        await until_held(world, 0)
        ended = await crm.request("DELETE", f"/v1/restrictions/{made.json()['id']}")
        assert ended.status_code == 200, ended.text
        await until_found(crm, "สมหญิง", [member.id])


async def test_a_message_that_was_lost_is_made_good_by_the_next_walk(world):
    crm = await world.app("crm", *SCOPES)
    gone = await crm.register(given_name=PLANTED, phone="081-234-5670")
    async with searching(world) as keeper:
        state = await until_warm(world)
        await world.rest()
        late = await crm.register(given_name="มาลี", phone="081-234-5671")
        await until_held(world, 2)
        await keeper.client.forget([await world.member_id(late)])
        await world.erase(gone)
        assert written(PLANTED) in memory_of(state["pid"])
        assert await keeper.walk() == 1
        assert written(PLANTED) not in memory_of(state["pid"])
        assert await found(crm, "มาลี") == [late.id]


async def test_a_name_on_its_way_while_its_member_is_erased_is_not_held(world, monkeypatch):
    crm = await world.app("crm", *SCOPES)
    member = await crm.register(given_name=PLANTED)
    put = SearchClient.put

    async def erase_first(self, records):
        monkeypatch.undo()
        await world.erase(member)
        await put(self, records)

    async with searching(world) as keeper:
        await world.rest()
        await keeper.client.forget([await world.member_id(member)])
        monkeypatch.setattr(SearchClient, "put", erase_first)
        await keeper.walk()
        state = await until_warm(world)
        assert state["members"] == 0
        assert written(PLANTED) not in memory_of(state["pid"])


# --- the process ----------------------------------------------------------------------


async def test_an_erased_name_is_in_the_memory_of_the_process_no_longer(world):
    crm = await world.app("crm", *SCOPES)
    member = await crm.register(given_name=PLANTED, family_name="ใจดี")
    await crm.register(given_name="มาลี", phone="081-234-5679")
    async with searching(world):
        state = await until_warm(world)
        assert await found(crm, PLANTED) == [member.id]
        held = memory_of(state["pid"])
        assert written(PLANTED) in held
        assert PLANTED.encode() not in held, "the process makes no text of a name"
        assert PLANTED.encode("utf-16-le") not in held
        await world.erase(member)
        await until_held(world, 1)
        assert written(PLANTED) not in memory_of(state["pid"])


async def test_what_was_searched_for_is_in_its_memory_no_longer_either(world):
    crm = await world.app("crm", *SCOPES)
    async with searching(world):
        state = await until_warm(world)
        assert await found(crm, PLANTED) == []
        held = memory_of(state["pid"])
        assert written(PLANTED) not in held
        assert PLANTED.encode() not in held


async def test_a_process_that_died_is_started_again_and_warmed(world):
    crm = await world.app("crm", *SCOPES)
    member = await crm.register(given_name="สมหญิง")
    async with searching(world):
        first = (await until_warm(world))["pid"]
        os.kill(first, signal.SIGKILL)
        answers = []
        for _ in range(4_000):
            answers.append(await search(crm, "สมหญิง"))
            if answers[-1].status_code == 200 and len(answers) > 1:
                break
            await asyncio.sleep(0.02)
        assert [one["id"] for one in answers[-1].json()["results"]] == [member.id]
        assert {one.status_code for one in answers} <= {200, 503}
        assert (await until_warm(world))["pid"] != first


async def test_it_is_shut_in_and_speaks_to_its_owner_only(world):
    async with searching(world):
        state = await until_warm(world)
        socket_file = world.settings.data_dir / "search.sock"
        assert socket_file.stat().st_mode & 0o777 == 0o600
        process = look_into(state["pid"])
    assert process["core"] == ["0", "0"]
    assert b"YINYOM" not in process["environ"]
    for library in ("sqlite", "asyncpg", "cryptography", "_ssl"):
        assert library not in process["maps"]
    if state["network"] == "shared":
        pytest.skip("this machine gives no network namespace")
    assert process["net"] != look_into(os.getpid())["net"]
    assert process["routes"] == []


def look_into(pid):
    """What the kernel says of a process: its limits, what it was given, its network."""
    proc = Path(f"/proc/{pid}")
    limits = (proc / "limits").read_text().splitlines()
    core = next(line for line in limits if line.startswith("Max core file size"))
    return {
        "core": core.split()[4:6],
        "environ": (proc / "environ").read_bytes(),
        "maps": (proc / "maps").read_text(),
        "net": str((proc / "ns" / "net").readlink()),
        "routes": (proc / "net" / "route").read_text().splitlines()[1:],
    }


def lives(pid):
    return Path(f"/proc/{pid}").exists()


async def test_it_ends_with_the_server_and_leaves_nothing(sqlite_settings):
    async with open_world(sqlite_settings) as world:
        async with searching(world):
            pid = (await until_warm(world))["pid"]
            assert lives(pid)
        assert not lives(pid)
        assert not (sqlite_settings.data_dir / "search.sock").exists()


async def test_names_that_do_not_fit_are_not_half_searched(sqlite_settings, monkeypatch):
    crowd = 60_000
    small = sqlite_settings.model_copy(update={"search": SearchSettings(max_mb=8)})
    async with open_world(small) as world:
        crm = await world.app("crm", *SCOPES)
        await crm.register(given_name="สมหญิง")
        real = world.runtime.search_keeper._names.open

        async def many(grant, members):
            (record,) = await real(grant, members)
            return [
                NameRecord(MemberId(new_id("mem")), 1, record.brand, 1, "x" * 150)
                for _ in range(crowd)
            ]

        monkeypatch.setattr(world.runtime.search_keeper._names, "open", many)
        world.runtime.search_keeper.start()
        for _ in range(4_000):
            state = await world.runtime.search_keeper.client.state()
            if state is not None and state["state"] == "full":
                break
            await asyncio.sleep(0.02)
        assert state["state"] == "full"
        assert state["members"] == 0
        assert state["bytes"] < 1_048_576
        answer = await search(crm, "สมหญิง")
        assert (answer.status_code, reason(answer)) == (503, "search_full")
        await world.runtime.search_keeper.stop()


async def test_what_is_not_spoken_right_changes_nothing(sqlite_settings):
    async with open_world(sqlite_settings) as world:
        crm = await world.app("crm", *SCOPES)
        member = await crm.register(given_name="สมหญิง")
        async with searching(world) as keeper:
            client = keeper.client
            for body in (
                b"\x63", b"\x06", b"\x03" + b"x" * 20, b"\x04abc", b"\x07\x0dmain",
                b"\x06" + b"\x00" * 40, os.urandom(300), b"\x03" + b"\xff" * 64,
            ):  # fmt: skip
                with pytest.raises(ValueError, match="another version"):
                    await client._ask(body)
            reader, writer = await asyncio.open_unix_connection(
                str(sqlite_settings.data_dir / "search.sock")
            )
            writer.write(b"\xff\xff\xff\xff")
            assert await reader.read() == b""
            writer.close()
            assert await found(crm, "สมหญิง") == [member.id]


@pytest.mark.postgres
async def test_two_servers_share_one_process(postgres_settings):
    async with open_world(postgres_settings) as one, open_world(postgres_settings) as other:
        crm = await one.app("crm", *SCOPES)
        member = await crm.register(given_name="สมหญิง")
        async with searching(one), searching(other):
            assert (await until_warm(one))["pid"] == (await until_warm(other))["pid"]
            await other.runtime.gatekeeper.refresh()
            assert await found(crm.through(other), "สมหญิง") == [member.id]


async def test_nothing_searched_for_is_in_the_trail(world):
    crm = await world.app("crm", *SCOPES)
    await crm.register(given_name=PLANTED)
    async with searching(world):
        await found(crm, PLANTED)
    assert PLANTED not in json.dumps(await world.events(), ensure_ascii=False)


# --- birthdays ------------------------------------------------------------------------


async def born(crm, month, number, purposes=("profiling",)):
    return [
        await crm.register(
            birth_date=f"1990-{month:02}-12",
            phone=f"081-{month:02}{at:05}",
            consents=dict.fromkeys(purposes),
        )
        for at in range(number)
    ]


async def audience(crm, verb, month, purpose="profiling", **more):
    body = {"purpose": purpose, "where": {"birthday_month": month}, **more}
    return await crm.post(f"/v1/audiences:{verb}", body)


async def test_an_audience_is_counted_and_exported_by_the_month_of_birth(world):
    crm = await world.app("crm", *SCOPES)
    march = await born(crm, 3, 11)
    await born(crm, 4, 3)
    await crm.withdraw(march[0], "profiling")
    async with searching(world):
        count = (await audience(crm, "query", 3)).json()
        assert (count["count"], count["suppressed"]) == (10, False)
        assert (await audience(crm, "query", 4)).json()["count"] is None
        answer = await audience(crm, "export", 3)
        *lines, end = [json.loads(line) for line in answer.text.splitlines()]
        assert {line["id"] for line in lines} == {member.id for member in march[1:]}
        assert end == {"end": True, "count": 10, "audit_id": end["audit_id"]}
        await crm.withdraw(march[1], "profiling")
        assert (await audience(crm, "query", 3)).json()["suppressed"]
    counted = await world.events("audience.count")
    assert all(event["fields"] == ["birthday_month"] for event in counted)


async def test_an_export_by_month_makes_ids_for_nobody_else(world):
    crm = await world.app("crm", *SCOPES)
    cdp = await world.app("cdp", "audiences:export", "audiences:query", "purpose:profiling")
    march = await born(crm, 3, 2)
    await born(crm, 4, 2)
    async with searching(world):
        assert len((await audience(cdp, "export", 3)).text.splitlines()) == 3
    known = await world.fetch(
        "SELECT member_id FROM pairwise_id WHERE client_id = :client", client=cdp.id
    )
    assert {row["member_id"] for row in known} == {await world.member_id(one) for one in march}


async def test_whoever_sees_no_birthday_may_not_choose_by_one(world):
    crm = await world.app("crm", *SCOPES)
    async with searching(world):
        for verb in ("query", "export"):
            answer = await audience(crm, verb, 3, "marketing", channel="sms")
            assert answer.status_code == 422
            (fault,) = answer.json()["errors"]
            assert (fault["pointer"], fault["code"]) == ("/where/birthday_month", "not_in_purpose")


@pytest.mark.parametrize("month", [0, 13, -1, "march", 1.5])
async def test_there_are_twelve_months(world, month):
    crm = await world.app("crm", *SCOPES)
    assert (await audience(crm, "query", month)).status_code == 422


async def test_no_audience_by_month_while_the_search_is_cold(world):
    crm = await world.app("crm", *SCOPES)
    for verb in ("query", "export"):
        answer = await audience(crm, verb, 3)
        assert (answer.status_code, reason(answer)) == (503, "search_cold")
