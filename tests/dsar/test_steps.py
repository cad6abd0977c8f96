"""Steps of a request: identity, clocks, decisions, and all that must not happen between them."""

import pytest

from consent import GateState
from dsar import (
    IdentityNotProvenError,
    Moving,
    RequestInvalidError,
    RequestState,
    RequestStateError,
    RequestUnknownError,
    Right,
    SecondPersonError,
    Via,
)
from members import ContactPointNotFoundError
from tests.support.requests import Desk, staff
from tests.support.world import DAY_US, JumpingClock, open_world, recorded

pytestmark = pytest.mark.anyio


@pytest.fixture
async def crm(world):
    return await world.app()


@pytest.fixture
async def member(crm):
    return await crm.register(
        {"given_name": "สมหญิง", "family_name": "ใจดี", "phone": "081-234-5678"},
        consents={"marketing": "sms"},
    )


@pytest.fixture
async def member_id(world, member):
    return await world.member_id(member)


@pytest.fixture
def desk(world):
    return Desk(world)


async def unproven(desk, member_id, right=Right.ACCESS, **more):
    return await desk.open(member_id, right, via=Via.API, caller=staff(), **more)


# --- identity -------------------------------------------------------------------------


async def test_an_unproven_request_is_neither_planned_nor_fulfilled_nor_fetched(desk, member_id):
    for right in (Right.ACCESS, Right.ERASURE):
        request = await unproven(desk, member_id, right)
        assert request.state is RequestState.IDENTITY_PENDING
        with pytest.raises(IdentityNotProvenError):
            await desk.do("fulfil", staff(), request.id)
        with pytest.raises(IdentityNotProvenError):
            await desk.rights.export(staff(), request.id)
    async with desk.world.runtime.database.read() as session:
        with pytest.raises(IdentityNotProvenError):
            await desk.rights.plan(session, request, now_us=desk.now_us)
    assert await desk.world.events("member.copy_self") == []


async def test_five_wrong_codes_close_a_code_and_the_right_one_comes_too_late(desk, member_id):
    request = await unproven(desk, member_id)
    point, code = await desk.code(request)
    wrong = f"{(int(code) + 1) % 1_000_000:06}"
    told = [await desk.do("verify", staff(), request.id, point, wrong) for _ in range(5)]
    assert told == ["code_wrong"] * 5
    assert await desk.do("verify", staff(), request.id, point, code) == "too_many_attempts"
    assert (await desk.read(request)).state is RequestState.IDENTITY_PENDING
    denied = await desk.world.events("rights_request.verify")
    assert [event["decision"] for event in denied] == ["deny"] * 6


async def test_codes_are_not_handed_out_without_end(desk, member_id):
    request = await unproven(desk, member_id)
    for _ in range(9):  # opening sent the first
        await desk.do("send_code", staff(), request.id, None)
    with pytest.raises(RequestStateError) as refused:
        await desk.do("send_code", staff(), request.id, None)
    assert refused.value.reason == "too_many_codes"


async def test_the_code_of_somebody_else_proves_nothing(desk, crm, member_id):
    other = await crm.register(phone="089-876-5432")
    request = await unproven(desk, member_id)
    point = other.point("phone")
    with pytest.raises(ContactPointNotFoundError):
        await desk.do("send_code", staff(), request.id, point)
    with pytest.raises(ContactPointNotFoundError):
        await desk.do("verify", staff(), request.id, point, desk.world.code_for(point))
    assert not (await desk.read(request)).identity_proven


async def test_the_right_code_proves_identity_once(desk, member_id):
    request = await unproven(desk, member_id)
    await desk.prove(request, staff())
    proven = await desk.read(request)
    assert (proven.state, proven.verified_by) == (RequestState.VERIFIED, "otp")


async def test_staff_of_another_brand_cannot_take_a_step(desk, member_id):
    request = await desk.open(member_id, Right.ACCESS)
    for step, arguments in (
        ("fulfil", ()),
        ("pause", ()),
        ("refuse", ("identity_not_proven",)),
        ("withdraw", ()),
        ("check_identity", ("known_in_person",)),
    ):
        with pytest.raises(RequestUnknownError):
            await desk.do(step, staff(brand="other"), request.id, *arguments)


# --- the clock ------------------------------------------------------------------------


