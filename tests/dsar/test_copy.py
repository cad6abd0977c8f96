"""A member's own copy: all of theirs, nothing of anybody else's, sealed at rest, fetched once."""

import asyncio
import csv
import io
import json
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsar import ExportGoneError, IdentityNotProvenError, RequestState, Right
from dsar.package import Copy, pack_copy, redacted
from tests.support.requests import Desk, staff
from tests.support.world import EVERYTHING, JumpingClock, open_world

pytestmark = pytest.mark.anyio

MINE = {
    "given_name": "สมหญิง",
    "family_name": "ใจดี",
    "phone": "081-234-5678",
    "email": "somying@example.com",
    "notes": "โทรหา 081 234 5678 หรือสามี 089-876-5432, husband@example.com",
}
THEIRS = {"given_name": "สมชาย", "phone": "089-876-5432", "email": "husband@example.com"}
MARKERS = ("สมชาย", "876-5432", "898765432", "husband@example.com")


@pytest.fixture
async def crm(world):
    return await world.app("crm", *EVERYTHING, "suppressions:read")


@pytest.fixture
def desk(world):
    return Desk(world)


async def copied(desk, member_id, right=Right.ACCESS, lang="th"):
    request = await desk.open(member_id, right, details={"lang": lang})
    await desk.do("fulfil", staff(), request.id)
    done = await desk.carry_out(request)
    assert done.state is RequestState.FULFILLED
    return done


async def fetched(desk, request):
    await desk.prove(request)
    return await desk.rights.export(desk.member, request.id)


def files_of(archive):
    with zipfile.ZipFile(io.BytesIO(archive)) as found:
        return {name: found.read(name).decode("utf-8-sig") for name in found.namelist()}


async def test_the_copy_of_one_member_holds_all_of_theirs_and_no_value_of_another(desk, crm):
    other = await crm.register(THEIRS, consents={"marketing": "sms"})
    mine = await crm.register(MINE, consents={"marketing": "sms"})
    await crm.verify(mine)
    await crm.view(mine, "marketing", "sms")
    await crm.view(other)
    await crm.get("/v1/suppressions?purpose=analytics")
    done = await copied(desk, await desk.world.member_id(mine))
    files = files_of(await fetched(desk, done))
    assert set(files) == {"index.html", "data.json", "data.csv", "README.txt"}
    for name, text in files.items():
        assert not any(marker in text for marker in MARKERS), name
    for value in ("สมหญิง", "ใจดี", "+66812345678", "somying@example.com"):
        assert all(value in files[name] for name in ("index.html", "data.json", "data.csv"))
    said = json.loads(files["data.json"])
    assert said["redactions"] == [{"key": "notes", "title": "บันทึกของร้าน", "count": 2}]
    assert "081 234 5678" in next(one["value"] for one in said["fields"] if one["key"] == "notes")
    assert said["consents"][0]["words"]
    assert {one["by"] for one in said["disclosures"]} == {crm.id, "member"}
    (told,) = [one for one in said["disclosures"] if one["told"]]
    assert (told["action"], told["told"], told["fields"]) == ("suppression.read", ["not_given"], [])
    assert "แจ้งว่าห้ามติดต่อ: not_given" in files["index.html"]
    assert other.id not in files["data.json"]
    assert [(one.what, one.result) for one in done.results][1:] == [
        ("notes", "left_out_for_others")
    ]


async def test_making_a_copy_is_a_disclosure_on_record_that_names_the_request(desk, crm):
    member = await crm.register(MINE)
    done = await copied(desk, await desk.world.member_id(member))
    (event,) = await desk.world.events("member.copy_self")
    assert event["resource"] == f"rights_request:{done.id}"
    assert (event["decision"], event["actor"]["id"]) == ("allow", "self")
    assert set(event["fields"]) == set(MINE)


async def test_a_copy_rests_sealed(desk, crm):
    member = await crm.register(MINE)
    await copied(desk, await desk.world.member_id(member))
    (row,) = await desk.world.fetch("SELECT wrapped_key, sealed FROM rights_export")
    at_rest = bytes(row["wrapped_key"]) + bytes(row["sealed"])
    assert bytes(row["sealed"])[:2] != b"PK"
    assert "สมหญิง".encode() not in at_rest
    assert b"index.html" not in at_rest
    assert not list(desk.world.settings.data_dir.rglob("*.zip"))


async def test_a_session_or_an_old_code_fetches_nothing(settings):
    clock = JumpingClock()
    async with open_world(settings, clock=clock, background=False) as world:
        crm, desk = await world.app(), Desk(world)
        done = await copied(desk, await world.member_id(await crm.register(MINE)))
        with pytest.raises(IdentityNotProvenError):
            await desk.rights.export(desk.member, done.id)
        await desk.prove(done)
        clock.jump_us = 16 * 60_000_000
        with pytest.raises(IdentityNotProvenError) as refused:
            await desk.rights.export(desk.member, done.id)
        assert refused.value.reason == "step_up_required"


async def test_a_copy_is_fetched_once_and_then_gone(desk, crm):
    done = await copied(desk, await desk.world.member_id(await crm.register(MINE)))
    assert await fetched(desk, done)
    for _ in range(2):
        with pytest.raises(ExportGoneError):
            await desk.rights.export(desk.member, done.id)
    assert await desk.world.fetch("SELECT 1 FROM rights_export") == []
    assert len(await desk.world.events("rights_request.fetch_export")) == 1


