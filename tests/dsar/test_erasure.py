"""Erasing on request: planned, done whole, and never by halves, twice or for the wrong person."""

from datetime import date

import pytest

from dsar import (
    IdentityNotProvenError,
    RequestState,
    RequestStateError,
    RequestUnknownError,
    Right,
    plan_erasure,
    repository,
)
from members import MemberNotFoundError
from policies import JurisdictionCode, load_pack
from tests.support.requests import Desk, staff
from tests.support.world import open_world

pytestmark = pytest.mark.anyio
GROUND = {"ground": "accuracy_contested"}


@pytest.fixture
async def crm(world):
    return await world.app()


@pytest.fixture
async def member(crm):
    return await crm.register(
        {"given_name": "สมหญิง", "phone": "081-234-5678", "email": "somying@example.com"},
        consents={"marketing": "sms"},
    )


@pytest.fixture
async def member_id(world, member):
    return await world.member_id(member)


@pytest.fixture
def desk(world):
    return Desk(world)


async def erased(desk, member_id, **details):
    request = await desk.open(member_id, Right.ERASURE, details=details or None)
    await desk.prove(request)
    return await desk.do("fulfil", staff(), request.id)


async def test_a_session_alone_erases_nothing(desk, crm, member, member_id):
    request = await desk.open(member_id, Right.ERASURE)
    with pytest.raises(IdentityNotProvenError) as refused:
        await desk.do("fulfil", staff(), request.id)
    assert refused.value.reason == "step_up_required"
    assert (await crm.view(member)).status_code == 200


async def test_a_copy_that_is_owed_comes_before_the_erasure(desk, member_id):
    copy = await desk.open(member_id, Right.ACCESS)
    request = await desk.open(member_id, Right.ERASURE)
    await desk.prove(request)
    with pytest.raises(RequestStateError) as refused:
        await desk.do("fulfil", staff(), request.id)
    assert refused.value.reason == "access_first"
    await desk.do("withdraw", desk.member, copy.id)
    assert (await desk.do("fulfil", staff(), request.id)).state is RequestState.FULFILLED


async def test_what_was_planned_is_what_was_done(desk, member_id):
    request = await desk.open(member_id, Right.ERASURE)
    async with desk.world.runtime.database.read() as session:
        plan = await desk.rights.plan(session, request, now_us=desk.now_us)
    assert plan.whole
    assert {one.what for one in plan.fields} == {"given_name", "phone", "email"}
    await desk.prove(request)
    done = await desk.do("fulfil", staff(), request.id)
    planned = [*plan.fields, *plan.beside]
    assert [*done.results[: len(planned)]] == planned
    assert {one.what for one in done.results} > {one.what for one in planned}


async def test_after_it_nothing_leads_from_the_requests_to_the_member(desk, crm, member, member_id):
    open_one = await desk.open(
        member_id, Right.RECTIFICATION, details={"fields": {"given_name": "สมศรี"}}
    )
    done = await erased(desk, member_id, ground="no_longer_needed")
    assert done.member_id is None
    rows = await desk.world.fetch("SELECT * FROM rights_request")
    assert {row["member_id"] for row in rows} == {None}
    assert {row["corrections"] for row in rows} == {None}
    assert (await desk.read(open_one)).state is RequestState.WITHDRAWN
    assert (await desk.read(open_one)).reason == "member_erased"
    assert (await crm.view(member)).status_code == 404
    assert (
        await desk.world.fetch(
            "SELECT 1 FROM vault_key WHERE owner_id = :member AND kind = 'ordinary'",
            member=member_id,
        )
        == []
    )


async def test_who_is_erased_cannot_be_erased_again_nor_ask_for_anything(desk, member_id):
    done = await erased(desk, member_id)
    with pytest.raises(RequestStateError):
        await desk.do("fulfil", staff(), done.id)
    with pytest.raises(MemberNotFoundError):
        await desk.open(member_id, Right.ERASURE)


async def test_an_erasure_past_the_requests_ends_them_too(desk, member, member_id):
    request = await desk.open(member_id, Right.ERASURE)
    await desk.prove(request)
    await desk.world.erase(member)
    ended = await desk.read(request)
    assert (ended.state, ended.member_id) == (RequestState.WITHDRAWN, None)
    with pytest.raises(RequestStateError):
        await desk.do("fulfil", staff(), request.id)
    with pytest.raises(RequestUnknownError):
        await desk.do("verify", staff(), request.id, member.point("phone"), "000000")


