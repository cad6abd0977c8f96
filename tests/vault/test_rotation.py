"""Rotations: every key replaced while members come, go and are read, and nobody is lost."""

import asyncio
import contextlib
import re

import pytest

from kernel import UnavailableError, new_id
from kernel.ids import id_bytes
from policies import compile_access, load_pack
from service.kms import open_ring
from service.rotations import key_steps
from tests.support.world import open_world, recorded
from vault import ORDINARY, PSEUDONYM, UnreadableError, Vault
from vault import rotation_repository as repository
from vault.rewrapping import Rewrapping, rewrap
from vault.rotation import RingRoots
from vault.wrapping import wrap

pytestmark = pytest.mark.anyio

KINDS = (ORDINARY, PSEUDONYM)
BITS = 3


def silent(_done, _total):
    """Nobody looks."""


@pytest.fixture
def keys(world):
    return world.runtime.keys.rotations


async def make_owners(world, count=20, bits=BITS):
    """Owners in several buckets, as a large registry has them."""
    vault = Vault(world.runtime.vault.buckets.ring, bucket_bits=bits)
    owners = [new_id("mem") for _ in range(count)]
    async with recorded(world.runtime.database) as work:
        for owner in owners:
            await vault.make_keys(work, owner, KINDS)
    return owners


async def opened(world, owners):
    """The keys of owners, as a process that has just started gets them."""
    vault = Vault(open_ring(world.settings))
    async with world.runtime.database.read() as session:
        return {
            owner: {
                kind: key.secret if kind == PSEUDONYM else True
                for kind, key in (await vault.keys_of(session, owner)).items()
            }
            for owner in owners
        }


async def stored(world):
    """Where every key rests: (bucket version, wrapped) by owner and kind."""
    rows = await world.fetch("SELECT owner_id, kind, bucket_version, wrapped FROM vault_key")
    return {(r["owner_id"], r["kind"]): (r["bucket_version"], bytes(r["wrapped"])) for r in rows}


async def test_a_rewrap_replaces_every_bucket_key_and_changes_no_key_of_a_member(world, keys):
    owners = await make_owners(world)
    before, kept = await stored(world), await opened(world, owners)
    done = await keys.rewrap(silent)
    after = await stored(world)
    assert before.keys() == after.keys()
    for where, (version, wrapped) in after.items():
        assert version == before[where][0] + 1
        assert wrapped != before[where][1]
    assert await opened(world, owners) == kept
    versions = await world.fetch("SELECT bucket, count(*) AS n FROM vault_bucket GROUP BY bucket")
    assert {row["n"] for row in versions} == {1}
    assert (done.buckets, done.moved) == (len(versions), len(after))
    assert await world.fetch("SELECT * FROM vault_rekey") == []
    (event,) = await world.events("vault.rewrap")
    assert event["count"] == len(after)


async def test_a_rewrap_rewrites_no_cell(world, keys):
    crm = await world.app()
    member = await crm.register(phone="081-234-5678")
    hidden = ", xmin, ctid" if world.settings.on_postgres else ", rowid"
    sql = f"SELECT *{hidden} FROM member"
    before = [dict(row) for row in await world.fetch(sql)]
    await keys.rewrap(silent)
    await keys.rotate_ring(silent)
    await keys.rotate_kms()
    assert [dict(row) for row in await world.fetch(sql)] == before
    assert (await crm.view(member)).status_code == 200


async def test_a_reader_that_read_the_key_before_it_moved_opens_it_where_it_rests_now(world, keys):
    (owner,) = await make_owners(world, 1)
    vault = Vault(open_ring(world.settings))
    async with world.runtime.database.read() as session:
        row = await vault_key(session, owner)
        await keys.rewrap(silent)
        await keys.rewrap(silent)
        found = vault.unwrap(await vault.ensure_bucket(session, row))
    assert (found.owner_id, found.kind) == (owner, ORDINARY)


async def vault_key(session, owner):
    from vault.repository import one_key

    return await one_key(session, owner, ORDINARY, 1)


async def test_a_reader_never_opens_a_key_that_was_destroyed_after_it_read_it(world, keys):
    (owner,) = await make_owners(world, 1)
    vault = Vault(open_ring(world.settings))
    async with world.runtime.database.read() as session:
        row = await vault_key(session, owner)
    async with recorded(world.runtime.database) as work:
        await world.runtime.vault.erase(work, owner, keep={})
    await keys.rewrap(silent)
    async with world.runtime.database.read() as session:
        with pytest.raises(UnreadableError):
            await vault.ensure_bucket(session, row)


