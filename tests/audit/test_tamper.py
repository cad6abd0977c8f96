"""The tamper matrix: what somebody with the database in hand can do to the log, and who catches it.

Every mutation is made by a forger who knows the formats and carries his change on as far as it
says (tests/support/trail.py), on SQLite and on PostgreSQL, and is shown to the detectors that a
user has: the command line on the database, and for what no database can know of itself, a
checkpoint kept from before and a witness. What nothing can catch is tested to be so, too.
"""

import asyncio
import base64
import json
import sqlite3
from dataclasses import dataclass

import asyncpg
import pytest

from audit.manifest import manifest_of
from audit.merkle import leaf_hash
from audit.note import Checkpoint, Signer, sign_checkpoint
from tests.support.trail import (
    BULK,
    SIZES,
    TABLES,
    WITNESS,
    export,
    flip,
    places,
    read_trail,
    write_event,
)
from tests.support.world import execute, fetch, open_world

HERE = 300
"""The event that is tampered with, in the middle of the second tile."""
SIZE = SIZES[-1]
INSIDE, OUTSIDE = {}, {}


@dataclass(frozen=True)
class Mutation:
    """What is done, which check is to say so, and of which event."""

    change: object
    check: str
    index: int | None


def caught_inside(check, index=HERE):
    """A mutation that `yinyom audit verify --db` finds with nothing but the key."""

    def note_down(change):
        INSIDE[change.__name__] = Mutation(change, check, index)
        return change

    return note_down


def caught_outside(check, index, witness):
    """A mutation that only somebody finds who kept something outside of the database."""

    def note_down(change):
        OUTSIDE[change.__name__] = (Mutation(change, check, index), witness)
        return change

    return note_down


def somebody(trail):
    """A signer of the attacker's own, under the log's name."""
    return Signer.from_seed(trail.stage.settings.audit.origin, bytes(32))


# --- events ---------------------------------------------------------------------------


@caught_inside("entry")
def edit_an_event(trail):
    trail.edit(HERE)


@caught_inside("rewritten", 256)
def edit_an_event_its_leaf_and_its_tile(trail):
    trail.edit(HERE)
    trail.rehash()
    before = trail.tile(0, 1)["data"]
    at = HERE % 256 * 32
    leaf = trail.leaves[HERE]["leaf_hash"]
    trail.tile(0, 1)["data"] = before[:at] + leaf + before[at + 32 :]


@caught_inside("entry")
def edit_an_event_and_its_leaf(trail):
    trail.edit(HERE)
    trail.rehash()


@caught_inside("root", None)
def edit_an_event_and_every_hash_above_it(trail):
    trail.edit(HERE)
    trail.rehash()
    trail.grow_tiles()


@caught_inside("signature", None)
def edit_an_event_and_sign_with_another_key(trail):
    trail.edit(HERE)
    trail.sign(somebody(trail))


@caught_inside("entry")
def write_an_event_anew_with_the_same_meaning(trail):
    row = trail.event(HERE)
    row["body"] = json.dumps(json.loads(row["body"])).encode()


@caught_inside("entry")
def spoil_an_event(trail):
    trail.event(HERE)["body"] = b"\xff{"


@caught_inside("entry")
def empty_an_event(trail):
    trail.event(HERE)["body"] = b""


@caught_inside("entry", 0)
def edit_the_first_event(trail):
    trail.edit(0)


@caught_inside("entry", SIZE - 1)
def edit_the_last_event(trail):
    trail.edit(SIZE - 1)


@caught_inside("entry", 100)
def swap_the_bodies_of_two_events(trail):
    one, other = trail.event(100), trail.event(HERE)
    one["body"], other["body"] = other["body"], one["body"]


@caught_inside("gone")
def delete_an_event(trail):
    gone = trail.leaves[HERE]["event_id"]
    trail.rows["audit_event"] = [row for row in trail.rows["audit_event"] if row["id"] != gone]


@caught_inside("gone")
def delete_an_event_and_its_leaf(trail):
    delete_an_event(trail)
    del trail.leaves[HERE]


@caught_inside("leaf")
def delete_an_event_and_close_the_gap(trail):
    """Everybody behind it moves up, into the leaves that the true tiles know."""
    trail.remove(HERE)


@caught_inside("root", None)
def delete_an_event_and_every_trace(trail):
    """As many events as before, or the checkpoint would not count right."""
    trail.remove(HERE)
    trail.append(1)
    trail.rehash()
    trail.grow_tiles()


