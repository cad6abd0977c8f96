"""Break-glass: who may not, what must stand on record first, and what is left beside it."""

import asyncio
import hashlib
from dataclasses import replace

import pytest

from audit import Details, NotRecordedError, verify_stored_log
from disclosure import (
    LEAST_WORDS,
    MOST_WORDS,
    EmergencyRefusedError,
    MemberUnknownError,
    PurposeNotAllowedError,
    StaleEpochError,
)
from kernel import (
    InvalidRequestError,
    MemberId,
    NotFoundError,
    UnavailableError,
    bump_epoch,
    new_id,
)
from tests.support.emergency import CANARY, EMERGENCY, break_glass, emergency_access
from tests.support.requests import staff
from tests.support.world import DAY_US

pytestmark = pytest.mark.anyio

BREAK_GLASS = "member.break_glass"
FIELDS = {
    "given_name": "สมหญิง",
    "phone": "081-234-5678",
    "birth_date": "1992-03-12",
    "national_id": "1101700230708",
}


@pytest.fixture
async def crm(world):
    return await world.app()


@pytest.fixture
async def member(crm):
    return await crm.register(FIELDS, consents={"marketing": "sms"})


@pytest.fixture
async def member_id(world, member):
    return await world.member_id(member)


async def only_event(world):
    (event,) = await world.events(BREAK_GLASS)
    return event


async def nothing_kept(world):
    return await world.fetch("SELECT * FROM audit_detail") == []


# --- who may not ----------------------------------------------------------------------


async def test_no_other_role_than_the_officer_breaks_the_glass(world, member_id):
    for role in ("clerk", "auditor", "operator", "admin", "marketer", "app"):
        with pytest.raises(PurposeNotAllowedError) as refused:
            await break_glass(world, member_id, caller=staff(role))
        event = (await world.events(BREAK_GLASS))[-1]
        assert (event["decision"], event["reason"]) == ("deny", "role_not_allowed")
        assert (event["id"], event["actor"]["role"]) == (refused.value.audit_id, role)
    assert await nothing_kept(world)


async def test_a_field_that_no_emergency_needs_closes_the_whole_read(world, member_id):
    with pytest.raises(PurposeNotAllowedError):
        await break_glass(world, member_id, replace(EMERGENCY, fields=("phone", "national_id")))
    event = await only_event(world)
    assert (event["decision"], event["reason"]) == ("deny", "role_not_allowed")
    assert event["fields"] == ["national_id", "phone"]
    assert await nothing_kept(world)


MISSING = (
    ({"fields": ()}, "/fields"),
    ({"fields": ("phone", "shoe_size")}, "/fields"),
    ({"reason": ""}, "/reason"),
    ({"reason": "curiosity"}, "/reason"),
    ({"justification": ""}, "/justification"),
    ({"justification": " " * 50 + "x" * (LEAST_WORDS - 1) + "\n" * 50}, "/justification"),
    ({"justification": "ก" * (MOST_WORDS + 1)}, "/justification"),
)


async def test_without_fields_reason_and_justification_nothing_happens(world, member_id):
    for missing, pointer in MISSING:
        with pytest.raises(InvalidRequestError) as refused:
            await break_glass(world, member_id, replace(EMERGENCY, **missing))
        assert [problem.pointer for problem in refused.value.errors] == [pointer]
        assert "curiosity" not in str(refused.value.errors)
    assert await world.events(BREAK_GLASS) == []
    assert await nothing_kept(world)


async def test_erased_unknown_and_another_brands_members_look_the_same(world, crm, member):
    other = await world.app("there", brand="elsewhere")
    there = await world.member_id(await other.register(brand="elsewhere", phone="089-111-2222"))
    erased = await world.erase(member)
    reasons = []
    for one in (erased, there, MemberId(new_id("mem"))):
        with pytest.raises(MemberUnknownError) as refused:
            await break_glass(world, one)
        assert refused.value.reason == "member_unknown"
        reasons.append((await world.events(BREAK_GLASS))[-1]["reason"])
    assert reasons == ["member_erased", "other_brand", "member_unknown"]
    assert all("subject" not in event for event in await world.events(BREAK_GLASS))
    assert await nothing_kept(world)