async def test_a_registration_under_way_keeps_its_bucket_key_alive(postgres_settings):
    """It wrapped under the old key and has not committed: the old key must not go before."""
    async with open_world(postgres_settings, background=False) as world:
        owners = await make_owners(world, 2, bits=0)
        database, keys = world.runtime.database, world.runtime.keys.rotations
        async with recorded(database) as work:
            late = new_id("mem")
            await world.runtime.vault.make_keys(work, late, KINDS)
            rewrapping = asyncio.create_task(keys.rewrap(silent))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(rewrapping), 1)
            assert not rewrapping.done()
        await rewrapping
        assert all(len(found) == 2 for found in (await opened(world, [*owners, late])).values())


async def test_an_erasure_under_way_is_neither_waited_for_nor_undone(postgres_settings):
    async with open_world(postgres_settings, background=False) as world:
        gone, *others = await make_owners(world, 4, bits=0)
        database, keys = world.runtime.database, world.runtime.keys.rotations
        async with recorded(database) as work:
            await world.runtime.vault.erase(work, gone, keep={})
            rewrapping = asyncio.create_task(keys.rewrap(silent))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(rewrapping), 1)
            moved = {
                owner for (owner, _), (version, _) in (await stored(world)).items() if version > 1
            }
            assert moved == set(others)
        await rewrapping
        assert (await opened(world, [gone]))[gone] == {}
        assert all(len(found) == 2 for found in (await opened(world, others)).values())


async def test_members_come_go_and_are_read_while_two_rewraps_run(world, keys):
    crm = await world.app()
    old = [await crm.register(given_name=f"คน{at}") for at in range(8)]
    gone, kept = old[:4], old[4:]

    async def rewrap_twice():
        for _ in range(2):
            with contextlib.suppress(UnavailableError):  # another ended it in this very moment
                await keys.rewrap(silent)

    async def come():
        return [await crm.register(given_name=f"ใหม่{at}") for at in range(8)]

    async def go():
        for member in gone:
            await world.erase(member)

    async def read():
        for _ in range(4):
            for member in kept:
                answer = await crm.view(member)
                assert answer.status_code == 200, answer.text

    _, _, new, _, _ = await asyncio.gather(rewrap_twice(), rewrap_twice(), come(), go(), read())
    await keys.rewrap(silent)
    for member in [*kept, *new]:
        assert (await crm.view(member)).status_code == 200
    for member in gone:
        assert (await crm.view(member)).status_code == 404
    rows = await world.fetch("SELECT bucket_version FROM vault_key")
    newest = await world.fetch("SELECT version FROM vault_bucket")
    assert {r["bucket_version"] for r in rows} == {r["version"] for r in newest}


async def test_a_rewrap_cut_short_is_gone_on_with_from_its_bucket(world, keys, monkeypatch):
    await make_owners(world, 30)
    genuine, moved = Rewrapping._move, []

    async def cut(self, group, note):
        if len(moved) == 2:
            raise UnavailableError("the power went")
        moved.append([one.bucket for one in group])
        await genuine(self, group, note)

    monkeypatch.setattr(Rewrapping, "_groups", lambda _self, todo: [[one] for one in todo])
    monkeypatch.setattr(Rewrapping, "_move", cut)
    with pytest.raises(UnavailableError):
        await keys.rewrap(silent)
    left = {r["bucket"] for r in await world.fetch("SELECT bucket FROM vault_rekey")}
    assert left
    assert not left & {bucket for group in moved for bucket in group}
    monkeypatch.setattr(Rewrapping, "_move", genuine)
    await keys.rewrap(silent)
    assert {r["version"] for r in await world.fetch("SELECT version FROM vault_bucket")} == {2}
    assert len(await world.fetch("SELECT id FROM vault_rotation")) == 1


async def test_a_key_that_was_tampered_with_stops_the_rewrap_and_loses_nothing(world, keys):
    owners = await make_owners(world, 6)
    await world.execute(
        "UPDATE vault_key SET wrapped = :other WHERE owner_id = :owner AND kind = 'ordinary'",
        other=bytes(60),
        owner=owners[0],
    )
    with pytest.raises(UnreadableError):
        await keys.rewrap(silent)
    assert all(len(found) == 2 for found in (await opened(world, owners[1:])).values())