@caught_inside("head", None)
def delete_an_event_and_sign_with_another_key(trail):
    trail.remove(HERE)
    trail.sign(somebody(trail))
    trail.rows["audit_head"][0]["size"] = SIZE


@caught_inside("root", None)
def insert_an_event_among_old_ones(trail):
    trail.append(1)
    trail.leaves.insert(HERE, trail.leaves.pop())
    trail.remove(SIZE)
    trail.rehash()
    trail.grow_tiles()


@caught_inside("leaf", None)
def add_an_event_to_the_end(trail):
    trail.append(1)
    trail.rehash()


# --- leaves ---------------------------------------------------------------------------


@caught_inside("entry", 100)
def swap_two_leaves(trail):
    one, other = trail.leaves[100], trail.leaves[HERE]
    for name in ("event_id", "leaf_hash"):
        one[name], other[name] = other[name], one[name]


@caught_inside("root", None)
def swap_two_leaves_and_every_hash_above_them(trail):
    swap_two_leaves(trail)
    trail.grow_tiles()


@caught_inside("leaf")
def edit_a_leaf(trail):
    trail.leaves[HERE]["leaf_hash"] = flip(trail.leaves[HERE]["leaf_hash"])


@caught_inside("leaf")
def cut_a_leaf_to_31_bytes(trail):
    trail.leaves[HERE]["leaf_hash"] = trail.leaves[HERE]["leaf_hash"][:31]


@caught_inside("entry")
def repeat_a_leaf_over_its_neighbour(trail):
    """The event before it stands there twice, under an id of its own the second time."""
    row = dict(trail.event(HERE - 1)) | {"id": trail.event(HERE)["id"][:-4] + "zzzz"}
    trail.rows["audit_event"].append(row)
    trail.leaves[HERE] |= {"event_id": row["id"], "leaf_hash": leaf_hash(row["body"])}


@caught_inside("leaf", None)
def shift_the_places_behind_an_event(trail):
    for leaf in trail.leaves[HERE:]:
        leaf["leaf_index"] += 1


@caught_inside("gone", SIZE - 1)
def drop_the_last_leaf(trail):
    trail.leaves.pop()


@caught_inside("leaf", None)
def plant_a_leaf_beyond_the_end(trail):
    leaf = {"leaf_index": SIZE, "event_id": "evt_planted", "leaf_hash": bytes(32)}
    trail.leaves.append(leaf)


# --- tiles ----------------------------------------------------------------------------


@caught_inside("tile")
def edit_a_tile_of_leaves(trail):
    tile = trail.tile(0, 1)
    tile["data"] = flip(tile["data"], HERE % 256 * 32)


@caught_inside("tile", 512)
def edit_the_tile_at_the_edge(trail):
    tile = trail.tile(0, 2)
    tile["data"] = flip(tile["data"])


@caught_inside("tile", 256)
def edit_a_tile_of_the_level_above(trail):
    tile = trail.tile(1, 0)
    tile["data"] = flip(tile["data"], 40)


@caught_inside("tile", 256)
def cut_a_tile_by_a_hash(trail):
    tile = trail.tile(0, 1)
    tile["data"] = tile["data"][:-32]


@caught_inside("tile", 512)
def cut_a_tile_within_a_hash(trail):
    tile = trail.tile(0, 2)
    tile["data"] = tile["data"][:-1]


@caught_inside("tile", 256)
def delete_a_tile(trail):
    trail.rows["audit_tile"].remove(trail.tile(0, 1))


@caught_inside("tile", None)
def add_a_tile_that_a_log_of_this_size_has_not_got(trail):
    trail.rows["audit_tile"].append({"level": 0, "n": 3, "data": bytes(32)})


@caught_inside("tile", None)
def lengthen_the_tile_at_the_edge(trail):
    trail.tile(0, 2)["data"] += bytes(32)


@caught_inside("tile", 0)
def swap_two_tiles(trail):
    one, other = trail.tile(0, 0), trail.tile(0, 1)
    one["data"], other["data"] = other["data"], one["data"]


# --- head and checkpoints -------------------------------------------------------------


@caught_inside("checkpoint", None)
def count_one_event_less_in_the_checkpoint(trail):
    newest = trail.checkpoints[-1]
    newest["note"] = newest["note"].replace(f"\n{SIZE}\n", f"\n{SIZE - 1}\n")


