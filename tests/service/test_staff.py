"""Staff accounts: who gets in, who does not, what nobody can tell from outside, who may be both."""

import asyncio
import hashlib
import json

import pytest

from kernel import Caller, ConflictError, InvalidRequestError, RequestId, YinyomError, new_id
from service.staff import (
    ROLES,
    ApprovalKind,
    ApprovalNeededError,
    ApprovalRefusedError,
    DutiesNotSeparateError,
    Staff,
    StaffNotFoundError,
    make_staff,
)
from service.staff.accounts import (
    APART,
    ONE_TIME_US,
    SESSION_US,
    TRIES_PER_ADDRESS,
    TRIES_PER_NAME,
)
from service.staff.approvals import ALONE_DELAY_US, GOOD_FOR_US
from service.staff.passwords import Cost, fits, hash_password, weakness
from service.tasks import system_caller
from tests.support.world import JumpingClock, open_world

pytestmark = pytest.mark.anyio

CHEAP = Cost(n=2**4)
CHOSEN = "ขวดน้ำ-three-lamps"
HASH = hashlib.sha256(b"refuse request 1 on ground 2").digest()


@pytest.fixture
async def world(settings):
    async with open_world(settings, clock=JumpingClock(), background=False) as opened:
        runtime = opened.runtime
        runtime.staff = Staff(
            runtime.database, runtime.audit, runtime.clock, runtime.rights, cost=CHEAP
        )
        yield opened


@pytest.fixture
def staff(world):
    return world.runtime.staff


async def added(world, name, role, **details):
    details.setdefault("one_time", False)
    return await world.runtime.staff.add(world.operator, name, role, brand="main", **details)


async def sign_in(staff, made, password=None, address="192.0.2.1"):
    return await staff.sign_in(made["name"], password or made["password"], address, new_id("req"))


def as_staff(made, brand="main"):
    return Caller(made["staff_id"], made["role"], "console", brand, RequestId(new_id("req")))


# --- passwords ------------------------------------------------------------------------


def test_a_password_is_stored_with_its_parameters_and_a_salt_of_its_own():
    first, second = hash_password(CHOSEN, CHEAP), hash_password(CHOSEN, CHEAP)
    assert first.startswith("scrypt$16$8$1$")
    assert first != second
    assert fits(CHOSEN, first)
    assert fits(CHOSEN, hash_password(CHOSEN, Cost(n=2**5, r=4)))
    assert not fits(CHOSEN + "x", first)


def test_two_spellings_of_one_letter_are_one_password():
    assert fits("cafe\u0301-cafe\u0301-2026", hash_password("caf\u00e9-caf\u00e9-2026", CHEAP))


@pytest.mark.parametrize(
    ("password", "wrong"),
    [
        ("short", "length"),
        ("x" * 300, "length"),
        ("aaaaaaaaaaaaaaaa", "repeated"),
        ("Kanya-is-here-2026", "name"),
        (CHOSEN, None),
    ],
)
def test_a_weak_password_is_named_by_a_code(password, wrong):
    assert weakness(password, "kanya") == wrong


# --- accounts -------------------------------------------------------------------------


async def test_a_new_account_signs_in_and_its_password_is_nowhere(world, staff):
    made = await added(world, "kanya", "dpo", one_time=True)
    signed = await sign_in(staff, made)
    assert signed.account.must_change
    rows = json.dumps(await world.fetch("SELECT name, password FROM staff"))
    assert made["password"] not in rows
    (event,) = await world.events("staff.sign_in")
    assert event["actor"] == {"id": made["staff_id"], "role": "dpo", "via": "console"}


@pytest.mark.parametrize(
    ("name", "role", "person"),
    [("Kanya!", "dpo", None), ("k", "dpo", None), ("kanya", "boss", None), ("kanya", "dpo", "a b")],
)
async def test_an_account_that_cannot_be_is_refused(world, staff, name, role, person):
    with pytest.raises(InvalidRequestError):
        await staff.add(world.operator, name, role, brand="main", person=person)
    assert await world.fetch("SELECT id FROM staff") == []


