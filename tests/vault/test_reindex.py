"""A re-index is online: who can be found before can be found during and after, and no one else."""

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from kernel import Caller, ConflictError, RequestId, UnitOfWork, new_id
from members import Reindex
from members.identifiers import identifier
from members.normalise import Formats
from members.normalise import registry as forms
from members.repository import propose_pair
from service.kms import open_ring
from tests.support.invariants import assert_sound
from tests.support.world import open_world, recorded
from vault import BlindIndex, IndexState, harden
from vault.tags import Tags

pytestmark = pytest.mark.anyio

PHONE, FORM = "081-234-5678", "+66812345678"
OFFICER = Caller("stf_one", "dpo", "console", "main", RequestId("req_01m834me8bfjwbgnk89sr02kdz"))
TH = Formats("TH", "iso", "TH", None)


class Killed(BaseException):
    """The process is gone; no handler of the product sees it."""


@pytest.fixture
async def quiet(settings):
    async with open_world(settings, background=False) as world:
        yield world


@pytest.fixture
async def crm(quiet):
    return await quiet.app()


async def owners(world, form=FORM, kind="phone"):
    async with world.runtime.database.read() as session:
        return list(await world.runtime.vault.tags.find(session, identifier(kind, form)))


async def signs_in(world, number=PHONE):
    async with world.runtime.database.read() as session:
        point = await world.runtime.members.contact_points.sign_in_point(
            session, "phone", number, TH
        )
    return None if point is None else point.member_id


async def suppressed(world, member):
    member_id = await world.member_id(member)
    async with world.runtime.database.read() as session:
        return await world.runtime.consent.suppressions.of_member(session, member_id)


async def object_to_marketing(crm, member):
    answer = await crm.post(f"/v1/members/{member.id}/objections", {"purpose": "marketing"})
    assert answer.status_code == 201, answer.text


async def stored(world):
    rows = await world.fetch("SELECT kind, version, state FROM vault_index")
    return {(row["kind"], row["version"]): row["state"] for row in rows}


async def versions_of_tags(world, kind="phone"):
    rows = await world.fetch(
        "SELECT DISTINCT index_version FROM vault_tag WHERE kind = :kind", kind=kind
    )
    return {row["index_version"] for row in rows}


def renew(world, *kinds):
    return world.runtime.reindex.renew(world.operator, kinds or ["phone"])


@asynccontextmanager
async def stopped_at(monkeypatch, method):
    """Let the re-index die at a step: before it in memory, after nothing of it in the database."""

    async def die(*_arguments, **_named):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Reindex, method, die)
        yield


async def die_at(world, monkeypatch, method, *kinds):
    async with stopped_at(monkeypatch, method):
        with pytest.raises(Killed):
            await renew(world, *kinds)


# --- the whole way --------------------------------------------------------------------


async def test_a_re_index_moves_a_kind_to_a_key_of_its_own_and_the_old_key_is_gone(quiet, crm):
    member = await quiet.member_id(await crm.register(phone=PHONE, email="a@example.com"))
    before = {bytes(r["tag"]) for r in await quiet.fetch("SELECT tag FROM vault_tag")}

    done = await renew(quiet, "phone", "email", "line_uid", "national_id", "card_no")

    assert (done.version, done.members, done.resumed) == (2, 1, False)
    assert sorted(done.kinds) == ["card_no", "email", "line_uid", "national_id", "phone"]
    assert await owners(quiet) == [member]
    assert await owners(quiet, "a@example.com", "email") == [member]
    after = {bytes(r["tag"]) for r in await quiet.fetch("SELECT tag FROM vault_tag")}
    assert len(after) == len(before) == 2
    assert not before & after
    secrets = open_ring(quiet.settings).secrets().keys()
    assert "index/2" in secrets
    assert "index" not in secrets
    await assert_sound(quiet)


async def test_one_kind_moves_alone_and_the_others_keep_version_and_key(quiet, crm):
    await crm.register(phone=PHONE, email="a@example.com")
    await renew(quiet, "phone")
    assert await versions_of_tags(quiet, "phone") == {2}
    assert await versions_of_tags(quiet, "email") == {1}
    assert {"index", "index/2"} <= open_ring(quiet.settings).secrets().keys()
    await renew(quiet, "email")
    assert await versions_of_tags(quiet, "email") == {3}
    assert {"index", "index/2", "index/3"} <= open_ring(quiet.settings).secrets().keys()
    await renew(quiet, "phone", "line_uid", "national_id", "card_no")
    indexes = {n for n in open_ring(quiet.settings).secrets() if n.startswith("index")}
    assert indexes == {"index/3", "index/4"}


