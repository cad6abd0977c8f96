"""A member's view of their own record takes the road of every disclosure."""

from dataclasses import replace

import pytest

from disclosure import (
    GateMovedError,
    MemberUnknownError,
    SelfAccess,
    StaleEpochError,
    self_caller,
)
from kernel import NotFoundError, UnavailableError, bump_epoch, new_id
from policies import AccessSnapshot
from tests.support.world import recorded

pytestmark = pytest.mark.anyio

FIELDS = {"given_name": "สมหญิง", "phone": "081-234-5678", "birth_date": "1992-03-12", "gender": "F"}


@pytest.fixture
async def crm(world):
    return await world.app("crm")


@pytest.fixture
async def member_id(world, crm):
    return await world.member_id(await crm.register(FIELDS))


@pytest.fixture
def access(world):
    return self_access(world)


def self_access(world, snapshot: AccessSnapshot | None = None) -> SelfAccess:
    rt = world.runtime
    return SelfAccess(
        rt.database, rt.vault, rt.audit, rt.pack, snapshot or rt.access, rt.consent, rt.members
    )


def caller(brand: str = "main"):
    return self_caller(brand, "portal", new_id("req"))


async def outline(world, access, member_id, who=None):
    await world.runtime.gatekeeper.refresh()
    return await access.outline(who or caller(), member_id, world.runtime.gatekeeper.epochs())


async def test_values_leave_as_outlines_in_the_order_of_the_catalogue(world, access, member_id):
    view = await outline(world, access, member_id)
    assert [(value.field.key, value.outline) for value in view.values] == [
        ("given_name", "ส•••"),
        ("phone", "081-xxx-5678"),
        ("birth_date", "1992"),
        ("gender", "•••"),
    ]
    assert {value.source for value in view.values} == {"api"}
    assert {value.verified_us for value in view.values} == {None}


async def test_the_event_names_fields_and_self_and_no_member(world, access, member_id):
    view = await outline(world, access, member_id)
    (event,) = await world.events("member.view_self")
    assert event["id"] == view.audit_id
    assert event["fields"] == sorted(FIELDS)
    assert event["actor"] == {"id": "self", "role": "member", "via": "portal"}
    assert event["decision"] == "allow"
    assert member_id not in str(event)
    assert "สมหญิง" not in str(event)


async def test_nothing_is_opened_unless_the_event_is_durable(world, access, member_id, monkeypatch):
    opened = []
    monkeypatch.setattr(type(world.runtime.vault), "open", lambda *_: opened.append(1) or {})
    world.runtime.audit.block("audit_test")
    with pytest.raises(UnavailableError):
        await outline(world, access, member_id)
    assert opened == []
    assert await world.events("member.view_self") == []


async def test_a_gate_that_moved_under_the_decision_makes_it_decide_again(
    world, access, member_id, monkeypatch
):
    room = type(world.runtime.consent)
    usual, looks = room.gate, []

    async def gate(self, session, member):
        looks.append(1)
        found = await usual(self, session, member)
        return found if len(looks) > 2 else replace(found, version=found.version - 1)

    monkeypatch.setattr(room, "gate", gate)
    view = await outline(world, access, member_id)
    assert len(looks) == 3
    assert [event["id"] for event in await world.events("member.view_self")] == [view.audit_id]


async def test_a_gate_that_never_stands_still_discloses_nothing(
    world, access, member_id, monkeypatch
):
    room = type(world.runtime.consent)
    usual = room.gate

    async def gate(self, session, member):
        return replace(await usual(self, session, member), version=-1)

    monkeypatch.setattr(room, "gate", gate)
    with pytest.raises(GateMovedError):
        await outline(world, access, member_id)
    assert await world.events("member.view_self") == []


async def test_a_restriction_does_not_keep_members_from_their_own_data(
    world, crm, access, member_id
):
    async with recorded(world.runtime.database) as work:
        await world.runtime.consent.restrict(work, member_id, on=True)
    assert len((await outline(world, access, member_id)).values) == len(FIELDS)


async def test_an_erased_member_is_unknown_and_the_denial_is_on_record(world, crm, access):
    member = await crm.register(FIELDS | {"phone": "089-000-1111"})
    erased = await world.erase(member)
    with pytest.raises(MemberUnknownError) as refused:
        await outline(world, access, erased)
    (event,) = await world.events("member.view_self")
    assert (event["decision"], event["reason"]) == ("deny", "member_erased")
    assert refused.value.audit_id == event["id"]


async def test_a_caller_of_another_brand_is_refused(world, access, member_id):
    with pytest.raises(MemberUnknownError):
        await outline(world, access, member_id, caller("other"))
    (event,) = await world.events("member.view_self")
    assert event["reason"] == "other_brand"


async def test_a_member_who_never_was_is_unknown(world, access):
    with pytest.raises(NotFoundError):
        await outline(world, access, new_id("mem"))


async def test_stale_epochs_are_refused_before_anything_is_recorded(world, access, member_id):
    await world.runtime.gatekeeper.refresh()
    epochs = world.runtime.gatekeeper.epochs()
    async with world.runtime.database.unit_of_work() as work:
        await bump_epoch(work, "auth")
    with pytest.raises(StaleEpochError):
        await access.outline(caller(), member_id, epochs)
    assert await world.events("member.view_self") == []


async def test_a_field_that_the_role_may_not_see_stays_shut(world, member_id):
    allowed = world.runtime.access

    class WithoutDemographics:
        def allows(self, role, brand, resource, action, purpose=None):
            return resource != "demographic" and allowed.allows(
                role, brand, resource, action, purpose
            )

    access = self_access(world, WithoutDemographics())
    view = await outline(world, access, member_id)
    assert [value.field.key for value in view.values] == ["given_name", "phone"]
    (event,) = await world.events("member.view_self")
    assert event["fields"] == ["given_name", "phone"]


async def test_a_second_phone_is_shown_under_the_same_field(world, crm, access):
    member = await crm.register(FIELDS | {"phone": "089-000-1111"})
    answer = await crm.post(
        f"/v1/members/{member.id}/contact-points",
        {"kind": "phone", "value": "+66890002222"},
    )
    assert answer.status_code == 201, answer.text
    view = await outline(world, access, await world.member_id(member))
    phones = [value.outline for value in view.values if value.field.key == "phone"]
    assert phones == ["089-xxx-1111", "089-xxx-2222"]