@caught_inside("signature", None)
def edit_the_root_in_the_checkpoint(trail):
    newest = trail.checkpoints[-1]
    text = newest["note"].split("\n")[2]
    other = base64.b64encode(flip(base64.b64decode(text))).decode()
    newest |= {"note": newest["note"].replace(text, other), "root": base64.b64decode(other)}


@caught_inside("checkpoint", None)
def cut_the_root_in_the_checkpoint_to_31_bytes(trail):
    newest = trail.checkpoints[-1]
    text = newest["note"].split("\n")[2]
    short = base64.b64encode(base64.b64decode(text)[:31]).decode()
    newest["note"] = newest["note"].replace(text, short)


@caught_inside("checkpoint", None)
def edit_the_root_beside_the_checkpoint(trail):
    newest = trail.checkpoints[-1]
    newest["root"] = flip(newest["root"])


@caught_inside("signature", None)
def edit_the_signature(trail):
    newest = trail.checkpoints[-1]
    text, _, signature = newest["note"].rpartition(" ")
    bent = base64.b64encode(flip(base64.b64decode(signature), 40)).decode()
    newest["note"] = f"{text} {bent}\n"


@caught_inside("signature", None)
def sign_the_checkpoint_with_another_key(trail):
    newest = trail.checkpoints[-1]
    head = Checkpoint(trail.stage.settings.audit.origin, SIZE, newest["root"])
    newest["note"] = sign_checkpoint(head, somebody(trail))


@caught_inside("origin", None)
def sign_as_another_log(trail):
    newest = trail.checkpoints[-1]
    signer = Signer.from_seed("other.example/log", bytes(32))
    newest["note"] = sign_checkpoint(Checkpoint(signer.name, SIZE, newest["root"]), signer)


@caught_inside("checkpoint", None)
def swap_the_two_newest_checkpoints(trail):
    one, other = trail.checkpoints[-2:]
    for name in ("note", "root"):
        one[name], other[name] = other[name], one[name]


@caught_inside("head", None)
def drop_the_newest_checkpoint(trail):
    trail.checkpoints.pop()


@caught_inside("checkpoint", None)
def drop_every_checkpoint(trail):
    trail.checkpoints.clear()


@caught_inside("checkpoint", None)
def edit_an_older_checkpoint(trail):
    older = trail.checkpoints[-3]
    older["root"] = flip(older["root"])


@caught_inside("checkpoint", None)
def swap_two_older_checkpoints(trail):
    one, other = trail.checkpoints[-4:-2]
    for name in ("note", "root"):
        one[name], other[name] = other[name], one[name]


@caught_inside("head", None)
def lower_the_head(trail):
    trail.rows["audit_head"][0]["size"] -= 1


@caught_inside("head", None)
def raise_the_head(trail):
    trail.rows["audit_head"][0]["size"] += 1


@caught_inside("witness", None)
def put_a_cosignature_under_another_size(trail):
    newest, older = trail.rows["audit_cosignature"][-1], trail.rows["audit_cosignature"][0]
    assert (older["size"], newest["size"]) == (300, SIZE)
    newest["line"] = older["line"]


# --- columns that repeat what the body says -------------------------------------------


def differ(name, value):
    @caught_inside("columns")
    def change(trail):
        row = trail.event(HERE)
        assert row[name] != value
        row[name] = value

    change.__name__ = f"let_{name}_say_something_else"
    INSIDE[change.__name__] = INSIDE.pop("change")


differ("actor", "cli_other")
differ("action", "test.other")
differ("subject", "0" * 32)
differ("purpose", "membership")
differ("decision", "deny")
differ("request_id", "req_somebody_else")
differ("recorded_us", 1)


# --- rows beside an event that tells of many ---------------------------------------------


def rows_of(trail):
    return trail.rows["audit_manifest"][0]


@caught_inside("manifest", BULK)
def edit_a_row(trail):
    rows_of(trail)["rows"] = rows_of(trail)["rows"].replace(b" 1\n", b" 0\n", 1)


@caught_inside("manifest", BULK)
def put_another_member_into_a_row(trail):
    rows_of(trail)["rows"] = flip(rows_of(trail)["rows"], 31)


@caught_inside("manifest", BULK)
def drop_a_row(trail):
    rows_of(trail)["rows"] = rows_of(trail)["rows"][35:]
    trail.rows["audit_manifest_token"].pop(0)


@caught_inside("manifest", BULK)
def add_a_row(trail):
    rows_of(trail)["rows"] += b"f" * 32 + b" 1\n"
    index = trail.rows["audit_manifest_token"]
    index.append(index[-1] | {"token": "f" * 32, "place": 5})