async def test_the_reading_is_one_event_for_a_purpose_with_fields_and_a_number(quiet, crm):
    await crm.register(phone=PHONE)
    await crm.register(phone="082-222-2222", email="a@example.com")
    await renew(quiet, "phone")
    events = await quiet.events("member.reindex")
    assert len(events) == 1
    assert events[0]["purpose"] == "security_of_processing"
    assert events[0]["fields"] == ["phone"]
    assert (events[0]["count"], events[0]["decision"]) == (2, "allow")
    dropped = await quiet.events("index.drop")
    assert [event["fields"] for event in dropped] == [["phone"]]


async def test_a_new_normal_form_comes_with_a_new_version_and_never_before(quiet, crm, monkeypatch):
    member = await quiet.member_id(await crm.register(phone=PHONE))
    ways = {**forms._INDEX_FORMS, "phone": (str, lambda normal: f"tel:{normal}")}
    monkeypatch.setattr(forms, "_INDEX_FORMS", ways)
    assert await owners(quiet) == [member]
    other = await quiet.member_id(await crm.register(phone=PHONE))
    assert await owners(quiet) == sorted([member, other])

    await renew(quiet, "phone")

    assert await owners(quiet) == sorted([member, other])
    rows = await quiet.fetch("SELECT version, form FROM vault_index WHERE kind = 'phone'")
    assert rows == [{"version": 2, "form": 2}]
    vault = quiet.runtime.vault
    wanted = vault.tags._index(
        next(one for one in vault.tags._indexes.all() if one.kind == "phone")
    ).tag("phone", f"tel:{FORM}")
    tags = await quiet.fetch("SELECT tag FROM vault_tag WHERE kind = 'phone'")
    assert {bytes(row["tag"]) for row in tags} == {wanted}


async def test_a_hardened_index_finds_the_same_and_is_made_by_a_re_index_alone(
    settings, tmp_path, monkeypatch
):
    number = "1101700230708"
    async with open_world(settings, background=False) as world:
        crm = await world.app()
        member = await world.member_id(await crm.register(national_id=number))
        pack = world.runtime.pack
        wanted = {**pack.fields}
        wanted["national_id"] = replace(wanted["national_id"], hardened=True)
        hardened = replace(pack, fields=wanted)
        monkeypatch.setattr(world.runtime.reindex, "_pack", hardened)
        assert await owners(world, number, "national_id") == [member]
        assert (await renew(world, "national_id", "phone")).version == 2
        assert await owners(world, number, "national_id") == [member]
        other = await world.member_id(await crm.register(national_id=number))
        assert await owners(world, number, "national_id") == sorted([member, other])
        rows = await world.fetch("SELECT kind, hardened FROM vault_index")
        assert {row["kind"]: row["hardened"] for row in rows} == {"national_id": 1, "phone": 0}
        ring = open_ring(world.settings)
        tags = await world.fetch("SELECT tag FROM vault_tag WHERE kind = 'national_id'")
        index = BlindIndex(ring.secret("index/2"), 2)
        assert {bytes(row["tag"]) for row in tags} == {
            index.tag("national_id", harden(number, ring.id))
        }
        await assert_sound(world)
        monkeypatch.setattr(world.runtime.reindex, "_pack", pack)
        await renew(world, "national_id")
        assert await owners(world, number, "national_id") == sorted([member, other])


# --- every moment ---------------------------------------------------------------------

STEPS = ("_fill", "_fill_page", "_switch", "_drop", "_end")


@pytest.mark.parametrize("step", STEPS)
async def test_wherever_it_died_everybody_is_found_and_the_next_call_ends_it(
    quiet, crm, monkeypatch, step
):
    old = await crm.register(phone=PHONE, consents={"marketing": "sms"})
    await crm.verify(old)
    member = await quiet.member_id(old)
    await object_to_marketing(crm, old)

    await die_at(quiet, monkeypatch, step)

    assert await owners(quiet) == [member]
    assert await signs_in(quiet) == member
    newcomer = await crm.register(phone="089-999-9999")
    assert await owners(quiet, "+66899999999") == [await quiet.member_id(newcomer)]
    assert await suppressed(quiet, old)
    gone = await crm.register(phone="087-777-7777")
    await quiet.erase(gone)

    done = await renew(quiet)

    assert done.resumed
    assert await owners(quiet) == [member]
    assert await owners(quiet, "+66899999999") == [await quiet.member_id(newcomer)]
    assert await owners(quiet, "+66877777777") == []
    assert await signs_in(quiet) == member
    assert await suppressed(quiet, old)
    assert await stored(quiet) == {("phone", 2): "live"}
    assert await versions_of_tags(quiet) == {2}
    await assert_sound(quiet)