def test_rewrapping_has_no_way_to_seal_or_open_a_cell():
    import vault.rewrapping
    import vault.rotation

    for module in (vault.rewrapping, vault.rotation):
        names = {name for name in vars(module) if not name.startswith("__")}
        assert not names & {
            "open_many",
            "seal_many",
            "OwnerKey",
            "Vault",
            "AccessTicket",
            "Places",
        }
    assert not [
        n for n in dir(Rewrapping) if n in {"open", "seal", "open_many", "unwrap", "keys_of"}
    ]


def test_whoever_may_manage_keys_may_not_read_members():
    pack = load_pack(None)
    access = compile_access(pack)
    assert access.allows("operator", "main", "key", "manage")
    for category in pack.categories:
        assert not access.allows("operator", "main", category, "view")


def test_a_key_moved_by_rewrap_is_bound_to_its_new_bucket_key():
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    from vault.contexts import key_context

    owner, old, new, secret = new_id("mem"), AESGCM(bytes(32)), AESGCM(b"1" * 32), b"k" * 32
    wrapped = wrap(old, secret, key_context("main", owner, ORDINARY, 1, 5, 1))
    rows = [(5, owner, ORDINARY, 1, 1, wrapped)]
    versions, (moved,) = rewrap("main", rows, {(5, 1): old}, {5: (2, new)})
    assert versions == [2]
    context = key_context("main", owner, ORDINARY, 1, 5, 2)
    assert new.decrypt(moved[:12], moved[12:], context) == secret
    assert id_bytes(owner) in context
    with pytest.raises(UnreadableError):
        rewrap("main", rows, {(5, 1): new}, {5: (2, new)})
    with pytest.raises(UnreadableError):
        rewrap("main", [(6, owner, ORDINARY, 1, 1, wrapped)], {(6, 1): old}, {6: (2, new)})


# --- ring roots -----------------------------------------------------------------------


async def test_a_new_ring_root_wraps_every_bucket_key_and_the_old_one_is_dropped(world, keys):
    owners = await make_owners(world)
    kept, before = await opened(world, owners), await stored(world)
    done = await keys.rotate_ring(silent)
    assert (done.newest_root, list(done.destroyed_roots)) == (2, [1])
    rows = await world.fetch("SELECT ring_version FROM vault_bucket")
    assert {r["ring_version"] for r in rows} == {2}
    assert open_ring(world.settings).versions == (2,)
    assert world.runtime.vault.buckets.ring.versions == (2,)
    assert await stored(world) == before
    assert await opened(world, owners) == kept
    (event,) = await world.events("vault.ring")
    assert event["resource"] == "ring-root:1-1"


async def test_the_keys_of_webhooks_move_to_the_new_ring_root(world, keys):
    crm = await world.app("crm", "members:write", "purpose:membership", "webhooks:manage")
    body = {"url": "http://127.0.0.1:9/in", "types": ["member.erased"]}
    answer = await crm.post("/v1/webhooks", body)
    assert answer.status_code == 201, answer.text
    before = await recalled(world)
    await keys.rotate_ring(silent)
    await keys.rotate_ring(silent)
    rows = await world.fetch("SELECT ring_version FROM webhook")
    assert [r["ring_version"] for r in rows] == [3]
    assert await recalled(world) == before


async def recalled(world):
    (row,) = await world.fetch("SELECT id, ring_version, secret FROM webhook")
    vault = Vault(open_ring(world.settings))
    return vault.recall_secret("webhook", row["id"], row["ring_version"], bytes(row["secret"]))


async def test_a_second_process_reads_and_registers_through_every_rotation(postgres_settings):
    async with (
        open_world(postgres_settings) as world,
        open_world(postgres_settings, background=False) as other,
    ):
        crm = await world.app()
        there = crm.through(other)
        member = await crm.register(phone="081-234-5678")
        keys = world.runtime.keys.rotations
        for act in (
            lambda: keys.rewrap(silent),
            lambda: keys.rotate_ring(silent),
            keys.rotate_kms,
            lambda: keys.rotate_ring(silent),
            lambda: keys.rewrap(silent),
        ):
            await act()
            assert (await there.view(member)).status_code == 200
            new = await there.register(given_name="ใหม่")
            assert (await crm.view(new)).status_code == 200
            assert (await there.view(new)).status_code == 200


