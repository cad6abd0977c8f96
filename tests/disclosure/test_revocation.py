"""A revoked client is stopped at its very next request, on every worker; so is a changed policy.

Workers keep tokens in RAM. What stops them is the epoch that each request compares, so the tests
revoke on one worker and ask on another that has the token in RAM already.
"""

import asyncio
from contextlib import asynccontextmanager, suppress

import pytest

from disclosure import POLICY_EPOCH, Epochs, StaleEpochError
from kernel import bump_epoch, set_fact
from service.auth import repository as auth_repository
from service.auth.clients import OAuthError
from service.facts import FACT_POLICY
from tests.support.holding import held_events
from tests.support.world import open_world, recorded

pytestmark = pytest.mark.anyio

LOOK_UP = {"kind": "phone", "value": "081-234-5678", "region": "TH", "purpose": "membership"}
REQUESTS = {
    "view": lambda app, member: app.view(member),
    "masked": lambda app, member: app.get(
        f"/v1/members/{member.id}", params={"purpose": "membership"}
    ),
    "batch": lambda app, member: app.post(
        "/v1/members:view", {"ids": [member.id], "purpose": "membership"}
    ),
    "check": lambda app, member: app.post(
        "/v1/decisions:check", {"id": member.id, "purpose": "membership"}
    ),
    "lookup": lambda app, _: app.post("/v1/members:lookup", LOOK_UP),
    "consents": lambda app, member: app.get(f"/v1/members/{member.id}/consents"),
    "disclosures": lambda app, member: app.get(f"/v1/members/{member.id}/disclosures"),
    "withdraw": lambda app, member: app.withdraw(member, channel="sms"),
    "update": lambda app, member: app.patch(
        f"/v1/members/{member.id}", {"fields": {"given_name": "สมศรี"}}
    ),
    "introduce": lambda app, member: app.post(f"/v1/members/{member.id}:introduce", {"to": app.id}),
    "receipt": lambda app, member: app.get(f"/v1/consents/{member.consents[0]['id']}/receipt"),
    "trail": lambda app, _: app.get("/v1/audit/events"),
}


@pytest.fixture(autouse=True)
def no_pause_for_what_is_on_its_way_out(monkeypatch):
    """What is proven here must not rest on a pause."""
    monkeypatch.setattr("service.auth.clients.DRAIN_SECONDS", 0)


@pytest.fixture
async def known(world):
    crm = await world.app()
    member = await crm.register(phone="081-234-5678", consents={"marketing": "sms"})
    await crm.verify(member)
    return crm, member


async def refusals(here, there):
    """Each way with a client of its own: used at one worker, revoked at the other, used again."""
    seen = {}
    for way, ask in REQUESTS.items():
        app = await here.app(way)
        member = await app.register(phone="081-234-5678", consents={"marketing": "sms"})
        elsewhere = app.through(there)
        assert (await ask(elsewhere, member)).status_code == 200, way
        await here.runtime.clients.revoke(here.operator, app.id)
        answer = await ask(elsewhere, member)
        seen[way] = (answer.status_code, answer.json().get("reason"))
    return seen


ALL_REFUSED = dict.fromkeys(REQUESTS, (401, "token_unknown"))


async def test_a_revoked_client_is_refused_at_its_very_next_request(world):
    assert await refusals(world, world) == ALL_REFUSED


@pytest.mark.postgres
async def test_another_worker_stops_a_revoked_client_at_its_very_next_request(postgres_settings):
    async with open_world(postgres_settings) as here, open_world(postgres_settings) as there:
        assert await refusals(here, there) == ALL_REFUSED


async def test_a_rotated_secret_stops_tokens_and_the_old_secret(world, known):
    crm, member = known
    fresh = await world.runtime.clients.rotate(world.operator, crm.id)
    assert (await crm.view(member)).status_code == 401
    clients = world.runtime.clients
    with pytest.raises(OAuthError) as refused:
        await clients.issue_token(crm.id, crm.secret, None, minutes=1)
    assert refused.value.status == 401
    crm.secret = fresh["client_secret"]
    await crm.sign_in()
    assert (await crm.view(member)).status_code == 200


@pytest.mark.postgres
async def test_a_token_asked_for_with_the_old_secret_does_not_outlive_a_rotation(
    postgres_settings, monkeypatch
):
    """The secret was right when it was looked at, and rotated before the token was stored."""
    async with open_world(postgres_settings) as world:
        crm = await world.app()
        member = await crm.register(phone="081-234-5678")
        clients = world.runtime.clients
        looked, rotated = asyncio.Event(), asyncio.Event()
        genuine = auth_repository.add_token

        async def slowly(work, *token):
            looked.set()
            with suppress(TimeoutError):
                await asyncio.wait_for(rotated.wait(), 0.5)
            await genuine(work, *token)

        monkeypatch.setattr(auth_repository, "add_token", slowly)
        asked = asyncio.create_task(clients.issue_token(crm.id, crm.secret, None, minutes=10))
        await looked.wait()
        await clients.rotate(world.operator, crm.id)
        rotated.set()
        answer = await asked
        crm.token = answer["access_token"]
        assert (await crm.view(member)).status_code == 401