async def test_an_extension_needs_a_reason_of_the_list_and_comes_once(desk, member_id):
    request = await desk.open(member_id, Right.ACCESS)
    with pytest.raises(RequestInvalidError):
        await desk.do("extend", staff(), request.id, "we are busy")
    extended = await desk.do("extend", staff(), request.id, "complexity")
    assert (extended.safe_due - request.safe_due).days == 30
    with pytest.raises(RequestStateError) as refused:
        await desk.do("extend", staff(), request.id, "complexity")
    assert refused.value.reason == "extended_before"


async def test_what_the_law_does_not_extend_is_not_extended(desk, member_id):
    request = await desk.open(member_id, Right.ERASURE)
    with pytest.raises(RequestStateError) as refused:
        await desk.do("extend", staff(), request.id, "complexity")
    assert refused.value.reason == "no_extension"


async def test_an_extension_after_the_first_period_is_too_late(settings):
    clock = JumpingClock()
    async with open_world(settings, clock=clock) as world:
        crm = await world.app()
        desk = Desk(world)
        member_id = await world.member_id(await crm.register(phone="081-234-5678"))
        request = await desk.open(member_id, Right.ACCESS)
        clock.jump_us = 40 * DAY_US
        with pytest.raises(RequestStateError) as refused:
            await desk.do("extend", staff(), request.id, "complexity")
        assert refused.value.reason == "too_late_to_extend"


async def test_a_pause_in_thailand_waits_and_gains_no_time(settings):
    clock = JumpingClock()
    async with open_world(settings, clock=clock) as world:
        crm = await world.app()
        desk = Desk(world)
        member_id = await world.member_id(await crm.register(phone="081-234-5678"))
        request = await desk.open(member_id, Right.ACCESS)
        paused = await desk.do("pause", staff(), request.id)
        assert paused.state is RequestState.PAUSED
        with pytest.raises(RequestStateError):
            await desk.do("fulfil", staff(), request.id)
        clock.jump_us = 7 * DAY_US
        resumed = await desk.do("resume", staff(), request.id)
        assert (resumed.state, resumed.safe_due) == (RequestState.VERIFIED, request.safe_due)


async def test_late_requests_are_flagged_once_by_their_safe_day(settings):
    clock = JumpingClock()
    async with open_world(settings, clock=clock) as world:
        crm = await world.app()
        desk = Desk(world)
        member_id = await world.member_id(await crm.register(phone="081-234-5678"))
        request = await desk.open(member_id, Right.ACCESS)
        assert (await desk.rights.look_after(staff(brand="*"))).due_soon == 0
        clock.jump_us = 27 * DAY_US
        assert (await desk.rights.look_after(staff(brand="*"))).due_soon == 1
        clock.jump_us = 32 * DAY_US
        assert (await desk.rights.look_after(staff(brand="*"))).late == 1
        assert (await desk.rights.look_after(staff(brand="*"))).late == 0
        async with world.runtime.database.read() as session:
            (late,) = await desk.rights.overdue(session, clock.now_us())
        assert (late.id, late.flagged) == (request.id, "late")
        assert len(await world.events("rights_request.late")) == 1


# --- refusing -------------------------------------------------------------------------


async def test_a_refusal_needs_a_reason_of_the_law_and_a_second_person(desk, member_id):
    request = await desk.open(member_id, Right.ACCESS)
    first, second = staff(), staff()
    for reason in ("we_do_not_want_to", "data_accurate", "excessive"):
        with pytest.raises(RequestInvalidError):
            await desk.do("refuse", first, request.id, reason)
    proposed = await desk.do("refuse", first, request.id, "third_party")
    assert proposed.state is RequestState.VERIFIED
    with pytest.raises(SecondPersonError):
        await desk.do("refuse", first, request.id, "third_party")
    with pytest.raises(RequestStateError):
        await desk.do("refuse", second, request.id, "legal_obligation")
    refused = await desk.do("refuse", second, request.id, "third_party")
    assert (refused.state, refused.law) == (
        RequestState.REFUSED,
        "PDPA s.30 para 2, s.31 para 3",
    )
    async with desk.world.runtime.database.read() as session:
        assert [one.id for one in await desk.rights.refusals(session, "main")] == [request.id]
        assert await desk.rights.refusals(session, "other") == []


