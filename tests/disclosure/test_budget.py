"""A client reads so many distinct members a day and no more, whichever process it asks."""

import json

import pytest

from disclosure import BudgetSpentError, MemberBudget
from kernel import new_id
from service.auth.clients import Clients
from tests.support.world import EVERYTHING, App, JumpingClock, open_world

pytestmark = pytest.mark.anyio

DAY_US = 86_400_000_000
SCOPES = (*EVERYTHING, "audiences:export")


@pytest.fixture
async def world(settings):
    async with open_world(settings, clock=JumpingClock(), background=False) as opened:
        yield opened


async def client(world, most):
    made = await world.runtime.clients.add(
        world.operator, "crm", list(SCOPES), brand="main", members_a_day=most
    )
    app = App(world, world.http, made)
    await app.sign_in()
    return app


async def members_of(app, number):
    return [await app.register(phone=f"081-{at:07}") for at in range(number)]


async def marks(world):
    return await world.fetch("SELECT * FROM member_budget")


def another(world, default=100):
    """The same budget as another process has it."""
    runtime = world.runtime
    return MemberBudget(
        runtime.database,
        runtime.vault,
        runtime.audit,
        runtime.clock,
        Clients.members_a_day,
        default=default,
    )


async def test_who_is_one_too_many_is_refused_on_record_and_the_others_stay_readable(world):
    app = await client(world, 3)
    *read, other = await members_of(app, 4)
    for member in (*read, *read):
        assert (await app.view(member)).status_code == 200
    refused = await app.view(other)
    assert refused.status_code == 429
    assert refused.json()["reason"] == "budget_spent"
    assert refused.json()["type"].endswith("/member-budget-spent")
    assert refused.headers["RateLimit-Policy"] == '"members";q=3;w=86400'
    assert refused.headers["RateLimit"].startswith('"members";r=0;t=')
    assert 0 < int(refused.headers["Retry-After"]) <= 86_400
    (event,) = await world.events("member.budget")
    assert (event["decision"], event["reason"], event["count"]) == ("deny", "budget_spent", 3)
    assert event["id"] == refused.json()["audit_id"]
    assert world.runtime.budget.refused == 1
    assert (await app.view(read[0])).status_code == 200


async def test_asking_for_unknown_ids_spends_the_budget_too(world):
    app = await client(world, 2)
    for _ in range(2):
        assert (await app.view(new_id("sub"))).status_code == 404
    assert (await app.view(new_id("sub"))).status_code == 429


async def test_an_export_ends_where_the_budget_does(world):
    app = await client(world, 2)
    for at in range(3):
        await app.register(phone=f"082-{at:07}", consents={"marketing": "sms"})
    answer = await app.post("/v1/audiences:export", {"purpose": "marketing", "channel": "sms"})
    assert [json.loads(line) for line in answer.text.splitlines()] == []
    (ended,) = await world.events("audience.export.end")
    assert (ended["outcome"], ended["reason"]) == ("partial", "budget_spent")


async def test_processes_count_together(world):
    app = await client(world, 3)
    caller = world.caller(app)
    here, there = another(world), another(world)
    await here.admit(caller, ["a", "b"])
    await there.admit(caller, ["b", "c"])
    for budget in (here, there):
        with pytest.raises(BudgetSpentError):
            await budget.admit(caller, ["d"])
        await budget.admit(caller, ["a", "b", "c"])
    assert len(await marks(world)) == 3


async def test_what_was_counted_far_from_the_end_is_written_down_and_survives_the_process(world):
    app = await client(world, 1_000)
    caller = world.caller(app)
    first = another(world)
    await first.admit(caller, [str(at) for at in range(900)])
    assert await marks(world) == []  # no statement on the way of a read
    await first.close()
    assert len(await marks(world)) == 900
    second = another(world)
    await second.admit(caller, [str(at) for at in range(800, 1_000)])
    with pytest.raises(BudgetSpentError):
        await second.admit(caller, ["one more"])


async def test_the_budget_outlives_a_restart(settings):
    async with open_world(settings, background=False) as world:
        app = await client(world, 2)
        read, other = await members_of(app, 2)
        await app.view(read)
        await app.view(new_id("sub"))
    async with open_world(settings, background=False) as world:
        again = App(world, world.http, {"client_id": app.id, "client_secret": app.secret})
        await again.sign_in()
        assert (await again.view(other)).status_code == 429
        assert (await again.view(read)).status_code == 200


async def test_storage_is_bounded_by_the_budget_and_the_day_and_names_nobody(world):
    app = await client(world, 2)
    caller = world.caller(app)
    for at in range(10):
        if at < 2:
            await world.runtime.budget.admit(caller, [f"sub_{at}"])
        else:
            with pytest.raises(BudgetSpentError):
                await world.runtime.budget.admit(caller, [f"sub_{at}"])
    stored = await marks(world)
    assert len(stored) == 2
    assert all(len(bytes(row["mark"])) == 16 for row in stored)
    assert all(b"sub_" not in bytes(row["mark"]) for row in stored)
    world.runtime.clock.jump_us = DAY_US
    await world.runtime.budget.admit(caller, ["sub_9"])  # a new day
    await world.runtime.budget.flush()
    assert await world.runtime.budget.sweep() == 2
    assert len(await marks(world)) == 1


async def test_without_a_number_of_its_own_a_client_has_that_of_the_settings(world):
    app = await world.app()
    caller, budget = world.caller(app), another(world, default=1)
    await budget.admit(caller, ["a"])
    with pytest.raises(BudgetSpentError):
        await budget.admit(caller, ["b"])


async def test_the_budget_of_one_client_is_not_that_of_another(world):
    one, other = await world.app("one"), await world.app("other")
    budget = another(world, default=1)
    await budget.admit(world.caller(one), ["a"])
    await budget.admit(world.caller(other), ["b"])
    with pytest.raises(BudgetSpentError):
        await budget.admit(world.caller(one), ["b"])