async def test_where_the_law_knows_no_vital_interest_there_is_no_such_way_in(world, crm):
    there = await crm.register(jurisdiction="TW", phone="082-345-6789")
    with pytest.raises(EmergencyRefusedError) as refused:
        await break_glass(world, await world.member_id(there))
    assert refused.value.reason == "no_vital_interest"
    assert (await only_event(world))["reason"] == "no_vital_interest"


async def test_an_officer_has_so_many_a_day_and_another_officer_has_their_own(
    world, member_id, monkeypatch
):
    officer, road = staff(), emergency_access(world, a_day=2)
    for _ in range(2):
        await break_glass(world, member_id, caller=officer, road=road)
    with pytest.raises(EmergencyRefusedError) as refused:
        await break_glass(world, member_id, caller=officer, road=road)
    assert refused.value.reason == "emergencies_spent"
    denied = (await world.events(BREAK_GLASS))[-1]
    assert (denied["decision"], denied["reason"]) == ("deny", "emergencies_spent")
    assert (await break_glass(world, member_id, road=road)).values
    tomorrow = world.runtime.clock.now_us() + DAY_US
    monkeypatch.setattr(world.runtime.audit, "now_us", lambda: tomorrow)
    assert (await break_glass(world, member_id, caller=officer, road=road)).values


async def test_officers_hands_at_two_screens_do_not_pass_the_day_by(world, member_id):
    officer, road = staff(), emergency_access(world, a_day=2)
    answers = await asyncio.gather(
        *(break_glass(world, member_id, caller=officer, road=road) for _ in range(6)),
        return_exceptions=True,
    )
    assert sum(isinstance(one, EmergencyRefusedError) for one in answers) == 4
    allowed = [e for e in await world.events(BREAK_GLASS) if e["decision"] == "allow"]
    assert len(allowed) == len(await world.fetch("SELECT * FROM audit_detail")) == 2


# --- what stands on record first ------------------------------------------------------


async def test_nothing_is_opened_while_the_trail_takes_no_events(world, member_id, monkeypatch):
    opened = []
    monkeypatch.setattr(type(world.runtime.vault), "open", lambda *_: opened.append(1) or {})
    world.runtime.audit.block("audit_test")
    with pytest.raises(UnavailableError):
        await break_glass(world, member_id)
    assert opened == []
    assert await nothing_kept(world)


async def test_a_commit_that_fails_shows_nothing_and_keeps_nothing(world, member_id, monkeypatch):
    opened = []
    monkeypatch.setattr(type(world.runtime.vault), "open", lambda *_: opened.append(1) or {})
    broken = (
        "ALTER TABLE audit_detail ADD CONSTRAINT none_today CHECK (event_id = '')"
        if world.settings.on_postgres
        else "CREATE TRIGGER none_today BEFORE INSERT ON audit_detail "
        "BEGIN SELECT RAISE(ABORT, 'none today'); END"
    )
    await world.execute(broken)
    with pytest.raises(NotRecordedError) as refused:
        await break_glass(world, member_id)
    assert CANARY not in repr(refused.value)
    assert opened == []
    assert await world.events(BREAK_GLASS) == []


async def test_epochs_of_yesterday_open_nothing(world, member_id):
    await world.runtime.gatekeeper.refresh()
    epochs = world.runtime.gatekeeper.epochs()
    async with world.runtime.database.unit_of_work() as work:
        await bump_epoch(work, "policy")
    with pytest.raises(StaleEpochError):
        await emergency_access(world).open(staff(), member_id, EMERGENCY, epochs)
    assert await nothing_kept(world)


# --- what is opened -------------------------------------------------------------------


async def test_the_named_fields_are_opened_in_full_and_no_other(world, member_id):
    view = await break_glass(world, member_id)
    assert [(value.field.key, value.value) for value in view.values] == [
        ("phone", "+66812345678"),
        ("birth_date", "1992-03-12"),
    ]
    event = await only_event(world)
    assert event["id"] == view.audit_id
    assert event["fields"] == ["birth_date", "phone"]
    assert (event["decision"], event["reason"]) == ("allow", "medical_help")
    assert event["legal_basis"] == "vital_interest"
    assert event["subject"]["token"]


