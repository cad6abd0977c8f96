"""Member keys in the database: bound to owner, kind, version and bucket; opened for a ticket."""

import copy
import itertools
import pickle

import msgpack
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from audit import AuditEvent
from audit.errors import EventError
from kernel import NotAllowedError, new_id
from service.kms import open_ring
from tests.support.world import open_world, recorded
from vault import (
    ORDINARY,
    PSEUDONYM,
    AccessTicket,
    FileKeyProvider,
    UnreadableError,
    Vault,
    create_key_ring,
    owner_key,
    repository,
)
from vault import service as vault_service

pytestmark = pytest.mark.anyio

KINDS = (ORDINARY, PSEUDONYM, "fiscal")


@pytest.fixture
async def quiet(settings):
    async with open_world(settings, background=False) as world:
        yield world


async def make(world, kinds=KINDS):
    owner = new_id("mem")
    async with recorded(world.runtime.database) as work:
        return owner, await world.runtime.vault.make_keys(work, owner, kinds)


async def stored(world, owner):
    async with world.runtime.database.read() as session:
        return {key.kind: key for key in await repository.keys_of(session, owner)}


async def load(world):
    """Have the bucket keys in RAM, as `unwrap` needs them."""
    owner, _ = await make(world, (ORDINARY,))
    async with world.runtime.database.read() as session:
        await world.runtime.vault.keys_of(session, owner)


def ticket(owner, *fields):
    return AccessTicket("evt_x", owner, frozenset(fields))


# --- wrapped keys ---------------------------------------------------------------------


async def test_every_flipped_bit_of_a_wrapped_member_key_is_refused(quiet):
    owner, _ = await make(quiet)
    await load(quiet)
    key = (await stored(quiet, owner))[ORDINARY]
    vault = quiet.runtime.vault
    for bit in range(8 * len(key.wrapped)):
        changed = bytearray(key.wrapped)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(UnreadableError):
            vault.unwrap(key._replace(wrapped=bytes(changed)))
    for length in range(len(key.wrapped)):
        with pytest.raises(UnreadableError):
            vault.unwrap(key._replace(wrapped=key.wrapped[:length]))


async def test_a_wrapped_key_opens_for_its_owner_kind_and_version_only(quiet):
    hers, _ = await make(quiet)
    his, _ = await make(quiet)
    await load(quiet)
    vault = quiet.runtime.vault
    key = (await stored(quiet, hers))[ORDINARY]
    assert vault.unwrap(key).kind == ORDINARY
    for change in (
        {"owner_id": his},
        {"kind": PSEUDONYM},
        {"kind": "fiscal"},
        {"version": 2},
        {"bucket": 1},
        {"bucket_version": 2},
    ):
        with pytest.raises(UnreadableError):
            vault.unwrap(key._replace(**change))


async def test_wrapped_keys_that_changed_places_open_nothing(quiet):
    hers, _ = await make(quiet)
    his, _ = await make(quiet)
    await load(quiet)
    vault = quiet.runtime.vault
    keys = [*(await stored(quiet, hers)).values(), *(await stored(quiet, his)).values()]
    for one, other in itertools.permutations(keys, 2):
        with pytest.raises(UnreadableError):
            vault.unwrap(one._replace(wrapped=other.wrapped))


async def test_another_ring_another_tenant_and_a_lost_bucket_open_nothing(quiet, tmp_path):
    owner, _ = await make(quiet)
    database = quiet.runtime.database
    other = create_key_ring(
        tmp_path / "o" / "ring", FileKeyProvider.create(tmp_path / "o" / "root"), "main"
    )
    elsewhere = Vault(open_ring(quiet.settings))
    elsewhere._tenant = "elsewhere"
    for vault in (Vault(other), elsewhere):
        async with database.read() as session:
            with pytest.raises(UnreadableError):
                await vault.keys_of(session, owner)
    await quiet.execute("UPDATE vault_bucket SET version = 2")
    async with database.read() as session:
        with pytest.raises(UnreadableError):
            await Vault(open_ring(quiet.settings)).keys_of(session, owner)