async def test_a_copy_nobody_fetches_runs_out(settings):
    clock = JumpingClock()
    async with open_world(settings, clock=clock, background=False) as world:
        crm, desk = await world.app(), Desk(world)
        done = await copied(desk, await world.member_id(await crm.register(MINE)))
        clock.jump_us = 73 * 3_600_000_000
        await desk.prove(done)
        with pytest.raises(ExportGoneError):
            await desk.rights.export(desk.member, done.id)
        await desk.rights.look_after(staff(brand="*"))
        assert await world.fetch("SELECT 1 FROM rights_export") == []


async def test_an_erasure_takes_the_copy_along(desk, crm):
    member = await crm.register(MINE)
    done = await copied(desk, await desk.world.member_id(member))
    await desk.prove(done)
    await desk.world.erase(member)
    with pytest.raises(ExportGoneError):
        await desk.rights.export(desk.member, done.id)
    assert await desk.world.fetch("SELECT 1 FROM rights_export") == []


async def test_a_copy_sealed_for_one_request_opens_for_no_other(desk, crm):
    first = await copied(desk, await desk.world.member_id(await crm.register(THEIRS)))
    second = await copied(desk, await desk.world.member_id(await crm.register(MINE)))
    await desk.world.execute(
        "UPDATE rights_export SET wrapped_key = (SELECT wrapped_key FROM rights_export AS other "
        "WHERE other.request_id = :theirs), sealed = (SELECT sealed FROM rights_export AS other "
        "WHERE other.request_id = :theirs) WHERE request_id = :mine",
        theirs=first.id,
        mine=second.id,
    )
    with pytest.raises(Exception, match="could not be opened"):
        await fetched(desk, second)


async def test_a_restricted_member_still_gets_their_copy(desk, crm):
    member = await crm.register(MINE)
    await desk.world.restrict(member)
    done = await copied(desk, await desk.world.member_id(member))
    assert "สมหญิง" in files_of(await fetched(desk, done))["data.json"]


async def test_what_is_moved_elsewhere_says_nothing_of_who_read_it(desk, crm):
    member = await crm.register(MINE)
    await crm.view(member)
    done = await copied(desk, await desk.world.member_id(member), Right.PORTABILITY, "en")
    files = files_of(await fetched(desk, done))
    assert json.loads(files["data.json"])["disclosures"] is None
    assert '<html lang="en">' in files["index.html"]


async def test_two_workers_at_once_make_one_copy(desk, crm):
    member_id = await desk.world.member_id(await crm.register(MINE))
    request = await desk.open(member_id, Right.ACCESS)
    await desk.do("fulfil", staff(), request.id)
    made = await asyncio.gather(*(desk.carry_out(request) for _ in range(4)))
    assert len([done for done in made if done is not None]) == 1
    assert len(await desk.world.events("rights_request.carry_out")) == 1


async def test_two_workers_at_once_correct_once(desk, crm):
    member_id = await desk.world.member_id(await crm.register(MINE))
    details = {"fields": {"family_name": "ใจงาม"}}
    request = await desk.open(member_id, Right.RECTIFICATION, details=details)
    await desk.do("fulfil", staff(), request.id)
    made = await asyncio.gather(*(desk.carry_out(request) for _ in range(4)))
    assert len([done for done in made if done is not None]) == 1
    assert len(await desk.world.events("rights_request.carry_out")) == 1


async def test_making_a_copy_twice_leaves_one(desk, crm):
    member_id = await desk.world.member_id(await crm.register(MINE))
    request = await desk.open(member_id, Right.ACCESS)
    await desk.do("fulfil", staff(), request.id)
    assert await desk.carry_out(request) is not None
    assert await desk.carry_out(request) is None
    assert len(await desk.world.fetch("SELECT 1 FROM rights_export")) == 1


# --- the archive, pure ----------------------------------------------------------------


def a_copy(value, language="th"):
    field = {
        "key": "given_name",
        "title": "x",
        "value": value,
        "source": "api",
        "collected_at": "2026-11-23T00:00:00.000000Z",
        "verified_at": None,
    }
    return Copy(
        "rr_0", "access", "TH", language, "main", "2026-11-23T00:00:00.000000Z",
        [field], [], [], [], {}, [], [], "PDPC",
    )  # fmt: skip


@pytest.mark.parametrize("value", ["=1+1", "+cmd|x", "-2", "@SUM(A1)", "\t=1", "＝1", "'=1"])
def test_no_cell_of_the_table_is_a_formula(value):
    table = files_of(pack_copy(a_copy(value)))["data.csv"]
    (row,) = [row for row in csv.reader(io.StringIO(table)) if row[0] == "field"]
    assert row[3] == "'" + value


def test_no_value_is_markup_in_the_page():
    page = files_of(pack_copy(a_copy("<script>alert(1)</script>")))["index.html"]
    assert "<script" not in page
    assert "default-src 'none'" in page


@pytest.mark.parametrize("language", ["th", "en", "zh-Hant"])
def test_the_page_speaks_every_language(language):
    files = files_of(pack_copy(a_copy("x", language)))
    assert f'<html lang="{language}">' in files["index.html"]


@given(st.text(max_size=60), st.from_regex(r"0[689][0-9]{8}", fullmatch=True))
def test_a_number_of_somebody_else_is_never_left_in_a_text(text, number):
    cleaned, count = redacted(f"{text} {number} .", ["+66811111111"])
    assert number not in cleaned or number.endswith("11111111")
    assert count or number.endswith("11111111")


@given(st.sampled_from(["0812345678", "081-234-5678", "+66 81 234 5678", "66812345678"]))
def test_the_members_own_number_stays_however_it_was_written(written):
    assert redacted(f"โทร {written}", ["+66812345678"]) == (f"โทร {written}", 0)