async def test_neither_a_withdrawal_nor_a_restriction_closes_an_emergency(world, crm, member):
    await crm.withdraw(member, "marketing", "sms")
    await world.restrict(member)
    assert len((await break_glass(world, await world.member_id(member))).values) == 2


async def test_a_field_that_is_not_held_is_named_and_shows_nothing(world, member_id):
    view = await break_glass(world, member_id, replace(EMERGENCY, fields=("address",)))
    assert view.values == ()
    assert (await only_event(world))["fields"] == ["address"]


# --- the justification ----------------------------------------------------------------


def details_of(world):
    return Details(world.runtime.database, world.runtime.vault, world.runtime.audit)


async def test_the_event_bears_the_hash_of_the_sealed_justification(world, member_id):
    view = await break_glass(world, member_id)
    (row,) = await world.fetch("SELECT * FROM audit_detail")
    event = await only_event(world)
    assert row["event_id"] == view.audit_id
    assert event["detail_ref"] == f"sha256:{hashlib.sha256(row['ciphertext']).hexdigest()}"
    assert CANARY.encode() not in bytes(row["ciphertext"])
    assert CANARY not in str(await world.events())


async def test_opening_a_justification_is_an_event_of_its_own(world, member_id):
    view = await break_glass(world, member_id)
    reader = staff("auditor")
    assert await details_of(world).read(reader, view.audit_id) == CANARY
    (event,) = await world.events("audit.detail_read")
    assert (event["resource"], event["fields"]) == (view.audit_id, ["justification"])
    assert (event["actor"]["id"], event["decision"]) == (reader.id, "allow")
    assert "subject" not in event  # a token of this month beside one of that month ties both


async def test_a_justification_is_not_opened_while_the_trail_takes_no_events(
    world, member_id, monkeypatch
):
    view = await break_glass(world, member_id)
    opened = []
    monkeypatch.setattr(type(world.runtime.vault), "open", lambda *_: opened.append(1) or {})
    world.runtime.audit.block("audit_test")
    with pytest.raises(UnavailableError):
        await details_of(world).read(staff("auditor"), view.audit_id)
    assert opened == []


async def test_a_justification_does_not_open_in_another_events_place(world, member_id):
    first = await break_glass(world, member_id)
    second = await break_glass(world, member_id, replace(EMERGENCY, justification="x" * 30))
    await world.unguard("audit_detail")
    await world.execute(
        "UPDATE audit_detail SET ciphertext = "
        "(SELECT ciphertext FROM audit_detail WHERE event_id = :from) WHERE event_id = :to",
        **{"from": second.audit_id, "to": first.audit_id},
    )
    with pytest.raises(Exception, match="could not be opened"):
        await details_of(world).read(staff("auditor"), first.audit_id)
    await world.runtime.sequencer.drain()
    report, _ = await verify_stored_log(world.runtime.database, world.runtime.audit)
    assert [(f.code, first.audit_id in f.detail) for f in report.findings] == [("detail", True)]


async def test_an_erasure_takes_the_justification_along_and_leaves_noise_that_is_nobodys(
    world, member, member_id
):
    view = await break_glass(world, member_id)
    await world.erase(member)
    (row,) = await world.fetch("SELECT * FROM audit_detail")
    assert row["member_id"] is None
    assert row["ciphertext"] is not None
    with pytest.raises(NotFoundError) as refused:
        await details_of(world).read(staff("auditor"), view.audit_id)
    assert refused.value.reason == "detail_gone"
    await world.runtime.sequencer.drain()
    report, _ = await verify_stored_log(world.runtime.database, world.runtime.audit)
    assert report.ok, report.findings


async def test_an_unknown_detail_is_unknown(world):
    with pytest.raises(NotFoundError) as refused:
        await details_of(world).read(staff("auditor"), new_id("evt"))
    assert refused.value.reason == "detail_unknown"