async def test_a_key_whose_bucket_is_not_loaded_is_refused_and_not_guessed(quiet):
    owner, _ = await make(quiet)
    key = (await stored(quiet, owner))[ORDINARY]
    with pytest.raises(UnreadableError):
        Vault(open_ring(quiet.settings)).unwrap(key)


async def test_only_the_pseudonym_key_leaves_the_vault_and_no_key_prints_itself(quiet):
    _, keys = await make(quiet)
    assert len(keys[PSEUDONYM].secret) == 32
    for kind in (ORDINARY, "fiscal"):
        with pytest.raises(NotAllowedError):
            _ = keys[kind].secret
    for kind, key in keys.items():
        assert repr(key) == str(key) == f"<key {kind} of {key.owner_id}>"
        with pytest.raises(NotAllowedError):
            pickle.dumps(key)
        with pytest.raises(NotAllowedError):
            copy.deepcopy(key)


async def test_the_buffer_of_a_key_is_overwritten_when_its_cipher_is_made(quiet, monkeypatch):
    owner, _ = await make(quiet)
    await load(quiet)
    key = (await stored(quiet, owner))[ORDINARY]
    seen = []

    def watching(secret):
        seen.append((bytes(secret), secret))
        return AESGCM(secret)

    monkeypatch.setattr(vault_service, "AESGCM", watching)
    monkeypatch.setattr(owner_key, "AESGCM", watching)
    vault = quiet.runtime.vault
    opened = vault.unwrap(key)
    cells = vault.seal(opened, "member", owner, {"phone": "1"})
    assert vault.open_many("member", [(ticket(owner, "phone"), key, owner, cells)]) == [
        {"phone": "1"}
    ]
    assert len(seen) == 2
    for once, now in seen:
        assert any(once)
        assert now == bytes(32)


# --- swapped cells --------------------------------------------------------------------


async def test_cells_swapped_in_the_database_are_answered_by_an_error_not_by_a_person(settings):
    async with open_world(settings) as world:
        crm = await world.app()
        one = await crm.register(given_name="สมหญิง", family_name="ใจดี", phone="081-111-1111")
        two = await crm.register(given_name="สมชาย", family_name="รักดี", phone="082-222-2222")
        ids = [await world.member_id(each) for each in (one, two)]
        rows = [
            (await world.fetch("SELECT cells FROM member WHERE id = :id", id=each))[0]
            for each in ids
        ]
        cells = [msgpack.unpackb(bytes(row["cells"])) for row in rows]

        async def put(member_id, changed):
            await world.execute(
                "UPDATE member SET cells = :cells WHERE id = :id",
                cells=msgpack.packb(changed),
                id=member_id,
            )

        swaps = {
            "another member's name": cells[0] | {"given_name": cells[1]["given_name"]},
            "another field": cells[0]
            | {"given_name": cells[0]["family_name"], "family_name": cells[0]["given_name"]},
            "the whole row": cells[1],
        }
        for name, changed in swaps.items():
            await put(ids[0], changed)
            answer = await crm.view(one, fields="given_name")
            assert (answer.status_code, answer.json()["type"].rpartition("/")[2]) == (
                500,
                "unreadable",
            ), name
            assert "สมชาย" not in answer.text
            assert "ใจดี" not in answer.text
        await put(ids[0], cells[0])
        assert (await crm.view(one, fields="given_name")).json()["data"] == {"given_name": "สมหญิง"}


