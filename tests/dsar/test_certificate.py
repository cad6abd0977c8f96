"""The certificate: what it says, that strangers can check it, that no byte of it can be changed."""

import json

import pytest
from hypothesis import given
from hypothesis import settings as given_settings
from hypothesis import strategies as st

from audit.merkle import leaf_hash
from audit.note import Checkpoint, Signer, sign_checkpoint, sign_note
from dsar import CertificateError, RequestStateError, Right, verify_certificate
from dsar.certificate import FORMAT, ProvenEvent, write_certificate
from kernel import UnavailableError
from tests.support.requests import Desk, staff

pytestmark = pytest.mark.anyio

SIGNER = Signer.from_seed("test.example/log", bytes(range(32)))
REQUEST = "rr_01m834me6af2pbfz0y2mwcs81r"


def issued(entry=None, body=None, resource=f"rights_request:{REQUEST}"):
    """A certificate of a log of one event, signed with a key of the test's."""
    recorded = entry or json.dumps(
        {"id": "evt_1", "action": "rights_request.fulfil", "resource": resource}
    )
    checkpoint = Checkpoint(SIGNER.name, 1, leaf_hash(recorded.encode()))
    event = ProvenEvent(
        "decision", "evt_1", recorded.encode(), 0, (), sign_checkpoint(checkpoint, SIGNER)
    )
    text = write_certificate(body or {"request": {"id": REQUEST}, "results": []}, [event])
    return sign_note(text, SIGNER)


NOTE = issued()


def test_a_certificate_as_issued_is_accepted():
    assert verify_certificate(NOTE, SIGNER.vkey)["request"]["id"] == REQUEST


@given_settings(max_examples=400)
@given(st.integers(0, len(NOTE.encode()) - 1), st.integers(1, 255))
def test_a_certificate_with_any_byte_changed_is_refused(place, change):
    raw = bytearray(NOTE.encode())
    raw[place] ^= change
    try:
        changed = raw.decode()
    except UnicodeDecodeError:
        return
    with pytest.raises(CertificateError):
        verify_certificate(changed, SIGNER.vkey)


@pytest.mark.parametrize(
    "note",
    [
        "",
        NOTE[:-1],
        NOTE + "x",
        NOTE + NOTE.splitlines(keepends=True)[-1],
        NOTE.replace(FORMAT, "yinyom-certificate/1"),
        issued(resource="rights_request:rr_01m834me6af2pbfz0y2mwcs81z"),
        issued(body={"results": []}),
        sign_note(f"{FORMAT}\n[]\n", SIGNER),
        sign_note(f"{FORMAT}\nnot json\n", SIGNER),
        sign_note(f'{FORMAT}\n{{"events": []}}\n', SIGNER),
        sign_note(f"{FORMAT}\n", SIGNER),
    ],
)
def test_what_only_looks_like_a_certificate_is_refused(note):
    with pytest.raises(CertificateError):
        verify_certificate(note, SIGNER.vkey)


def test_another_logs_key_proves_nothing():
    other = Signer.from_seed("test.example/log", bytes(range(1, 33)))
    for key in (other.vkey, "no key", ""):
        with pytest.raises(CertificateError):
            verify_certificate(NOTE, key)


def test_an_event_that_is_not_in_the_signed_tree_proves_nothing():
    entry = json.dumps({"id": "evt_1", "resource": f"rights_request:{REQUEST}", "action": "x"})
    checkpoint = Checkpoint(SIGNER.name, 1, leaf_hash(b"something else"))
    event = ProvenEvent(
        "decision", "evt_1", entry.encode(), 0, (), sign_checkpoint(checkpoint, SIGNER)
    )
    note = sign_note(write_certificate({"request": {"id": REQUEST}}, [event]), SIGNER)
    with pytest.raises(CertificateError, match="not proven"):
        verify_certificate(note, SIGNER.vkey)


@pytest.fixture
async def erased(world):
    crm, desk = await world.app(), Desk(world)
    member = await crm.register(given_name="สมหญิง", phone="081-234-5678")
    member_id = await world.member_id(member)
    request = await desk.open(member_id, Right.ERASURE)
    await desk.prove(request)
    done = await desk.do("fulfil", staff(), request.id)
    await world.runtime.sequencer.drain()
    return desk, member, member_id, done


async def test_an_erasure_is_certified_with_what_became_of_each_field(erased):
    desk, _, _, done = erased
    note = await desk.rights.certificate(done.id)
    said = verify_certificate(note, desk.world.runtime.audit.vkey)
    assert {one["what"]: one["result"] for one in said["results"]}["given_name"] == "erased"
    assert said["decision"]["state"] == "fulfilled"
    assert said["decision"]["in_time"] is True
    assert said["erasure"]["keys_destroyed"] >= 1
    assert said["erasure"]["backups"] == {"state": "no_backups"}
    assert [one["stands_for"] for one in said["events"]] == ["decision", "erasure"]
    assert said["request"]["clock"]["law"] == "PDPC Notification on erasure 2024"


async def test_a_certificate_names_nobody(erased):
    desk, member, member_id, done = erased
    note = await desk.rights.certificate(done.id)
    for secret in (member.id, member_id, member.point("phone"), "สมหญิง", "812345678"):
        assert secret not in note


async def test_it_is_still_issued_after_the_pseudonym_key_has_died(erased):
    desk, _, member_id, done = erased
    await desk.world.execute("DELETE FROM vault_key WHERE owner_id = :m", m=member_id)
    note = await desk.rights.certificate(done.id)
    assert verify_certificate(note, desk.world.runtime.audit.vkey)


async def test_a_refusal_is_certified_with_its_law_and_where_to_complain(world):
    crm, desk = await world.app(), Desk(world)
    member_id = await world.member_id(await crm.register(phone="081-234-5678"))
    request = await desk.open(member_id, Right.ACCESS)
    await desk.do("refuse", staff(), request.id, "third_party")
    await desk.do("refuse", staff(), request.id, "third_party")
    await world.runtime.sequencer.drain()
    said = verify_certificate(await desk.rights.certificate(request.id), world.runtime.audit.vkey)
    assert said["decision"]["reason"] == "third_party"
    assert said["decision"]["law"] == "PDPA s.30 para 2, s.31 para 3"
    assert "PDPC" in said["complain_to"]["en"]


async def test_what_is_not_decided_is_not_certified(world):
    crm, desk = await world.app(), Desk(world)
    member_id = await world.member_id(await crm.register(phone="081-234-5678"))
    request = await desk.open(member_id, Right.ACCESS)
    with pytest.raises(RequestStateError):
        await desk.rights.certificate(request.id)


async def test_no_certificate_before_the_log_has_signed_its_event(sqlite_settings):
    from tests.support.world import open_world

    async with open_world(sqlite_settings, background=False) as world:
        crm, desk = await world.app(), Desk(world)
        member_id = await world.member_id(await crm.register(phone="081-234-5678"))
        request = await desk.open(member_id, Right.OBJECTION)
        with pytest.raises(UnavailableError) as refused:
            await desk.rights.certificate(request.id)
        assert refused.value.reason == "not_sequenced"
        await world.runtime.sequencer.drain()
        assert await desk.rights.certificate(request.id)


async def test_the_log_signs_no_statement_that_could_be_a_checkpoint(world):
    with pytest.raises(Exception, match="first line"):
        world.runtime.audit.sign(f"{world.runtime.audit.origin}\n5\nAAAA\n")