async def test_a_key_made_for_a_re_index_that_never_began_waits_for_the_next(
    quiet, crm, monkeypatch
):
    member = await quiet.member_id(await crm.register(phone=PHONE))
    with monkeypatch.context() as patch:

        async def die(*_arguments):
            raise Killed

        patch.setattr(Tags, "begin", die)
        with pytest.raises(Killed):
            await renew(quiet)
    made = open_ring(quiet.settings).secret("index/2")
    assert await owners(quiet) == [member]
    assert (await renew(quiet)).version == 2
    assert open_ring(quiet.settings).secret("index/2") == made
    assert await owners(quiet) == [member]


async def test_a_resumed_re_index_goes_on_behind_the_last_page(quiet, crm, monkeypatch):
    monkeypatch.setattr("members.reindex._PAGE_ONLINE", 2)
    for at in range(5):
        await crm.register(phone=f"08{at}-234-5678" if at else PHONE)
    pages = []
    whole = Reindex._fill_page

    async def two_pages(self, caller, event, page, filling):
        if len(pages) == 2:
            raise Killed
        pages.append(list(page))
        await whole(self, caller, event, page, filling)

    with monkeypatch.context() as patch:
        patch.setattr(Reindex, "_fill_page", two_pages)
        with pytest.raises(Killed):
            await renew(quiet)
    assert await stored(quiet) == {("phone", 1): "live", ("phone", 2): "filling"}
    done = await renew(quiet)
    assert done.resumed
    assert done.members == 5
    assert len(pages) == 2
    await assert_sound(quiet)


async def test_who_is_erased_while_the_index_is_filled_has_no_tag_left(quiet, crm, monkeypatch):
    member = await crm.register(phone=PHONE)
    await die_at(quiet, monkeypatch, "_switch")
    assert await versions_of_tags(quiet) == {1, 2}
    member_id = await quiet.erase(member)
    assert not await quiet.fetch("SELECT 1 FROM vault_tag WHERE owner_id = :id", id=member_id)
    await renew(quiet)
    assert not await quiet.fetch("SELECT 1 FROM vault_tag WHERE owner_id = :id", id=member_id)
    await assert_sound(quiet)


@pytest.mark.parametrize("step", ["_fill_page", "_switch"])
async def test_who_changes_a_number_while_the_index_is_filled_is_found_by_the_new_one_alone(
    quiet, crm, monkeypatch, step
):
    """Before the member's page, and after it: then the change itself wrote both versions."""
    member = await crm.register(phone=PHONE)
    await die_at(quiet, monkeypatch, step)
    body = {"fields": {"phone": "089-999-9999"}, "formats": {"phone_region": "TH"}}
    assert (await crm.patch(f"/v1/members/{member.id}", body)).status_code == 200
    await renew(quiet)
    assert await owners(quiet) == []
    assert await owners(quiet, "+66899999999") == [await quiet.member_id(member)]


async def test_a_number_that_changed_hands_during_a_re_index_signs_in_its_last_holder(
    quiet, crm, monkeypatch
):
    """The page of the first holder is done, that of the second is not."""
    monkeypatch.setattr("members.reindex._PAGE_ONLINE", 1)
    first = await crm.register(phone=PHONE)
    await crm.verify(first)
    second = await crm.register(phone=PHONE)
    whole, pages = Reindex._fill_page, []

    async def one_page(self, caller, event, page, filling):
        if pages:
            raise Killed
        pages.append(page)
        await whole(self, caller, event, page, filling)

    with monkeypatch.context() as patch:
        patch.setattr(Reindex, "_fill_page", one_page)
        with pytest.raises(Killed):
            await renew(quiet)
    await crm.verify(second)
    assert await signs_in(quiet) == await quiet.member_id(second)
    await renew(quiet)
    assert await signs_in(quiet) == await quiet.member_id(second)
    holders = await quiet.fetch("SELECT member_id FROM contact_point WHERE sign_in_tag IS NOT NULL")
    assert [row["member_id"] for row in holders] == [await quiet.member_id(second)]


async def test_two_who_re_index_at_once_do_not_spoil_each_other(quiet, crm):
    for at in range(3):
        await crm.register(phone=f"08{at + 1}-234-5678")
    ended = await asyncio.gather(renew(quiet), renew(quiet), return_exceptions=True)
    assert all(isinstance(one, ConflictError) or not isinstance(one, Exception) for one in ended)
    await renew(quiet)
    assert len(await versions_of_tags(quiet)) == 1
    for at in range(3):
        assert len(await owners(quiet, f"+668{at + 1}2345678")) == 1
    await assert_sound(quiet)