async def test_a_token_looked_up_before_a_revocation_is_not_kept_after_it(world, known):
    """Its row was read, then the client revoked and the epochs refreshed by somebody else."""
    crm, member = known
    await crm.sign_in()  # a token that this worker has not seen
    gatekeeper = world.runtime.gatekeeper
    genuine, read, go_on = gatekeeper._database, asyncio.Event(), asyncio.Event()

    class Slow:
        @asynccontextmanager
        async def read(self):
            async with genuine.read() as session:
                yield session
            if asyncio.current_task().get_name() == "slow":
                read.set()
                await go_on.wait()

    gatekeeper._database = Slow()
    slow = asyncio.create_task(crm.view(member), name="slow")
    await read.wait()
    await world.runtime.clients.revoke(world.operator, crm.id)
    await gatekeeper.refresh()
    go_on.set()
    assert (await slow).status_code == 401
    assert (await crm.view(member)).status_code == 401


async def test_a_moved_policy_epoch_is_noticed_by_the_statement_and_the_read_begins_anew(
    world, known
):
    crm, member = known
    runtime, before = world.runtime, world.runtime.gatekeeper.epochs()
    async with runtime.database.unit_of_work() as work:
        await bump_epoch(work, POLICY_EPOCH)
    question = runtime.disclosure.question("membership", None, None)
    with pytest.raises(StaleEpochError):
        await runtime.disclosure.view(world.caller(crm), member.id, question, before)
    with pytest.raises(StaleEpochError):
        await runtime.disclosure.view(world.caller(crm), "sub_unknown", question, before)
    with pytest.raises(StaleEpochError):
        await runtime.disclosure.view_many(world.caller(crm), [member.id], question, before)
    assert await world.events("member.view") == []
    assert (await crm.view(member)).status_code == 200
    assert runtime.gatekeeper.epochs() == Epochs(before.auth, before.policy + 1)


async def test_a_worker_with_the_old_policy_answers_nothing(world, known):
    crm, member = known
    async with recorded(world.runtime.database) as work:
        await set_fact(work, FACT_POLICY, "sha256:" + "0" * 64)
        await bump_epoch(work, POLICY_EPOCH)
    before = await world.events()
    for way, ask in REQUESTS.items():
        answer = await ask(crm, member)
        assert (answer.status_code, answer.json()["reason"]) == (503, "policy_changed"), way
    assert await world.events() == before


@pytest.mark.postgres
async def test_many_requests_that_notice_a_change_at_once_do_not_lock_each_other_out(
    postgres_settings,
):
    """Each needs a second look at the database; none may wait for it while it holds the first."""
    small = postgres_settings.model_copy(
        update={"database": postgres_settings.database.model_copy(update={"pool_size": 2})}
    )
    async with open_world(small) as world:
        crm = await world.app()
        member = await crm.register(phone="081-234-5678")
        for way in ("consents", "view"):
            async with world.runtime.database.unit_of_work() as work:
                await bump_epoch(work, POLICY_EPOCH)
            async with asyncio.timeout(20):
                answers = await asyncio.gather(*(REQUESTS[way](crm, member) for _ in range(8)))
            assert {answer.status_code for answer in answers} == {200}


@pytest.mark.postgres
async def test_a_revocation_is_done_when_the_reads_that_missed_it_are_over(postgres_settings):
    """The event of a read takes longer than any pause that a revocation might make."""
    async with open_world(postgres_settings) as here, open_world(postgres_settings) as there:
        crm = await here.app()
        member = await crm.register(phone="081-234-5678")
        async with held_events(here, "NEW.action = 'member.view'") as held:
            read = asyncio.create_task(crm.through(there).view(member))
            await held.until_held()
            revoking = asyncio.create_task(here.runtime.clients.revoke(here.operator, crm.id))
            await here.until(f"SELECT 1 FROM client WHERE id = '{crm.id}' AND state <> 'active'")
            # It looks now and then whether the read is over; one that does not would be done soon.
            done, _ = await asyncio.wait([revoking], timeout=0.5)
            assert not done
            await held.let_go()
            await revoking
            at_its_return = await here.events("member.view")
        assert len(at_its_return) == 1
        await read
        assert await here.events("member.view") == at_its_return


async def test_tokens_run_out(world, known):
    crm, member = known
    assert (await crm.view(member)).status_code == 200
    await world.execute("UPDATE access_token SET expires_us = 1")
    await world.runtime.gatekeeper.refresh()
    answer = await crm.view(member)
    assert (answer.status_code, answer.json()["reason"]) == (401, "token_expired")


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Bearer ", "Basic x", "bearer " + "x" * 300, "Bearer \x00", "token"]
)
async def test_without_a_good_token_nothing_is_answered_and_nothing_recorded(world, known, header):
    _, member = known
    before = len(await world.events())
    answer = await world.http.get(
        f"/v1/members/{member.id}/view",
        params={"purpose": "membership"},
        headers={"Authorization": header} if header else {},
    )
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert len(await world.events()) == before
