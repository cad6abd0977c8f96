"""What holds of every registry at every moment, whatever happened to the process before.

Business rows and events say the same, nothing points to what is not there, every member is whole
or erased whole, and the log is the events in one order under a true signature.
"""

from collections import Counter
from typing import Any

import msgpack

from audit.merkle import leaf_hash
from audit.note import Checkpoint, Verifier, open_checkpoint, origin_of, split_note
from audit.tiles import TreeEdge, tiles_of
from members.identifiers import identifiers
from tests.support.world import World
from vault import ORDINARY, PSEUDONYM, AccessTicket, IndexState


async def assert_sound(world: World) -> None:
    """Check every rule; stops the background for good and sequences what waits first."""
    await world.rest()
    await world.runtime.sequencer.drain()
    await assert_log_is_whole(world)
    await assert_members_are_whole(world)
    await assert_events_tell_the_rows(world)
    await assert_consent_is_its_history(world)


async def assert_log_is_whole(world: World) -> None:
    """Each event has one place, places have no gap, the tree is theirs, and it is signed."""
    rows = await world.fetch("SELECT id, body FROM audit_event")
    events = {row["id"]: bytes(row["body"]) for row in rows}
    leaves = await world.fetch("SELECT * FROM audit_leaf ORDER BY leaf_index")
    assert [row["leaf_index"] for row in leaves] == list(range(len(events)))
    assert {row["event_id"] for row in leaves} == events.keys()
    hashes = [bytes(row["leaf_hash"]) for row in leaves]
    assert hashes == [leaf_hash(events[row["event_id"]]) for row in leaves]
    assert await world.fetch("SELECT * FROM audit_pending") == []
    edge, _ = TreeEdge().append(hashes)
    last = await world.fetch("SELECT note FROM audit_checkpoint ORDER BY size DESC LIMIT 1")
    signer = world.runtime.log_key.signer
    assert open_checkpoint(last[0]["note"], signer.verifier) == Checkpoint(
        signer.name, len(leaves), edge.root()
    )
    await assert_every_head_is_a_prefix(world, hashes)
    tiles = {
        (row["level"], row["n"]): len(bytes(row["data"])) // 32
        for row in await world.fetch("SELECT * FROM audit_tile")
    }
    assert tiles == {(path.level, path.n): path.width for path in tiles_of(len(leaves))}


async def assert_every_head_is_a_prefix(world: World, hashes: list[bytes]) -> None:
    """No two heads that were ever signed tell different histories: each is a head of this tree."""
    now = world.runtime.log_key.signer.verifier
    rotations = await world.fetch("SELECT size, old_vkey FROM audit_key ORDER BY size")
    ends = [row["size"] for row in rotations]
    keys = [*(Verifier.from_vkey(row["old_vkey"]) for row in rotations), now]
    edge = TreeEdge()
    for row in await world.fetch("SELECT size, root, note FROM audit_checkpoint ORDER BY size"):
        edge, _ = edge.append(hashes[edge.size : row["size"]])
        name = origin_of(row["note"])  # an earlier name of the log signed with the same key
        # The key of its time alone has signed it, and the next one too where that one came.
        first = sum(end < row["size"] for end in ends)
        signed_by = [
            Verifier(name, key.kind, key.public)
            for key in keys[first : first + 1 + (row["size"] in ends)]
        ]
        assert [key_id for _, key_id, _ in split_note(row["note"])[1]] == [
            key.key_id for key in signed_by
        ]
        for verifier in signed_by:
            signed = open_checkpoint(row["note"], verifier)
        assert (signed.size, signed.root) == (row["size"], edge.root()), "a fork"
        assert bytes(row["root"]) == edge.root()


