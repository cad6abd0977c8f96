"""Erased means erased: no key, no tag, no cell, and old rows open nothing."""

import msgpack
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from audit.event import epoch_of, subject_tokens
from kernel import NotAllowedError, NotFoundError, id_bytes
from service.kms import open_ring
from tests.support.world import DAY_US, JumpingClock, open_world, recorded
from vault import ORDINARY, PSEUDONYM, AccessTicket, UnreadableError, Vault
from vault.cell import Places, open_one

pytestmark = pytest.mark.anyio

FIELDS = {"given_name": "สมหญิง", "phone": "081-234-5678", "email": "somying@example.com"}


@pytest.fixture
async def crm(world):
    return await world.app()


async def keys_in(world, owner):
    return await world.fetch("SELECT * FROM vault_key WHERE owner_id = :owner", owner=owner)


async def test_erasing_destroys_keys_tags_cells_and_contact_points_at_once(world, crm):
    member = await crm.register(FIELDS, consents={"marketing": "sms"})
    await crm.verify(member)
    stays = await crm.register(phone="089-999-9999")
    member_id = await world.member_id(member)
    assert await world.erase(member) == member_id
    kept = await keys_in(world, member_id)
    assert [(key["kind"], key["destroy_after_us"] is not None) for key in kept] == [
        (PSEUDONYM, True)
    ]
    for table, column in (("vault_tag", "owner_id"), ("contact_point", "member_id")):
        left = await world.fetch(f"SELECT * FROM {table} WHERE {column} = :id", id=member_id)
        assert left == []
    (row,) = await world.fetch("SELECT * FROM member WHERE id = :id", id=member_id)
    assert msgpack.unpackb(bytes(row["cells"])) == {}
    assert msgpack.unpackb(bytes(row["provenance"])) == {}
    assert len(await keys_in(world, await world.member_id(stays))) == 2
    assert (await crm.view(stays)).status_code == 200
    with pytest.raises(NotFoundError):
        await world.erase(member)


async def test_with_the_old_row_and_the_key_ring_nothing_opens(world, crm):
    member = await crm.register(FIELDS)
    member_id = await world.member_id(member)
    (row,) = await world.fetch("SELECT cells FROM member WHERE id = :id", id=member_id)
    cells = msgpack.unpackb(bytes(row["cells"]))
    await world.erase(member)
    await world.execute(
        "UPDATE member SET cells = :cells WHERE id = :id", cells=bytes(row["cells"]), id=member_id
    )
    for vault in (world.runtime.vault, Vault(open_ring(world.settings))):
        async with world.runtime.database.read() as session:
            keys = await vault.keys_of(session, member_id)
        assert keys.keys() == {PSEUDONYM}
        ticket = AccessTicket("evt_x", member_id, frozenset(cells))
        for field, cell in cells.items():
            with pytest.raises(NotAllowedError):
                vault.open(ticket, keys[PSEUDONYM], "member", member_id, {field: cell})
            cipher, places = AESGCM(keys[PSEUDONYM].secret), Places(1, "main", "member")
            with pytest.raises(UnreadableError):
                open_one(cipher, places, field, id_bytes(member_id), cell)
    for way in (
        crm.view(member),
        crm.view(member, "marketing", "sms"),
        crm.get(f"/v1/members/{member.id}", params={"purpose": "membership"}),
    ):
        assert (await way).status_code == 404


async def test_an_erased_member_is_not_found_by_any_identifier(world, crm):
    member = await crm.register(FIELDS)
    await world.erase(member)
    for kind, value in (("phone", "081-234-5678"), ("email", "somying@example.com")):
        body = {"kind": kind, "value": value, "region": "TH", "purpose": "membership"}
        assert (await crm.post("/v1/members:lookup", body)).status_code == 404
    again = await crm.register(FIELDS)
    assert again.answer["duplicates"] == []


async def test_the_pseudonym_key_lives_until_its_day_and_not_an_hour_longer(settings):
    clock = JumpingClock()
    async with open_world(settings, clock=clock, background=False) as world:
        crm = await world.app()
        member = await crm.register(FIELDS)
        other = await crm.register(phone="089-999-9999")
        member_id = await world.erase(member)
        (key,) = await keys_in(world, member_id)
        days = world.runtime.pack.pseudonym_key_lifetime.value
        left = key["destroy_after_us"] - clock.now_us()
        assert (days - 1) * DAY_US < left <= days * DAY_US <= 90 * DAY_US
        async with world.runtime.database.read() as session:
            keys = await world.runtime.vault.keys_of(session, member_id)
        now_us = clock.now_us()
        (token,) = subject_tokens(keys[PSEUDONYM].secret, [epoch_of(now_us)])
        (erasure,) = await world.events("member.erase")
        assert erasure["subject"]["token"] == token

        clock.jump_us = left - 60_000_000
        await world.runtime.housekeeping.sweep()
        assert len(await keys_in(world, member_id)) == 1
        clock.jump_us = left + 1
        await world.runtime.housekeeping.sweep()
        assert await keys_in(world, member_id) == []
        pairwise = await world.fetch(
            "SELECT * FROM pairwise_id WHERE member_id = :id", id=member_id
        )
        assert pairwise == []
        (destroyed,) = await world.events("key.destroy")
        assert (destroyed["count"], destroyed["reason"]) == (1, "retention_ended")
        assert len(await keys_in(world, await world.member_id(other))) == 2
        await world.runtime.housekeeping.sweep()
        assert len(await world.events("key.destroy")) == 1


async def test_no_key_of_an_owner_is_left_over_whatever_kinds_it_had(world):
    vault, database = world.runtime.vault, world.runtime.database
    crm = await world.app()
    member_id = await world.member_id(await crm.register(FIELDS))
    async with recorded(database) as work:
        await vault.make_keys(work, member_id, ["fiscal", "evidence"])
    async with recorded(database) as work:
        destroyed = await vault.erase(work, member_id, keep={"fiscal": 10**18})
    assert destroyed == 3
    assert [key["kind"] for key in await keys_in(world, member_id)] == ["fiscal"]
    assert ORDINARY not in {key["kind"] for key in await keys_in(world, member_id)}


async def test_an_erasure_that_fails_erases_nothing(world, crm):
    class StopError(Exception):
        pass

    member = await crm.register(FIELDS)
    member_id = await world.member_id(member)
    runtime = world.runtime
    with pytest.raises(StopError):
        async with recorded(runtime.database) as work:
            await runtime.members.erase(
                work, world.operator, member_id, now_us=runtime.clock.now_us()
            )
            raise StopError
    assert (await crm.view(member, fields="given_name")).json()["data"] == {"given_name": "สมหญิง"}
    assert await world.events("member.erase") == []