async def test_a_name_is_taken_once(world):
    await added(world, "kanya", "dpo")
    with pytest.raises(ConflictError) as refused:
        await added(world, "kanya", "clerk")
    assert refused.value.reason == "staff_exists"


@pytest.mark.parametrize("case", ["unknown", "no name", "wrong", "disabled", "run out"])
async def test_every_failed_sign_in_looks_the_same_and_is_an_event(world, staff, case):
    made = await added(world, "kanya", "dpo", one_time=case == "run out")
    password = made["password"]
    name = {"unknown": "nobody", "no name": "kan\x00ya"}.get(case, made["name"])
    if case == "wrong":
        password += "x"
    if case == "disabled":
        await staff.disable(world.operator, "kanya")
    if case == "run out":
        world.runtime.clock.jump_us = ONE_TIME_US
    assert await staff.sign_in(name, password, None, new_id("req")) is None
    (event,) = await world.events("staff.sign_in")
    assert (event["actor"]["id"], event["decision"]) == ("visitor", "deny")


async def test_an_unknown_name_costs_the_work_of_a_known_one(world, staff, monkeypatch):
    derived = []
    from service.staff import accounts

    monkeypatch.setattr(
        accounts, "fits", lambda password, stored: derived.append(stored) or fits(password, stored)
    )
    await added(world, "kanya", "dpo")
    await staff.sign_in("nobody", "x", None, new_id("req"))
    await staff.sign_in("kanya", "x", None, new_id("req"))
    unknown, known = (stored.rsplit("$", 2)[0] for stored in derived)
    assert unknown == known


async def test_guesses_at_one_name_are_counted_even_where_nobody_has_it(world, staff):
    made = await added(world, "kanya", "dpo")
    for name in ("kanya", "nobody"):
        for guess in range(TRIES_PER_NAME):
            address = f"192.0.2.{guess}"
            assert await staff.sign_in(name, "wrong", address, new_id("req")) is None
    assert await sign_in(staff, made, address="198.51.100.1") is None
    world.runtime.clock.jump_us = 15 * 60_000_000
    assert await sign_in(staff, made, address="198.51.100.1") is not None


async def test_guesses_from_one_address_are_counted_over_all_names(world, staff):
    made = await added(world, "kanya", "dpo")
    for guess in range(TRIES_PER_ADDRESS):
        await staff.sign_in(f"name{guess}", "wrong", "2001:db8::1", new_id("req"))
    assert await sign_in(staff, made, address="2001:db8::2") is None
    assert await sign_in(staff, made, address="2001:db9::1") is not None


# --- separation of duties -------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "second"), [(one, other) for one, others in APART.items() for other in sorted(others)]
)
async def test_one_person_does_not_audit_their_own_work(world, staff, first, second):
    await added(world, "one", first, person="p17")
    with pytest.raises(DutiesNotSeparateError):
        await added(world, "two", second, person="p17")
    await added(world, "two", "clerk", person="p17")
    with pytest.raises(DutiesNotSeparateError):
        await staff.give_role(world.operator, "two", second)
    await staff.disable(world.operator, "one")
    assert (await staff.give_role(world.operator, "two", second))["role"] == second


async def test_two_accounts_made_at_once_cannot_slip_past_each_other(world, staff):
    both = await asyncio.gather(
        added(world, "one", "auditor", person="p17"),
        added(world, "two", "admin", person="p17"),
        return_exceptions=True,
    )
    assert [isinstance(one, DutiesNotSeparateError) for one in both].count(True) == 1