@caught_inside("manifest", BULK)
def swap_two_rows(trail):
    rows = rows_of(trail)["rows"]
    rows_of(trail)["rows"] = rows[35:70] + rows[:35] + rows[70:]


@caught_inside("missing", BULK)
def delete_the_rows(trail):
    trail.rows["audit_manifest"].clear()
    trail.rows["audit_manifest_token"].clear()


@caught_inside("entry", BULK)
def edit_a_row_and_the_root_that_its_event_names(trail):
    edit_a_row(trail)
    event = trail.event(BULK)
    root = json.loads(event["body"])["manifest"]["root"]
    forged = manifest_of(rows_of(trail)["rows"]).root
    event["body"] = event["body"].replace(root.encode(), forged.encode())


@caught_inside("manifest")
def put_rows_beside_an_event_that_names_none(trail):
    event = {"event_id": trail.event(HERE)["id"]}
    trail.rows["audit_manifest"].append(rows_of(trail) | event)


@caught_inside("manifest", None)
def keep_rows_of_no_event(trail):
    trail.rows["audit_manifest"].append(rows_of(trail) | {"event_id": "evt_nobody"})


@caught_inside("manifest", None)
def index_a_member_under_no_event(trail):
    index = trail.rows["audit_manifest_token"]
    index.append(index[0] | {"event_id": "evt_nobody"})


@caught_inside("columns", BULK)
def hide_a_member_from_the_index(trail):
    trail.rows["audit_manifest_token"].pop()


@caught_inside("columns", BULK)
def index_a_member_who_is_in_no_row(trail):
    index = trail.rows["audit_manifest_token"]
    index.append(index[0] | {"token": "0" * 32})


@caught_inside("columns", BULK)
def lead_the_index_to_anothers_row(trail):
    trail.rows["audit_manifest_token"][0]["place"] = 3


# --- what only somebody outside can tell ------------------------------------------------


@caught_outside("rollback", 600, "witness_ahead")
def put_an_older_backup_back(trail):
    trail.cut(600)


@caught_outside("rollback", 600, "witness_ahead")
def cut_the_end_off(trail):
    trail.cut(600)
    trail.rows["audit_pending"] = []


@caught_outside("rollback", 0, "witness_ahead")
def begin_the_log_again(trail):
    for rows in trail.rows.values():
        rows.clear()


@caught_outside("fork", 0, "witness_disagrees")
def edit_an_event_with_the_stolen_key(trail):
    trail.edit(HERE)
    trail.sign(trail.stage.stolen_key)


@caught_outside("rollback", SIZE - 1, "witness_ahead")
def delete_an_event_with_the_stolen_key(trail):
    trail.remove(HERE)
    trail.sign(trail.stage.stolen_key)


@caught_outside("fork", 0, "witness_disagrees")
def insert_an_event_with_the_stolen_key(trail):
    trail.append(1)
    trail.leaves.insert(HERE, trail.leaves.pop())
    trail.number()
    trail.sign(trail.stage.stolen_key)


@caught_outside("fork", 0, "witness_disagrees")
def reorder_events_with_the_stolen_key(trail):
    swap_two_leaves(trail)
    trail.sign(trail.stage.stolen_key)


@caught_outside("fork", 0, "witness_disagrees")
def cut_the_end_off_and_grow_another_with_the_stolen_key(trail):
    trail.cut(600)
    trail.append(150)
    trail.sign(trail.stage.stolen_key)


def tamper(stage, mutation):
    async def change():
        trail = await read_trail(stage)
        mutation.change(trail)
        await trail.write()

    asyncio.run(change())


# --- the matrix -----------------------------------------------------------------------


@pytest.mark.parametrize("name", INSIDE)
def test_the_check_of_the_database_finds_a_tamper_and_names_it(stage, yinyom, name):
    mutation = INSIDE[name]
    tamper(stage, mutation)
    code, answer = yinyom("audit", "verify", "--db")
    assert (code, answer["ok"]) == (1, False)
    found = list(places(answer))
    assert (mutation.check, mutation.index) in found, answer["findings"]