async def test_a_dropped_ring_root_leaves_the_memory_of_every_process(postgres_settings):
    async with (
        open_world(postgres_settings, background=False) as world,
        open_world(postgres_settings, background=False) as other,
    ):
        await make_owners(world)
        assert not await other.runtime.keys.follower.look()
        await world.runtime.keys.rotations.rotate_ring(silent)
        assert other.runtime.vault.buckets.ring.versions == (1,)
        assert await other.runtime.keys.follower.look()
        assert other.runtime.vault.buckets.ring.versions == (2,)
        assert not await other.runtime.keys.follower.look()


async def test_a_bucket_made_by_a_slow_process_never_rests_under_a_dropped_root(postgres_settings):
    """The other process knows only the old root when it makes a bucket key."""
    async with (
        open_world(postgres_settings, background=False) as world,
        open_world(postgres_settings, background=False) as other,
    ):
        await make_owners(world, 3)
        await world.runtime.keys.rotations.rotate_ring(silent)
        slow = Vault(other.runtime.vault.buckets.ring, bucket_bits=10)
        assert slow.ring_version == 1
        owner = new_id("mem")
        async with recorded(other.runtime.database) as work:
            await slow.make_keys(work, owner, KINDS)
        rows = await world.fetch("SELECT DISTINCT ring_version FROM vault_bucket")
        assert [r["ring_version"] for r in rows] == [2]
        assert len((await opened(world, [owner]))[owner]) == 2


async def test_a_root_is_not_dropped_while_somebody_is_wrapping_under_it(postgres_settings):
    async with open_world(postgres_settings, background=False) as world:
        await make_owners(world, 3)
        database, buckets = world.runtime.database, world.runtime.vault.buckets
        roots = RingRoots(database, buckets, (), key_steps(world.runtime.audit))
        buckets.ring.add_root()
        async with recorded(database) as work:
            await repository.set_ring(work, 2, 1)
        many = Vault(buckets.ring, bucket_bits=10)
        async with recorded(database) as work:
            await many.make_keys(work, new_id("mem"), KINDS)
            dropping = asyncio.create_task(roots.drop(2, silent))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(dropping), 1)
            assert not dropping.done()
            assert buckets.ring.versions == (1, 2)
        await dropping
        assert buckets.ring.versions == (2,)


async def test_a_key_ring_file_that_is_behind_the_database_wraps_nothing(world):
    await make_owners(world, 1)
    async with recorded(world.runtime.database) as work:
        await repository.set_ring(work, 9, 1)
    many = Vault(world.runtime.vault.buckets.ring, bucket_bits=10)
    with pytest.raises(UnavailableError, match="older than the database"):
        async with recorded(world.runtime.database) as work:
            await many.make_keys(work, new_id("mem"), KINDS)


async def test_a_root_that_a_dead_process_made_is_taken_up(world, keys):
    owners = await make_owners(world, 4)
    world.runtime.vault.buckets.ring.add_root()  # and then it died, having told nobody
    done = await keys.rotate_ring(silent)
    assert done.newest_root == 2
    assert open_ring(world.settings).versions == (2,)
    assert all(len(found) == 2 for found in (await opened(world, owners)).values())


async def test_a_new_kms_root_opens_the_ring_and_the_old_one_does_not(world, keys):
    folder = world.settings.keys_dir

    def roots():
        return {file.read_bytes() for file in folder.glob("kms-root*")}

    old = roots()
    assert await keys.rotate_kms()
    assert open_ring(world.settings).id == world.runtime.vault.ring_id
    assert not roots() & old
    (event,) = await world.events("vault.kms")
    assert event["resource"] == "vault"


async def test_each_page_of_keys_to_move_begins_where_the_last_one_ended(world):
    """Else all keys of an embedded registry, which are in one bucket, are read once a page."""
    dialect = "postgresql" if world.settings.on_postgres else "sqlite"
    sql = repository.TO_MOVE.compiled(dialect).sql
    if dialect == "sqlite":
        plan = await world.fetch(f"EXPLAIN QUERY PLAN {sql.replace('?', '0')}")
        steps = [row["detail"] for row in plan]
        assert any("(bucket,owner_id,kind,version)>" in step for step in steps), steps
        assert not [step for step in steps if "TEMP B-TREE" in step], steps
        return
    literal = re.sub(r"\$\d+(::\w+)", r"'0'\1", sql)
    steps = [row["QUERY PLAN"] for row in await world.fetch(f"EXPLAIN {literal}")]
    assert any("Index Cond: ((bucket <=" in s and "version) > ROW(" in s for s in steps), steps
    assert not [step for step in steps if "Sort" in step], steps