async def test_the_law_of_the_member_decides_which_reasons_there_are(desk, crm):
    european = await desk.world.member_id(
        await crm.register(phone="081-234-5678", jurisdiction="EU")
    )
    request = await desk.open(european, Right.ACCESS)
    proposed = await desk.do("refuse", staff(), request.id, "excessive")
    assert proposed.reason == "excessive"


async def test_one_person_alone_waits_a_day_where_the_house_says_it_is_one_person(settings):
    clock = JumpingClock()
    alone = settings.model_copy(
        update={"rights": settings.rights.model_copy(update={"one_person": True})}
    )
    async with open_world(alone, clock=clock) as world:
        crm = await world.app()
        desk = Desk(world)
        member_id = await world.member_id(await crm.register(phone="081-234-5678"))
        request = await desk.open(member_id, Right.ACCESS)
        owner = staff()
        await desk.do("refuse", owner, request.id, "third_party")
        with pytest.raises(SecondPersonError):
            await desk.do("refuse", owner, request.id, "third_party")
        clock.jump_us = DAY_US
        refused = await desk.do("refuse", owner, request.id, "third_party")
        assert refused.state is RequestState.REFUSED


async def test_what_has_ended_stays_as_it_ended(desk, member_id):
    request = await desk.open(member_id, Right.ACCESS)
    await desk.do("refuse", staff(), request.id, "third_party")
    await desk.do("refuse", staff(), request.id, "third_party")
    for step, arguments in (
        ("fulfil", ()),
        ("pause", ()),
        ("resume", ()),
        ("take_up", ()),
        ("withdraw", ()),
        ("extend", ("complexity",)),
        ("refuse", ("third_party",)),
        ("check_identity", ("known_in_person",)),
    ):
        with pytest.raises(RequestStateError):
            await desk.do(step, staff(), request.id, *arguments)
    assert (await desk.read(request)).state is RequestState.REFUSED


# --- objecting, restricting, correcting -----------------------------------------------


async def test_an_objection_stops_marketing_in_the_very_moment_it_is_proven(desk, crm, member):
    member_id = await desk.world.member_id(member)
    await crm.verify(member)
    assert (await crm.view(member, "marketing", "sms")).status_code == 200
    request = await unproven(desk, member_id, Right.OBJECTION)
    assert (await crm.view(member, "marketing", "sms")).status_code == 200
    await desk.prove(request, staff())
    assert (await crm.view(member, "marketing", "sms")).status_code == 403
    assert (await desk.read(request)).state is RequestState.FULFILLED


async def test_a_restriction_closes_the_member_until_the_last_one_ends(desk, crm, member):
    member_id = await desk.world.member_id(member)
    details = {"ground": "accuracy_contested"}
    request = await desk.open(member_id, Right.RESTRICTION, details=details)
    await desk.do("fulfil", staff(), request.id)
    second = await desk_restrict(desk, member_id)
    assert (await crm.view(member)).status_code == 423
    async with desk.world.runtime.database.read() as session:
        standing = await desk.rights.restrictions.of_member(session, member_id)
    assert len(standing) == 2
    for restriction in standing:
        assert (await crm.view(member)).status_code == 423
        await desk_lift(desk, restriction.id)
    assert (await crm.view(member)).status_code == 200
    assert second.id in {one.id for one in standing}


async def desk_restrict(desk, member_id):
    async with desk.world.runtime.database.unit_of_work() as work:
        return await desk.rights.restrictions.begin(
            work, staff(), member_id, "needed_for_claims", now_us=desk.now_us
        )


async def desk_lift(desk, restriction_id, caller=None):
    async with desk.world.runtime.database.unit_of_work() as work:
        await desk.rights.restrictions.end(
            work, caller or staff(), restriction_id, now_us=desk.now_us
        )


async def test_a_restriction_of_another_brand_is_not_lifted(desk, member_id):
    made = await desk_restrict(desk, member_id)
    with pytest.raises(RequestUnknownError):
        await desk_lift(desk, made.id, staff(brand="other"))