# --- what outlives it -----------------------------------------------------------------


async def test_the_suppression_list_survives_also_for_those_who_are_erased(quiet, crm):
    member = await crm.register(phone=PHONE, consents={"marketing": "sms"})
    await object_to_marketing(crm, member)
    before = await quiet.fetch("SELECT tag FROM suppression")
    await quiet.erase(member)

    await renew(quiet)

    assert await quiet.fetch("SELECT tag FROM suppression") == before
    again = await crm.register(phone=PHONE, consents={"marketing": "sms"})
    assert await suppressed(quiet, again)


async def test_a_merge_from_before_a_re_index_is_undone_into_the_present_version(quiet, crm):
    old = await crm.register(phone=PHONE, given_name="สมหญิง")
    await crm.verify(old)
    new = await crm.register(phone="089-111-2222", email="somying@example.com")
    pair, now_us = new_id("dup"), quiet.runtime.clock.now_us()
    ids = await quiet.member_id(old), await quiet.member_id(new)
    async with recorded(quiet.runtime.database) as work:
        await propose_pair(work, pair, "main", ids, 90, ["name"], now_us=now_us)
    merged = await quiet.runtime.merges.merge(OFFICER, pair)
    assert await owners(quiet, "somying@example.com", "email") == [ids[0]]

    await renew(quiet, "phone", "email")
    await quiet.runtime.partings.undo(OFFICER, merged.merge_id)

    assert await owners(quiet) == [ids[0]]
    assert await owners(quiet, "+66891112222") == [ids[1]]
    assert await owners(quiet, "somying@example.com", "email") == [ids[1]]
    assert await versions_of_tags(quiet) == {2}
    assert await signs_in(quiet) == ids[0]
    await assert_sound(quiet)


async def test_a_registry_whose_index_secret_is_lost_is_findable_again_after_a_re_index(quiet, crm):
    member = await quiet.member_id(await crm.register(phone=PHONE))
    await renew(quiet)
    quiet.runtime.vault.buckets.ring.drop_secret("index/2")
    quiet.runtime.vault.tags._made.clear()
    await renew(quiet)
    assert await owners(quiet) == [member]
    assert await versions_of_tags(quiet) == {3}


async def test_a_key_that_is_lost_while_its_version_is_filled_is_replaced_by_another(
    quiet, crm, monkeypatch
):
    member = await quiet.member_id(await crm.register(phone=PHONE))
    await die_at(quiet, monkeypatch, "_switch")
    lost = open_ring(quiet.settings).secret("index/2")
    quiet.runtime.vault.buckets.ring.drop_secret("index/2")
    quiet.runtime.vault.tags._made.clear()

    done = await renew(quiet)

    assert not done.resumed
    assert await owners(quiet) == [member]
    assert lost not in open_ring(quiet.settings).secrets().values()
    assert len(await versions_of_tags(quiet)) == 1
    await assert_sound(quiet)


async def test_the_new_key_is_kept_before_anything_rests_under_it(quiet, crm):
    await crm.register(phone=PHONE)

    async def fail():
        assert "index/2" in open_ring(quiet.settings).secrets()
        raise ConflictError("nowhere to keep it", reason="no_kit")

    with pytest.raises(ConflictError):
        await quiet.runtime.reindex.renew(quiet.operator, ["phone"], keep=fail)
    assert await stored(quiet) == {}
    assert await versions_of_tags(quiet) == {1}


# --- other processes ------------------------------------------------------------------


@pytest.mark.postgres
async def test_another_worker_writes_and_asks_the_right_versions_at_every_moment(
    postgres_settings, monkeypatch
):
    async with (
        open_world(postgres_settings, background=False) as one,
        open_world(postgres_settings, background=False) as other,
    ):
        crm = await one.app()
        there = crm.through(other)
        first = await one.member_id(await there.register(phone=PHONE))
        await die_at(one, monkeypatch, "_switch")
        second = await one.member_id(await there.register(phone="089-999-9999"))
        for world in (one, other):
            assert await owners(world) == [first]
            assert await owners(world, "+66899999999") == [second]
        await renew(one)
        # The other worker has not written since: it learns of the switch by asking.
        assert await owners(other) == [first]
        assert await owners(other, "+66899999999") == [second]
        third = await one.member_id(await there.register(phone="087-777-7777"))
        for world in (one, other):
            assert await owners(world) == [first]
            assert await owners(world, "+66899999999") == [second]
            assert await owners(world, "+66877777777") == [third]
        assert await versions_of_tags(one) == {2}