async def assert_members_are_whole(world: World) -> None:
    """Every member has gate, keys, cells that open and tags; every erased one has none of them.

    A merged one has keys and cells, and nothing by which it could be found.
    """
    members = {row["id"]: row for row in await world.fetch("SELECT * FROM member")}
    gates = {row["member_id"]: row for row in await world.fetch("SELECT * FROM member_gate")}
    imports = {row["id"] for row in await world.fetch("SELECT id FROM import_run")}
    assert members.keys() == gates.keys()
    keys: dict[str, set[str]] = {}
    for row in await world.fetch("SELECT owner_id, kind FROM vault_key"):
        keys.setdefault(row["owner_id"], set()).add(row["kind"])
    assert keys.keys() - imports <= members.keys(), "keys without an owner"
    assert {keys.get(owner, set()) == {ORDINARY} for owner in imports} <= {True}
    erased = {owner for owner, gate in gates.items() if gate["state"] == "erased"}
    merged = {owner for owner, gate in gates.items() if gate["state"] == "merged"}
    living = members.keys() - erased
    for table, column in (
        ("vault_tag", "owner_id"),
        ("contact_point", "member_id"),
        ("pairwise_id", "member_id"),
        ("consent_event", "member_id"),
        ("consent_state", "member_id"),
    ):
        found = {row["id"] for row in await world.fetch(f"SELECT {column} AS id FROM {table}")}
        assert found <= members.keys(), f"{table} points to nobody"
        if table in {"vault_tag", "contact_point"}:
            assert not found & erased, f"{table} remembers the erased"
            assert not found & merged, f"{table} finds the merged"
    for owner in erased:
        assert keys.get(owner, set()) <= {PSEUDONYM}
        assert msgpack.unpackb(bytes(members[owner]["cells"])) == {}
    for owner in living:
        assert keys[owner] == {ORDINARY, PSEUDONYM}
        await _assert_opens(world, members[owner], findable=owner not in merged)


async def _assert_opens(world: World, row: dict[str, Any], *, findable: bool) -> None:
    vault, owner = world.runtime.vault, row["id"]
    async with world.runtime.database.read() as session:
        keys = await vault.keys_of(session, owner)
    cells = msgpack.unpackb(bytes(row["cells"]))
    assert cells
    assert cells.keys() == msgpack.unpackb(bytes(row["provenance"])).keys()
    ticket = AccessTicket("evt_test", owner, frozenset(cells))
    opened = vault.open(ticket, keys[ORDINARY], "member", owner, cells)
    tags = await world.fetch("SELECT * FROM vault_tag WHERE owner_id = :owner", owner=owner)
    found = {(tag["field"], tag["kind"], tag["index_version"]): bytes(tag["tag"]) for tag in tags}
    assert len(found) == len(tags)
    if not findable:
        assert not found
        return
    async with world.runtime.database.read() as session:
        indexes = await vault.tags.versions(session)
    for version in indexes.all():
        expected = {
            (field, one.kind, version.version): await vault.tags._tag(version, one)
            for field, one in identifiers(world.runtime.pack, opened)
            if one.kind == version.kind
        }
        have = {
            key: tag for key, tag in found.items() if key[1:] == (version.kind, version.version)
        }
        if version.state is IndexState.LIVE:
            assert have == expected
        else:
            assert have.items() <= expected.items()
        for key in have:
            del found[key]
    assert not found, "tags of a version that there is not"


async def assert_events_tell_the_rows(world: World) -> None:
    """As many events as changes, neither more nor less."""
    actions = Counter(event["action"] for event in await world.events())
    members = await world.fetch("SELECT id FROM member")
    erased = await world.fetch("SELECT member_id FROM member_gate WHERE state = 'erased'")
    assert actions["member.register"] + actions["member.import"] == len(members)
    assert actions["member.erase"] == len(erased)
    decisions = await world.fetch("SELECT decision, audit_id FROM consent_event")
    for decision in ("given", "refused", "withdrawn"):
        told = [row for row in decisions if row["decision"] == decision]
        assert actions[f"consent.{decision}"] == len(told)
    events = {row["id"] for row in await world.fetch("SELECT id FROM audit_event")}
    assert {row["audit_id"] for row in decisions} <= events
    created = await world.fetch("SELECT id FROM outbox WHERE topic = 'member.created'")
    assert len(created) == len(members)


async def assert_consent_is_its_history(world: World) -> None:
    """The stored state of each purpose and channel is its newest event."""
    latest: dict[tuple[str, str, str], tuple[str, str]] = {}
    for row in await world.fetch("SELECT * FROM consent_event ORDER BY at_us, id"):
        place = row["member_id"], row["purpose"], row["channel"]
        latest[place] = row["decision"], row["id"]
    states = {
        (row["member_id"], row["purpose"], row["channel"]): (row["status"], row["event_id"])
        for row in await world.fetch("SELECT * FROM consent_state")
    }
    assert states == latest


async def assert_import_is_exact(world: World, rows: int, accepted: int) -> None:
    """Each row of the one import has one outcome, each accepted one a member of its own."""
    stored = await world.fetch("SELECT row_no, outcome, member_id FROM import_row")
    assert sorted(row["row_no"] for row in stored) == list(range(1, rows + 1))
    members = [row["member_id"] for row in stored if row["outcome"] == "accepted"]
    assert len(members) == len(set(members)) == accepted
    assert {row["id"] for row in await world.fetch("SELECT id FROM member")} == set(members)