@pytest.mark.parametrize("change", ["give_role", "disable", "reset"])
async def test_nobody_changes_their_own_account(world, staff, change):
    made = await added(world, "boss", "admin")
    arguments = ["dpo"] if change == "give_role" else []
    with pytest.raises(DutiesNotSeparateError) as refused:
        await getattr(staff, change)(as_staff(made), "boss", *arguments)
    assert refused.value.reason == "own_account"


@pytest.mark.parametrize("change", ["give_role", "disable", "reset"])
async def test_a_change_of_an_account_ends_its_sessions(world, staff, change):
    made = await added(world, "kanya", "dpo")
    await sign_in(staff, made)
    arguments = ["clerk"] if change == "give_role" else []
    await getattr(staff, change)(world.operator, "kanya", *arguments)
    assert await world.fetch("SELECT staff_id FROM staff_session") == []


async def test_a_disabled_account_is_not_reset(world, staff):
    await added(world, "kanya", "dpo")
    await staff.disable(world.operator, "kanya")
    with pytest.raises(StaffNotFoundError):
        await staff.reset(world.operator, "kanya")


async def test_housekeeping_forgets_sessions_that_ran_out(world, staff):
    await sign_in(staff, await added(world, "kanya", "dpo"))
    world.runtime.clock.jump_us = SESSION_US + 1
    assert (await world.runtime.housekeeping.sweep()).sessions_dropped == 1


async def test_the_sample_accounts_are_one_per_role_and_sign_in(world, staff):
    made = await make_staff(staff, system_caller("cli", "main"), brand="main")
    assert set(made) == set(ROLES)
    for role, one in made.items():
        signed = await staff.sign_in(one["name"], one["password"], None, new_id("req"))
        assert (signed.account.role, signed.account.must_change) == (role, False)


# --- approvals ------------------------------------------------------------------------


@pytest.fixture
async def people(world):
    return {
        name: await added(world, name, role)
        for name, role in [("ann", "dpo"), ("bee", "dpo"), ("eve", "auditor"), ("oda", "operator")]
    }


async def requested(world, made, kind=ApprovalKind.REFUSAL, digest=HASH):
    async with world.runtime.database.unit_of_work() as work:
        return await world.runtime.approvals.request(
            work,
            as_staff(made),
            kind,
            "rights_request",
            digest,
            now_us=world.runtime.clock.now_us(),
        )


async def approve(world, made, held, digest=HASH, answer="approve", brand="main"):
    async with world.runtime.database.unit_of_work() as work:
        await getattr(world.runtime.approvals, answer)(
            work, as_staff(made, brand), held.id, digest, now_us=world.runtime.clock.now_us()
        )


async def require(world, made, kind=ApprovalKind.REFUSAL, digest=HASH):
    async with world.runtime.database.unit_of_work() as work:
        return await world.runtime.approvals.require(
            work, as_staff(made), kind, digest, now_us=world.runtime.clock.now_us()
        )


async def refused(call):
    with pytest.raises(YinyomError) as found:
        await call
    return found.value.reason


async def test_what_a_second_person_approved_happens_once(world, people):
    assert await refused(require(world, people["ann"])) == "approval_needed"
    held = await requested(world, people["ann"])
    assert await refused(require(world, people["ann"])) == "approval_waiting"
    await approve(world, people["bee"], held)
    assert (await require(world, people["ann"])).decided_by == people["bee"]["staff_id"]
    assert await refused(require(world, people["ann"])) == "approval_needed"
    actions = [e["action"] for e in await world.events() if e["action"].startswith("approval.")]
    assert actions == ["approval.request", "approval.approve", "approval.use"]


async def test_asking_again_for_the_same_thing_is_one_request(world, people):
    first = await requested(world, people["ann"])
    assert (await requested(world, people["ann"])).id == first.id


async def test_nobody_approves_their_own_request(world, people):
    held = await requested(world, people["ann"])
    with pytest.raises(ApprovalRefusedError) as found:
        await approve(world, people["ann"], held)
    assert found.value.reason == "own_request"