@pytest.mark.postgres
async def test_a_step_taken_beside_an_erasure_leaves_no_request_open(postgres_settings):
    async with open_world(postgres_settings, background=False) as world:
        desk = Desk(world)
        member = await (await world.app()).register(phone="081-234-5678")
        request = await desk.open(await world.member_id(member), Right.RESTRICTION, details=GROUND)
        find = repository.of_member

        async def overtaken(work, member_id):
            found = await find(work, member_id)
            await desk.do("take_up", staff(), request.id)
            return found

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(repository, "of_member", overtaken)
            await world.erase(member)
        ended = await desk.read(request)
    assert (ended.state, ended.member_id) == (RequestState.WITHDRAWN, None)


async def test_a_restricted_member_is_erased_and_the_restriction_ends(desk, member_id):
    async with desk.world.runtime.database.unit_of_work() as work:
        await desk.rights.restrictions.begin(
            work, staff(), member_id, "unlawful", now_us=desk.now_us
        )
    assert (await erased(desk, member_id)).state is RequestState.FULFILLED
    (row,) = await desk.world.fetch("SELECT member_id, ended_us FROM restriction")
    assert row["member_id"] is None
    assert row["ended_us"] is not None


async def test_consumers_that_know_the_member_are_named_with_what_they_have_heard(
    desk, crm, member_id
):
    done = await erased(desk, member_id)
    assert done.outcome["consumers"] == [
        {"client": crm.id, "state": "no_webhook", "acknowledged_at": None}
    ]
    await desk.rights.ask_consumers(desk.world.operator, done.id, member_id, 0)
    assert (await desk.read(done)).outcome["consumers"][0]["client"] == crm.id


async def test_when_the_trail_fails_nobody_is_erased(desk, crm, member, member_id):
    request = await desk.open(member_id, Right.ERASURE)
    await desk.prove(request)
    desk.world.runtime.audit.block("audit_unavailable")
    with pytest.raises(Exception, match="trail"):
        await desk.do("fulfil", staff(), request.id)
    desk.world.runtime.audit.unblock()
    assert (await desk.read(request)).state is RequestState.VERIFIED
    assert (await crm.view(member)).status_code == 200


RETAINING = """
[fields.national_id]
retention_class = "fiscal"
"""


def test_what_a_law_keeps_is_named_with_law_day_and_evidence(tmp_path):
    (tmp_path / "fields.toml").write_text(RETAINING)
    pack = load_pack(tmp_path)
    thai = pack.jurisdictions[JurisdictionCode("TH")]
    plan = plan_erasure(pack, thai, ["national_id", "phone", "phone.2"], date(2026, 11, 23))
    kept, *rest = plan.fields
    assert (kept.what, kept.result, kept.until) == ("national_id", "retained", "2031-11-23")
    assert (kept.law, kept.evidence) == ("Accounting Act B.E. 2543 s.14", "primary")
    assert [(one.what, one.result) for one in rest] == [
        ("phone", "erased"),
        ("phone.2", "erased"),
    ]
    assert not plan.whole


async def test_a_request_that_leaves_something_retained_is_partly_fulfilled(settings, tmp_path):
    pack_dir = tmp_path / "pack"
    pack_dir.mkdir()
    (pack_dir / "fields.toml").write_text(RETAINING)
    policies = settings.policies.model_copy(update={"pack_dir": pack_dir})
    ours = settings.model_copy(update={"policies": policies})
    from service.facts import FACT_POLICY
    from tests.support.world import execute

    await execute(
        ours,
        "UPDATE registry_fact SET value = :digest WHERE name = :name",
        digest=load_pack(pack_dir).digest,
        name=FACT_POLICY,
    )
    async with open_world(ours) as world:
        crm = await world.app()
        desk = Desk(world)
        member_id = await world.member_id(
            await crm.register(phone="081-234-5678", national_id="1101700203450")
        )
        done = await erased(desk, member_id)
        assert done.state is RequestState.PARTLY_FULFILLED
        (kept,) = [one for one in done.results if one.what == "national_id"]
        assert (kept.result, kept.law) == ("retained", "Accounting Act B.E. 2543 s.14")
        rows = await world.fetch(
            "SELECT kind, destroy_after_us FROM vault_key WHERE owner_id = :member",
            member=member_id,
        )
        assert {row["kind"] for row in rows} == {"fiscal", "pseudonym"}
        assert all(row["destroy_after_us"] for row in rows)
