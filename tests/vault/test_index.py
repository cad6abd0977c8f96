"""Blind indexes: one value has one tag for each kind and version, and only identifiers have any."""

import pytest

from kernel import ConflictError
from members.identifiers import identifier
from service.kms import open_ring
from tests.support.world import open_world, recorded
from vault import INDEXED_KINDS, Identifier, Indexes, IndexState, IndexVersion, KeyRingError
from vault.index import BlindIndex, harden, secret_name, version_of_secret

pytestmark = pytest.mark.anyio

SECRET = bytes(range(32))
PHONE = "+66812345678"


@pytest.fixture
async def quiet(settings):
    async with open_world(settings, background=False) as world:
        yield world


# --- tags -----------------------------------------------------------------------------


def test_one_value_has_one_tag_for_each_kind_and_version_and_no_other():
    tags = {
        (kind, version): BlindIndex(SECRET, version).tag(kind, PHONE)
        for kind in INDEXED_KINDS
        for version in (1, 2, 300)
    }
    assert len(set(tags.values())) == len(tags)
    assert {len(tag) for tag in tags.values()} == {16}
    assert BlindIndex(SECRET, 2).tag("phone", PHONE) == tags["phone", 2]
    assert BlindIndex(SECRET).tag("phone", PHONE) == tags["phone", 1]
    assert BlindIndex(SECRET).tag("phone", PHONE[:-1]) != tags["phone", 1]
    assert BlindIndex(SECRET[::-1]).tag("phone", PHONE) != tags["phone", 1]


@pytest.mark.parametrize(
    "kind", ["name", "given_name", "birth_date", "gender", "tier", "address", ""]
)
def test_what_is_guessable_gets_no_tag(kind):
    with pytest.raises(KeyError):
        BlindIndex(SECRET).tag(kind, "x")


def test_an_identifier_does_not_print_its_value():
    assert PHONE not in repr(identifier("phone", PHONE))


async def test_only_identifiers_have_a_tag_in_the_database(quiet):
    crm = await quiet.app()
    await crm.register(
        given_name="สมหญิง", phone="081-111-1111", email="a@example.com", gender="female",
        birth_date="1990-01-01", card_no="Y-1",
    )  # fmt: skip
    tags = await quiet.fetch("SELECT kind, field FROM vault_tag")
    assert {(tag["kind"], tag["field"]) for tag in tags} == {
        ("phone", "phone"),
        ("email", "email"),
        ("card_no", "card_no"),
    }


async def test_the_database_holds_no_tag_that_a_guess_without_the_ring_could_meet(quiet):
    crm = await quiet.app()
    await crm.register(phone="081-111-1111")
    ring = open_ring(quiet.settings)
    stored = {bytes(row["tag"]) for row in await quiet.fetch("SELECT tag FROM vault_tag")}
    assert stored == {BlindIndex(ring.secret("index")).tag("phone", "+66811111111")}
    others = {name: value for name, value in ring.secrets().items() if name != "index"}
    for value in others.values():
        assert stored.isdisjoint({BlindIndex(value).tag("phone", "+66811111111")})


def test_a_hardened_form_is_the_ring_s_own():
    one = harden("1101700230708", "ring_a")
    assert len(one) == 64
    assert one == harden("1101700230708", "ring_a")
    assert one != harden("1101700230708", "ring_b")
    assert one != harden("1101700230709", "ring_a")


# --- the suppression list -------------------------------------------------------------


async def test_the_tag_of_the_suppression_list_lies_sealed_beside_the_index(quiet):
    crm = await quiet.app()
    member_id = await quiet.member_id(await crm.register(phone="081-111-1111"))
    vault = quiet.runtime.vault
    async with quiet.runtime.database.read() as session:
        tags = await vault.suppression_tags(session, member_id)
    assert tags == [("phone", vault.tags.suppression_tag(identifier("phone", "+66811111111")))]
    row = (await quiet.fetch("SELECT tag, suppression FROM vault_tag"))[0]
    assert tags[0][1] not in bytes(row["suppression"])
    assert tags[0][1] != bytes(row["tag"])