@pytest.mark.postgres
async def test_a_registration_under_way_when_a_re_index_begins_is_not_missed(
    postgres_settings, monkeypatch
):
    """It read the versions before there were two, and commits after everybody was looked at."""
    async with (
        open_world(postgres_settings, background=False) as one,
        open_world(postgres_settings, background=False) as other,
    ):
        crm = await one.app()
        there = crm.through(other)
        began, go_on = held_up(monkeypatch, other)
        registering = asyncio.create_task(there.register(phone=PHONE))
        await began.wait()
        renewing = asyncio.create_task(renew(one))
        await one.until("SELECT 1 FROM vault_index WHERE state = 'filling'")
        await asyncio.sleep(0.2)
        assert await one.fetch("SELECT 1 FROM vault_index WHERE state = 'filling'")
        go_on.set()
        member = await one.member_id(await registering)
        await renewing
        assert await owners(one) == [member]
        assert await versions_of_tags(one) == {2}


def held_up(monkeypatch, world):
    """Let whoever writes a tag in one worker wait, with its transaction open, until told to go."""
    began, go_on = asyncio.Event(), asyncio.Event()
    whole = world.runtime.vault.tags.add

    async def slowly(work: UnitOfWork, key, held):
        await whole(work, key, held)
        began.set()
        await go_on.wait()

    monkeypatch.setattr(world.runtime.vault.tags, "add", slowly)
    return began, go_on


@pytest.mark.postgres
async def test_a_change_under_way_beside_its_page_leaves_no_tag_of_the_number_before(
    postgres_settings, monkeypatch
):
    async with (
        open_world(postgres_settings, background=False) as one,
        open_world(postgres_settings, background=False) as other,
    ):
        crm = await one.app()
        there = crm.through(other)
        member = await crm.register(phone=PHONE)
        body = {"fields": {"phone": "089-999-9999"}, "formats": {"phone_region": "TH"}}
        began, go_on = held_up(monkeypatch, other)
        changing = []
        whole = Reindex._fill_page

        async def beside(self, *given):
            changing.append(asyncio.create_task(there.patch(f"/v1/members/{member.id}", body)))
            await began.wait()
            filled = asyncio.create_task(whole(self, *given))
            await one.until_waiting_for_a_lock()
            go_on.set()
            await filled

        monkeypatch.setattr(Reindex, "_fill_page", beside)
        await renew(one)
        assert (await changing[0]).status_code == 200
        assert await owners(one) == []
        assert await owners(one, "+66899999999") == [await one.member_id(member)]
        assert len(await one.fetch("SELECT 1 FROM vault_tag WHERE kind = 'phone'")) == 1


@pytest.mark.postgres
async def test_a_registration_under_way_at_the_switch_leaves_no_old_tag_behind(
    postgres_settings, monkeypatch
):
    """It read that both versions are written, and commits when look-ups ask the new one."""
    async with (
        open_world(postgres_settings, background=False) as one,
        open_world(postgres_settings, background=False) as other,
    ):
        crm = await one.app()
        there = crm.through(other)
        began, go_on = held_up(monkeypatch, other)
        registering = []
        whole = Reindex._switch

        async def beside(self, filled):
            registering.append(asyncio.create_task(there.register(phone=PHONE)))
            await began.wait()
            await whole(self, filled)

        monkeypatch.setattr(Reindex, "_switch", beside)
        renewing = asyncio.create_task(renew(one))
        await one.until("SELECT 1 FROM vault_index WHERE state = 'old'")
        await asyncio.sleep(0.2)
        go_on.set()
        member = await one.member_id(await registering[0])
        await renewing
        assert await owners(one) == [member]
        assert await versions_of_tags(one) == {2}


# --- the command ----------------------------------------------------------------------


async def test_the_command_refuses_a_kind_that_has_no_index(quiet):
    from kernel import InvalidRequestError
    from service.vault_commands import vault_reindex

    with pytest.raises(InvalidRequestError, match="no such index"):
        await vault_reindex(quiet.runtime, lambda _done, _total: None, kinds=["gender"])
    assert await stored(quiet) == {}


async def test_the_command_tells_its_progress(quiet, crm):
    from service.vault_commands import vault_reindex

    await crm.register(phone=PHONE)
    told = []
    answer = await vault_reindex(
        quiet.runtime, lambda done, total: told.append((done, total)), kinds=[]
    )
    assert told == [(1, 1)]
    assert answer["version"] == 2
    assert len(answer["kinds"]) == 5
    assert set((await stored(quiet)).values()) == {IndexState.LIVE.value}
