"""Requests come in: who may open one, what is refused, what the queue shows."""

import pytest

from consent import GuardianRequiredError
from disclosure import self_caller
from dsar import (
    RequestInvalidError,
    RequestState,
    RequestStateError,
    RequestUnknownError,
    Right,
    Via,
)
from kernel import Caller, RequestId, new_id
from members import MemberNotFoundError
from policies import AgeTier
from tests.support.requests import Desk
from tests.support.world import recorded

TIERS = [AgeTier.GUARDIAN_ONLY, AgeTier.MINOR_WITH_GUARDIAN]
pytestmark = pytest.mark.anyio


def clerk(brand="main"):
    return Caller(new_id("stf"), "clerk", "console", brand, RequestId(new_id("req")))


async def open_one(world, member_id, right=Right.ACCESS, via=Via.PORTAL, details=None, **more):
    caller = more.pop("caller", None) or self_caller("main", "portal", new_id("req"))
    async with world.runtime.database.unit_of_work() as work:
        return await world.runtime.rights_requests.open(
            work, caller, member_id, right,
            via=via, details=details, now_us=world.runtime.clock.now_us(), **more,
        )  # fmt: skip


@pytest.fixture
async def member_id(world):
    crm = await world.app()
    return await world.member_id(await crm.register(phone="081-234-5678"))


async def test_a_request_is_read_back_as_it_was_opened(world, member_id):
    opened = await open_one(world, member_id, details={"lang": "th"})
    assert opened.state is RequestState.VERIFIED
    async with world.runtime.database.read() as session:
        assert await world.runtime.rights_requests.read(session, opened.id, "main") == opened
        assert await world.runtime.rights_requests.queue(session, "main") == [opened]
        assert await world.runtime.rights_requests.of_member(session, member_id) == [opened]


async def test_a_request_of_another_brand_is_not_told_of(world, member_id):
    opened = await open_one(world, member_id)
    async with world.runtime.database.read() as session:
        assert await world.runtime.rights_requests.queue(session, "other") == []
        with pytest.raises(RequestUnknownError):
            await world.runtime.rights_requests.read(session, opened.id, "other")
    with pytest.raises(MemberNotFoundError):
        await open_one(world, member_id, via=Via.COUNTER, caller=clerk("other"))


async def test_an_erased_member_opens_nothing(world):
    crm = await world.app()
    member_id = await world.erase(await crm.register(phone="081-234-5678"))
    with pytest.raises(MemberNotFoundError):
        await open_one(world, member_id)


async def test_opening_is_an_event_and_a_message_without_a_member_id_in_the_trail(world, member_id):
    opened = await open_one(world, member_id)
    (event,) = await world.events("rights_request.open")
    assert event["resource"] == f"rights_request:{opened.id}"
    assert event["subject"]["token"]
    assert member_id not in str(event)
    rows = await world.fetch("SELECT topic FROM outbox WHERE topic = 'rights_request.updated'")
    assert len(rows) == 1


async def test_at_the_counter_identity_is_open_until_somebody_says_how_it_was_checked(
    world, member_id
):
    unproven = await open_one(world, member_id, via=Via.COUNTER, caller=clerk())
    assert (unproven.state, unproven.identity_proven) == (RequestState.RECEIVED, False)
    checked = {"checked": "id_document_seen"}
    proven = await open_one(world, member_id, via=Via.COUNTER, caller=clerk(), details=checked)
    assert (proven.state, proven.verified_by) == (
        RequestState.VERIFIED,
        "counter:id_document_seen",
    )


async def test_a_letter_that_came_earlier_is_counted_from_its_own_day(world, member_id):
    now_us = world.runtime.clock.now_us()
    late = await open_one(
        world, member_id, via=Via.COUNTER, caller=clerk(), received_us=now_us - 10 * 86_400_000_000
    )
    today = await open_one(world, member_id, via=Via.COUNTER, caller=clerk())
    assert (today.safe_due - late.safe_due).days == 10
    for via, moment in ((Via.COUNTER, now_us + 10**9), (Via.PORTAL, now_us - 10**9)):
        with pytest.raises(RequestInvalidError):
            await open_one(world, member_id, via=via, received_us=moment)