async def test_a_sealed_suppression_tag_opens_in_its_own_row_only(quiet):
    crm = await quiet.app()
    one = await quiet.member_id(await crm.register(phone="081-111-1111"))
    await crm.register(phone="082-222-2222")
    rows = await quiet.fetch("SELECT owner_id, suppression FROM vault_tag")
    other = next(bytes(row["suppression"]) for row in rows if row["owner_id"] != one)
    await quiet.execute(
        "UPDATE vault_tag SET suppression = :cell WHERE owner_id = :one", cell=other, one=one
    )
    from vault import UnreadableError

    async with quiet.runtime.database.read() as session:
        with pytest.raises(UnreadableError):
            await quiet.runtime.vault.suppression_tags(session, one)


# --- versions -------------------------------------------------------------------------


def test_a_kind_without_a_row_is_at_its_first_version():
    indexes = Indexes(0, [])
    assert indexes.stored == frozenset()
    for kind in INDEXED_KINDS:
        assert indexes.live(kind) == IndexVersion(kind, 1, 1, IndexState.LIVE)
        assert indexes.written(kind) == [indexes.live(kind)]
    assert indexes.secrets() == {"index"}
    assert indexes.unfinished() == []


def test_an_old_version_is_neither_asked_nor_written_and_its_key_is_still_needed():
    old = IndexVersion("phone", 1, 1, IndexState.OLD)
    live = IndexVersion("phone", 2, 1, IndexState.LIVE)
    indexes = Indexes(3, [live, old])
    assert indexes.live("phone") == live
    assert indexes.written("phone") == [live]
    assert indexes.unfinished() == [old]
    assert indexes.secrets() == {"index", "index/2"}


def test_a_version_being_filled_is_written_and_not_asked():
    live = IndexVersion("phone", 1)
    filling = IndexVersion("phone", 2, 1, IndexState.FILLING)
    indexes = Indexes(1, [filling, live])
    assert indexes.live("phone") == live
    assert indexes.written("phone") == [live, filling]


def test_the_next_version_of_any_kind_has_a_number_and_so_a_key_that_none_had():
    phone = IndexVersion("phone", 3, 1, IndexState.LIVE)
    planned = Indexes(0, [phone]).next(["email", "card_no"], {"email": 2, "card_no": 1})
    assert planned == [
        IndexVersion("card_no", 4, 1, IndexState.FILLING),
        IndexVersion("email", 4, 2, IndexState.FILLING),
    ]
    assert {one.secret_name for one in planned} == {"index/4"}


def test_no_re_index_begins_while_another_is_unfinished():
    filling = IndexVersion("phone", 2, 1, IndexState.FILLING)
    with pytest.raises(ConflictError):
        Indexes(0, [IndexVersion("phone"), filling]).next(["email"], {"email": 1})


def test_names_of_secrets_say_their_version():
    assert [secret_name(version) for version in (1, 2, 30)] == ["index", "index/2", "index/30"]
    names = ("index", "index/2", "index/30", "suppression", "digest")
    assert [version_of_secret(name) for name in names] == [1, 2, 30, None, None]


async def test_a_version_whose_secret_is_lost_is_refused_and_not_made_up(quiet):
    async with recorded(quiet.runtime.database) as work:
        await quiet.runtime.vault.tags.begin(
            work, [IndexVersion("phone", 7, 1, IndexState.FILLING)]
        )
    crm = await quiet.app()
    answer = await crm.post(
        "/v1/members",
        {
            "brand": "main",
            "jurisdiction": "TH",
            "formats": {"phone_region": "TH"},
            "fields": {"phone": "081-111-1111"},
            "consents": [],
        },
    )
    assert answer.status_code >= 500
    assert await quiet.fetch("SELECT * FROM member") == []
    async with quiet.runtime.database.read() as session:
        with pytest.raises(KeyRingError, match="index/7"):
            await quiet.runtime.vault.tags.tags(
                session, Identifier("phone", lambda _version: PHONE)
            )