@pytest.mark.parametrize("name", OUTSIDE)
def test_what_no_database_knows_of_itself_is_found_from_outside(stage, yinyom, tmp_path, name):
    """By whoever kept the newest checkpoint, and by a witness that has signed it."""
    mutation, verdict = OUTSIDE[name]
    tamper(stage, mutation)
    code, answer = yinyom("audit", "verify", "--db")
    assert (code, answer["findings"]) == (0, []), "if this finds it now, say so in the format"
    assert asyncio.run(stage.ask_the_witness()) == verdict
    bundle = tmp_path / "bundle"
    asyncio.run(export(stage, bundle))
    code, answer = yinyom("audit", "verify", bundle, "--key", stage.vkey)
    assert (code, answer["findings"]) == (0, [])
    code, answer = yinyom(
        *("audit", "verify", bundle, "--key", stage.vkey, "--old", stage.old(SIZE))
    )
    assert code == 1
    assert list(places(answer)) == [(mutation.check, mutation.index)]


def test_nothing_is_found_where_nobody_was(stage, yinyom, tmp_path):
    code, answer = yinyom("audit", "verify", "--db")
    assert (code, answer["findings"], answer["size"]) == (0, [], SIZE)
    asyncio.run(export(stage, tmp_path / "bundle"))
    for size in SIZES:
        code, answer = yinyom(
            *("audit", "verify", tmp_path / "bundle", "--key", stage.vkey),
            *("--old", stage.old(size), "--witness", WITNESS.vkey),
        )
        assert (code, answer["findings"], answer["size"]) == (0, [], SIZE)
    assert asyncio.run(stage.ask_the_witness()) == "cosigned"


def test_the_matrix_has_forty_mutations_and_more():
    assert len(INSIDE) + len(OUTSIDE) >= 60


# --- guards ---------------------------------------------------------------------------

GUARDED = {
    "update": "UPDATE {table} SET {column} = {column}",
    "delete": "DELETE FROM {table}",
    "replace": "INSERT OR REPLACE INTO {table} SELECT * FROM {table}",
    "truncate": "TRUNCATE {table}",
}


@pytest.mark.parametrize("how", GUARDED)
@pytest.mark.parametrize(
    ("table", "column"),
    [
        ("audit_event", "body"),
        ("audit_leaf", "leaf_hash"),
        ("audit_checkpoint", "note"),
        ("audit_manifest", "width"),
        ("audit_manifest_token", "place"),
    ],
)
def test_whoever_leaves_the_guards_on_changes_nothing(stage, how, table, column):
    if (how == "truncate") is not stage.settings.on_postgres and how in {"truncate", "replace"}:
        pytest.skip("not of this engine")
    asked = f"SELECT * FROM {table} ORDER BY {TABLES[table]}"
    before = asyncio.run(fetch(stage.settings, asked))
    with pytest.raises((sqlite3.DatabaseError, asyncpg.PostgresError)):
        asyncio.run(execute(stage.settings, GUARDED[how].format(table=table, column=column)))
    assert asyncio.run(fetch(stage.settings, asked)) == before


# --- what nobody can catch ------------------------------------------------------------


@pytest.mark.parametrize("way", ["removed", "edited"])
def test_an_event_changed_before_it_has_its_place_is_beyond_every_ring(stage, yinyom, way):
    """The honest limit that docs/formats/audit-log.md names: owner's rights, a part of a second."""

    async def act():
        async with open_world(stage.settings, background=False) as world:
            async with world.runtime.database.unit_of_work() as work:
                await write_event(world.runtime.audit, work, world.operator, 7)
            trail = await read_trail(stage)
            (waits,) = trail.rows["audit_pending"]
            if way == "removed":
                trail.rows["audit_pending"].clear()
                trail.rows["audit_event"].remove(trail.events[waits["event_id"]])
            else:
                trail.turn(trail.events[waits["event_id"]])
            await trail.write()

    asyncio.run(act())
    code, answer = yinyom("audit", "verify", "--db")
    assert (code, answer["findings"]) == (0, [])
    assert answer["size"] == (SIZE if way == "removed" else SIZE + 1)


def test_an_event_that_the_application_never_wrote_is_beyond_every_ring(stage, yinyom):
    async def plant():
        trail = await read_trail(stage)
        row = dict(trail.event(HERE))
        planted = row["id"][:-4] + "zzzz"
        row |= {"id": planted, "body": row["body"].replace(row["id"].encode(), planted.encode())}
        trail.rows["audit_event"].append(row)
        trail.rows["audit_pending"].append({"event_id": planted})
        await trail.write()

    asyncio.run(plant())
    code, answer = yinyom("audit", "verify", "--db")
    assert (code, answer["findings"]) == (0, [])
    assert answer["size"] > SIZE