@pytest.mark.parametrize(
    ("right", "details", "place"),
    [
        (Right.ACCESS, {"note": "ขอข้อมูลของฉัน"}, "/details"),
        (Right.ACCESS, {"lang": "xx"}, "/details/lang"),
        (Right.RESTRICTION, {}, "/details/ground"),
        (Right.RESTRICTION, {"ground": "because"}, "/details/ground"),
        (Right.RESTRICTION, {"ground": "unlawful", "until": "tomorrow"}, "/details/until"),
        (Right.ERASURE, {"ground": "accuracy_contested"}, "/details/ground"),
        (Right.OBJECTION, {"purpose": "spying"}, "/details/purpose"),
        (Right.RECTIFICATION, {}, "/details/fields"),
        (Right.RECTIFICATION, {"fields": {}}, "/details/fields"),
        (Right.RECTIFICATION, {"fields": {"phone": 7}}, "/details/fields"),
        (Right.ACCESS, {"checked": "trust me"}, "/details/checked"),
    ],
)
async def test_details_that_are_not_codes_are_refused_at_their_place_and_never_repeated(
    world, member_id, right, details, place
):
    with pytest.raises(RequestInvalidError) as refused:
        await open_one(world, member_id, right, details=details)
    assert {problem.pointer for problem in refused.value.errors} == {place}
    assert "ขอข้อมูล" not in refused.value.diagnostics()
    assert await world.fetch("SELECT id FROM rights_request") == []


async def test_corrected_values_rest_sealed(world, member_id):
    details = {"fields": {"family_name": "ใจงาม"}, "formats": {"phone_region": "TH"}}
    opened = await open_one(world, member_id, Right.RECTIFICATION, details=details)
    assert opened.corrected == ("family_name",)
    (row,) = await world.fetch("SELECT * FROM rights_request")
    assert "ใจงาม".encode() not in b"".join(
        bytes(value) if isinstance(value, bytes) else str(value).encode() for value in row.values()
    )


async def test_one_member_cannot_flood_the_queue(world, member_id):
    for _ in range(20):
        await open_one(world, member_id)
    with pytest.raises(RequestStateError) as refused:
        await open_one(world, member_id)
    assert refused.value.reason == "too_many_open"


# --- minors ---------------------------------------------------------------------------


@pytest.fixture
def desk(world):
    return Desk(world)


async def make_minor(world, member_id, tier):
    async with recorded(world.runtime.database) as work:
        await world.runtime.consent.set_age_tier(work, member_id, tier)


ALONE = {
    AgeTier.GUARDIAN_ONLY: {Right.OBJECTION, Right.RESTRICTION},
    AgeTier.MINOR_WITH_GUARDIAN: set(Right) - {Right.ERASURE},
}
DETAILS = {
    Right.RESTRICTION: {"ground": "unlawful"},
    Right.RECTIFICATION: {"fields": {"given_name": "ชัย"}},
}


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("right", list(Right))
@pytest.mark.parametrize("via", [Via.PORTAL, Via.API])
async def test_what_a_minor_may_not_ask_alone_is_sent_to_the_guardian(
    desk, member_id, tier, right, via
):
    await make_minor(desk.world, member_id, tier)
    asking = desk.open(member_id, right, via=via, details=DETAILS.get(right))
    if right in ALONE[tier]:
        assert (await asking).right is right
        return
    with pytest.raises(GuardianRequiredError) as refused:
        await asking
    assert refused.value.reason == "guardian_required"
    assert await desk.world.fetch("SELECT 1 FROM rights_request") == []


async def test_a_guardian_who_proved_nothing_asks_for_no_minor(desk, member_id):
    await make_minor(desk.world, member_id, AgeTier.GUARDIAN_ONLY)
    with pytest.raises(GuardianRequiredError) as refused:
        await desk.open(member_id, Right.ACCESS, via=Via.API, details={"guardian": new_id("grd")})
    assert refused.value.reason == "guardian_unproven"


async def test_a_proven_guardian_asks_and_so_does_staff_at_the_counter(desk, member_id):
    world, guardian = desk.world, new_id("grd")
    await make_minor(world, member_id, AgeTier.GUARDIAN_ONLY)
    now_us = desk.now_us
    await world.execute(
        "INSERT INTO guardian (id, member_id, relation, kind, attempts, expires_us, proven_us,"
        " recorded_by, created_us) VALUES (:g, :m, 'parent', 'phone', 0, 0, :n, 'sys', :n)",
        g=guardian,
        m=member_id,
        n=now_us,
    )
    asked = await desk.open(member_id, Right.ACCESS, via=Via.API, details={"guardian": guardian})
    assert asked.details["guardian"] == guardian
    at_counter = await desk.open(
        member_id, Right.ACCESS, via=Via.COUNTER, details={"checked": "id_document_seen"}
    )
    assert at_counter.identity_proven