async def test_a_correction_is_carried_out_once_and_consumers_are_told(desk, crm, member):
    member_id = await desk.world.member_id(member)
    details = {"fields": {"family_name": "ใจงาม"}}
    request = await desk.open(member_id, Right.RECTIFICATION, details=details)
    decided = await desk.do("fulfil", staff(), request.id)
    assert decided.state is RequestState.IN_PROGRESS
    with pytest.raises(RequestStateError):
        await desk.do("fulfil", staff(), request.id)
    done = await desk.carry_out(request)
    assert done.state is RequestState.FULFILLED
    assert [(one.what, one.result) for one in done.results] == [("family_name", "corrected")]
    assert await desk.carry_out(request) is None
    answer = await crm.view(member, fields="family_name")
    assert answer.json()["data"] == {"family_name": "ใจงาม"}
    (row,) = await desk.world.fetch("SELECT corrections FROM rights_request")
    assert row["corrections"] is None
    assert await desk.world.fetch("SELECT 1 FROM outbox WHERE topic = 'member.rectified'")


async def test_a_restricted_member_is_not_corrected_before_the_restriction_ends(desk, member_id):
    request = await desk.open(
        member_id, Right.RECTIFICATION, details={"fields": {"family_name": "ใจงาม"}}
    )
    await desk_restrict(desk, member_id)
    with pytest.raises(RequestStateError) as refused:
        await desk.do("fulfil", staff(), request.id)
    assert refused.value.reason == "member_restricted"
    async with desk.world.runtime.database.read() as session:
        gate = await desk.world.runtime.consent.gate(session, member_id)
    assert gate.state is GateState.RESTRICTED


# --- merging --------------------------------------------------------------------------


async def move(desk, into, merged, step="merge"):
    async with recorded(desk.world.runtime.database) as work:
        act = getattr(Moving(), step)
        await act(work, staff(), into=into, merged=merged, merge_id="mrg_1", now_us=desk.now_us)


async def test_a_member_with_an_open_request_or_a_restriction_is_not_merged(desk, crm, member_id):
    other = await desk.world.member_id(await crm.register(phone="089-876-5432"))
    request = await desk.open(member_id, Right.ACCESS)
    with pytest.raises(RequestStateError):
        await move(desk, other, member_id)
    await desk.do("withdraw", desk.member, request.id)
    made = await desk_restrict(desk, member_id)
    with pytest.raises(RequestStateError):
        await move(desk, other, member_id)
    await desk_lift(desk, made.id)
    await move(desk, other, member_id)
    assert (await desk.read(request)).member_id == other
    await move(desk, other, member_id, "undo_merge")
    moved_back = await desk.read(request)
    assert (moved_back.member_id, moved_back.state) == (member_id, RequestState.WITHDRAWN)


async def test_a_member_whose_copy_waits_to_be_fetched_is_not_merged(desk, crm, member_id):
    other = await desk.world.member_id(await crm.register(phone="089-876-5432"))
    request = await desk.open(member_id, Right.ACCESS)
    await desk.do("fulfil", staff(), request.id)
    await desk.carry_out(request)
    with pytest.raises(RequestStateError) as refused:
        await move(desk, other, member_id)
    assert refused.value.reason == "copy_waiting"
    await desk.prove(request)
    assert await desk.rights.export(desk.member, request.id)
    await move(desk, other, member_id)


# --- what was decided -----------------------------------------------------------------


async def test_what_is_being_carried_out_is_not_paused(desk, member_id):
    request = await desk.open(member_id, Right.ACCESS)
    await desk.do("fulfil", staff(), request.id)
    with pytest.raises(RequestStateError) as refused:
        await desk.do("pause", staff(), request.id)
    assert refused.value.reason == "decided_before"
    assert (await desk.carry_out(request)).state is RequestState.FULFILLED


async def test_a_decision_whose_job_was_lost_can_be_handed_on_again(settings):
    clock = JumpingClock()
    async with open_world(settings, clock=clock, background=False) as world:
        desk = Desk(world)
        crm = await world.app()
        member_id = await world.member_id(await crm.register(phone="081-234-5678"))
        request = await desk.open(member_id, Right.ACCESS)
        decided = await desk.do("fulfil", staff(), request.id)
        with pytest.raises(RequestStateError) as refused:
            await desk.do("fulfil", staff(), request.id)
        assert refused.value.reason == "decided_before"
        clock.jump_us = DAY_US
        again = await desk.do("fulfil", staff(), request.id)
        assert (again.state, again.decided_us) == (RequestState.IN_PROGRESS, decided.decided_us)
        jobs = await world.fetch("SELECT 1 FROM job WHERE kind = 'rights_carry_out'")
        assert len(jobs) == 2
        assert (await desk.carry_out(request)).state is RequestState.FULFILLED
        assert await desk.carry_out(request) is None