async def test_keys_swapped_in_the_database_open_nothing(settings):
    async with open_world(settings) as world:
        crm = await world.app()
        one = await crm.register(phone="081-111-1111")
        two = await crm.register(phone="082-222-2222")
        ids = [await world.member_id(each) for each in (one, two)]
        keys = await world.fetch(
            "SELECT owner_id, wrapped FROM vault_key WHERE kind = 'ordinary' ORDER BY owner_id"
        )
        assert [key["owner_id"] for key in keys] == sorted(ids)
        for owner, other in ((keys[0], keys[1]), (keys[1], keys[0])):
            await world.execute(
                "UPDATE vault_key SET wrapped = :wrapped "
                "WHERE owner_id = :owner AND kind = 'ordinary'",
                wrapped=bytes(other["wrapped"]),
                owner=owner["owner_id"],
            )
        for member in (one, two):
            assert (await crm.view(member, fields="given_name")).status_code == 500


# --- tickets --------------------------------------------------------------------------


class Watched:
    """Notices whether anything was decrypted."""

    def __init__(self, monkeypatch):
        self.opened = 0
        genuine = vault_service.open_many

        def counting(*details):
            self.opened += 1
            return genuine(*details)

        monkeypatch.setattr(vault_service, "open_many", counting)


async def test_without_a_fitting_ticket_nothing_is_decrypted(quiet, monkeypatch):
    owner, keys = await make(quiet)
    other, _ = await make(quiet)
    vault = quiet.runtime.vault
    values = {"given_name": "สมหญิง", "phone": "+66812345678"}
    cells = vault.seal(keys[ORDINARY], "member", owner, values)
    watched = Watched(monkeypatch)
    for wrong in (
        ticket(other, *values),
        ticket(owner),
        ticket(owner, "given_name"),
        ticket(owner, "given_name", "phone.2"),
        ticket("", *values),
        None,
        ("evt_x", owner, frozenset(values)),
    ):
        with pytest.raises(NotAllowedError):
            vault.open(wrong, keys[ORDINARY], "member", owner, cells)
    assert watched.opened == 0
    key = (await stored(quiet, owner))[ORDINARY]
    for wrong in (ticket(other, *values), ticket(owner, "phone"), None):
        with pytest.raises(NotAllowedError):
            vault.open_many("member", [(wrong, key, owner, cells)])
    assert watched.opened == 0
    assert vault.open(ticket(owner, *values), keys[ORDINARY], "member", owner, cells) == values


async def test_a_ticket_covers_no_cell_of_another_owner_under_a_key_of_the_first(quiet):
    hers, her_keys = await make(quiet)
    his, his_keys = await make(quiet)
    vault = quiet.runtime.vault
    cells = vault.seal(his_keys[ORDINARY], "member", his, {"phone": "1"})
    for key, row in itertools.product((her_keys[ORDINARY], his_keys[ORDINARY]), (hers, his)):
        with pytest.raises((NotAllowedError, UnreadableError)):
            vault.open(ticket(hers, "phone"), key, "member", row, cells)


@pytest.mark.parametrize("decision", ["deny", None])
async def test_the_trail_gives_no_ticket_for_an_event_that_allows_nothing(quiet, decision):
    audit = quiet.runtime.audit
    event: AuditEvent = audit.draft(
        quiet.operator, "member.view", fields=("phone",), decision=decision
    )
    with pytest.raises(EventError):
        audit.ticket(event, "mem_x")


# --- digests --------------------------------------------------------------------------


async def test_another_ring_makes_other_digests(quiet, tmp_path):
    other = create_key_ring(
        tmp_path / "o" / "ring", FileKeyProvider.create(tmp_path / "o" / "root"), "main"
    )
    mine, theirs = quiet.runtime.vault, Vault(other)
    assert mine.keyed_digest("l", b"x") != theirs.keyed_digest("l", b"x")


async def test_parts_of_a_keyed_digest_cannot_run_into_each_other(quiet):
    digest = quiet.runtime.vault.keyed_digest
    made = [
        digest("ab", b"c"),
        digest("a", b"bc"),
        digest("a", b"b", b"c"),
        digest("a", b"bc", b""),
        digest("a", b"", b"bc"),
    ]
    assert len(set(made)) == len(made)