async def test_a_second_account_of_the_same_person_is_the_same_person(world, staff):
    one = await added(world, "ann", "dpo", person="p17")
    two = await added(world, "ann2", "dpo", person="p17")
    held = await requested(world, one)
    assert await refused(approve(world, two, held)) == "own_request"


async def test_a_request_that_has_changed_is_not_approved(world, people):
    held = await requested(world, people["ann"])
    other = hashlib.sha256(b"something wider").digest()
    assert await refused(approve(world, people["bee"], held, other)) == "request_changed"
    await approve(world, people["bee"], held)
    assert await refused(require(world, people["ann"], digest=other)) == "approval_needed"


async def test_an_approval_runs_out(world, people):
    held = await requested(world, people["ann"])
    world.runtime.clock.jump_us = GOOD_FOR_US
    assert await refused(approve(world, people["bee"], held)) == "expired"


async def test_an_approval_given_in_time_runs_out_unused(world, people):
    await approve(world, people["bee"], await requested(world, people["ann"]))
    world.runtime.clock.jump_us = GOOD_FOR_US
    assert await refused(require(world, people["ann"])) == "approval_needed"


@pytest.mark.parametrize("who", ["eve", "oda"])
async def test_only_the_right_role_approves(world, people, who):
    held = await requested(world, people["ann"])
    assert await refused(approve(world, people[who], held)) == "role_not_allowed"


async def test_another_brand_does_not_approve(world, people):
    held = await requested(world, people["ann"])
    assert await refused(approve(world, people["bee"], held, brand="other")) == "role_not_allowed"


async def test_a_declined_request_does_not_happen_and_is_not_approved_after(world, people):
    held = await requested(world, people["ann"])
    await approve(world, people["bee"], held, answer="decline")
    assert await refused(approve(world, people["bee"], held)) == "already_decided"
    assert await refused(require(world, people["ann"])) == "approval_needed"


async def test_an_approval_is_for_the_one_who_asked(world, people):
    await approve(world, people["bee"], await requested(world, people["ann"]))
    assert await refused(require(world, people["bee"])) == "approval_needed"


async def test_two_answers_at_once_are_one(world, people):
    held = await requested(world, people["ann"])
    more = await added(world, "cat", "dpo")
    both = await asyncio.gather(
        approve(world, people["bee"], held),
        approve(world, more, held, answer="decline"),
        return_exceptions=True,
    )
    assert [isinstance(one, ApprovalRefusedError) for one in both].count(True) == 1


async def test_where_nobody_else_could_approve_a_day_and_an_event_stand_in(world, staff):
    alone = await added(world, "ann", "dpo")
    await requested(world, alone)
    assert await refused(require(world, alone)) == "approval_delay"
    world.runtime.clock.jump_us = ALONE_DELAY_US
    await require(world, alone)
    assert len(await world.events("approval.waive")) == 1


async def test_the_day_does_not_stand_in_once_somebody_else_could_approve(world, staff):
    alone = await added(world, "ann", "dpo")
    await requested(world, alone)
    world.runtime.clock.jump_us = ALONE_DELAY_US
    await added(world, "bee", "dpo")
    with pytest.raises(ApprovalNeededError):
        await require(world, alone)


async def test_a_request_about_a_member_id_is_refused(world, people):
    async with world.runtime.database.unit_of_work() as work:
        with pytest.raises(ValueError, match="about"):
            await world.runtime.approvals.request(
                work, as_staff(people["ann"]), ApprovalKind.REFUSAL, new_id("mem"), HASH, now_us=0
            )


async def test_only_one_of_two_uses_of_an_approval_counts(world, people):
    await approve(world, people["bee"], await requested(world, people["ann"]))
    both = await asyncio.gather(
        require(world, people["ann"]), require(world, people["ann"]), return_exceptions=True
    )
    assert [isinstance(one, ApprovalNeededError) for one in both].count(True) == 1
