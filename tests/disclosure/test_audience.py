"""Audiences: counts that single nobody out, exports that keep every promise of a single read."""

import asyncio
import itertools
import json

import pytest
from sqlalchemy import bindparam, insert

from consent import GateState, Status
from consent.tables import consent_state, member_gate
from disclosure import Allowed, CountRules, Snapshot, audience, audience_repository, decide
from kernel import Statement, new_id
from members.tables import member as member_table
from policies import AgeTier
from tests.support.world import EVERYTHING, open_world, recorded

pytestmark = pytest.mark.anyio

AUDIENCES = (*EVERYTHING, "audiences:query", "audiences:export", "suppressions:read")
BODY = {"purpose": "marketing", "channel": "sms"}
MANY = 205  # three chunks of a hundred


async def count(app, **more):
    answer = await app.post("/v1/audiences:query", {**BODY, **more})
    assert answer.status_code == 200, answer.text
    return answer.json()


async def export(app, **more):
    answer = await app.post("/v1/audiences:export", {**BODY, **more})
    assert answer.status_code == 200, answer.text
    return [json.loads(line) for line in answer.text.splitlines()]


async def some_members(app, number, *, verified=0):
    members = [
        await app.register(phone=f"081-{at:07}", consents={"marketing": "sms"})
        for at in range(number)
    ]
    for member in members[:verified]:
        await app.verify(member)
    return members


# --- counting -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("exact", "told"), [(0, None), (9, None), (10, 10), (14, 10), (15, 15), (10_004, 10_000)]
)
def test_a_count_is_told_from_the_minimum_on_and_rounded_down(exact, told):
    assert CountRules(10, 5).told(exact) == told


async def test_a_small_audience_is_not_counted_out(world):
    crm = await world.app("crm", *AUDIENCES)
    await some_members(crm, 9)
    answer = await count(crm)
    assert (answer["count"], answer["suppressed"], answer["minimum"]) == (None, True, 10)
    (event,) = await world.events("audience.count")
    assert "count" not in event
    assert "subject" not in event


async def test_a_withdrawn_restricted_erased_or_foreign_member_is_in_no_count(world):
    crm = await world.app("crm", *AUDIENCES)
    members = await some_members(crm, 14)
    await crm.register(phone="089-0000001")  # silent
    await crm.register(phone="089-0000002", consents={"marketing": "line"})
    elsewhere = await world.app("elsewhere", *AUDIENCES, brand="other")
    await elsewhere.register(consents={"marketing": "sms"}, brand="other")
    assert (await count(crm))["count"] == 10
    await crm.withdraw(members[0], channel="sms")
    await world.restrict(members[1])
    await world.erase(members[2])
    await crm.withdraw(members[3], channel="sms")
    assert (await count(crm))["count"] == 10
    await crm.withdraw(members[4])
    assert (await count(crm))["suppressed"] is True
    assert (await count(elsewhere))["suppressed"] is True


async def test_a_minor_without_a_guardian_is_in_no_audience_whatever_the_state_says(world):
    crm = await world.app("crm", *AUDIENCES)
    members = await some_members(crm, 10)
    assert (await count(crm))["count"] == 10
    await world.execute(
        "UPDATE member_gate SET age_tier = 'minor_with_guardian' WHERE member_id = :id",
        id=await world.member_id(members[0]),
    )
    assert (await count(crm))["suppressed"] is True
    assert len(await export(crm)) == 9 + 1


async def test_counting_and_exporting_need_their_scope_and_that_of_the_purpose(world):
    crm = await world.app("crm", "members:write", "purpose:marketing")
    assert (await crm.post("/v1/audiences:query", BODY)).status_code == 403
    counter = await world.app("counter", "audiences:query", "purpose:marketing")
    assert (await counter.post("/v1/audiences:export", BODY)).status_code == 403
    wrong = await world.app("wrong", "audiences:export", "purpose:membership")
    for path in ("/v1/audiences:query", "/v1/audiences:export"):
        assert (await wrong.post(path, BODY)).json()["reason"] == "scope_missing"
    denied = [event for event in await world.events() if event.get("decision") == "deny"]
    assert len(denied) == 4


async def test_a_faulty_selection_is_refused_at_its_place(world):
    crm = await world.app("crm", *AUDIENCES)
    for body, pointer in (
        ({"purpose": "nothing"}, "/purpose"),
        ({"purpose": "marketing"}, "/channel"),
        ({**BODY, "channel": "pigeon"}, "/channel"),
        ({**BODY, "where": {"brand": "other"}}, "/where/brand"),
    ):
        for path in ("/v1/audiences:query", "/v1/audiences:export"):
            refused = await crm.post(path, body)
            assert refused.status_code == 422, body
            assert refused.json()["errors"][0]["pointer"] == pointer


# --- exporting ------------------------------------------------------------------------


async def test_an_export_gives_allowed_fields_only_under_the_clients_own_ids(world):
    crm = await world.app("crm", *AUDIENCES)
    sender = await world.app("sender", "audiences:export", "purpose:marketing")
    members = await some_members(crm, 3, verified=2)
    *lines, last = await export(sender)
    assert len(lines) == 3
    assert {line["id"] for line in lines}.isdisjoint(member.id for member in members)
    for line in lines:
        assert set(line) == {"id", "data", "omitted"}
        assert set(line["data"]) <= {"given_name", "phone"}
    assert sorted("phone" in line["data"] for line in lines) == [False, True, True]
    assert lines[0]["omitted"]["language"] == "not_held"
    assert last["end"] is True
    assert last["count"] == 3
    assert [v for v in await world.events("member.view") if v["actor"]["id"] == sender.id] == []
    begin, end = await world.events("audience.export"), await world.events("audience.export.end")
    assert [event.get("count") for event in begin] == [None, 3]
    assert len({event["resource"] for event in begin}) == 1
    assert begin[0]["resource"] == end[0]["resource"]
    assert (end[0]["id"], end[0]["count"], end[0]["outcome"]) == (last["audit_id"], 3, "ok")
    again = [line["id"] for line in (await export(sender))[:-1]]
    assert sorted(again) == sorted(line["id"] for line in lines)
    rest = await export(sender, after=again[0])
    assert [line["id"] for line in rest[:-1]] == again[1:]


async def test_two_clients_cannot_line_up_their_exports(world):
    crm = await world.app("crm", *AUDIENCES)
    other = await world.app("other", *AUDIENCES)
    members = await some_members(crm, 20)
    orders = []
    for app in (crm, other):
        ids = [line["id"] for line in (await export(app))[:-1]]
        assert ids == sorted(ids)
        orders.append([await world.member_id(identifier) for identifier in ids])
    assert len(set(orders[0])) == len(members)
    assert set(orders[0]) == set(orders[1])
    assert orders[0] != orders[1]
    assert sorted(orders[0]) not in orders


async def test_every_event_of_a_chunk_is_durable_before_its_first_line_leaves(world):
    crm = await world.app("crm", *AUDIENCES)
    await some_members(crm, 5)
    stream = await begun(world, crm)
    async for part in stream.lines():
        committed = len(await rows_in(world))
        lines = part.decode().splitlines()
        if "end" not in json.loads(lines[0]):
            assert committed >= len(lines)


async def rows_in(world):
    """The rows of every manifest that has been committed."""
    stored = await world.fetch("SELECT rows FROM audit_manifest")
    return [row for one in stored for row in bytes(one["rows"]).splitlines()]


@pytest.fixture
def in_hundreds(monkeypatch):
    """Chunks of a hundred members, so that a test need not register a thousand."""
    monkeypatch.setattr(audience, "_MEMBERS_IN_CHUNK", 100)


async def begun(world, app):
    """An export past HTTP, so that a test can stand between its chunks."""
    caller = world.caller(app)
    runtime = world.runtime
    authorization = f"Bearer {app.token}"

    async def under_epochs(act):
        return await runtime.reader.under_present_epochs(authorization, caller.request_id, act)

    selection = runtime.audiences.selection("marketing", "sms", None)
    return await runtime.audiences.export(caller, selection, under_epochs, after="")


@pytest.mark.usefixtures("in_hundreds")
async def test_who_withdraws_while_an_export_runs_is_in_no_later_chunk(world):
    crm = await world.app("crm", *AUDIENCES)
    await some_members(crm, MANY)
    stream = (await begun(world, crm)).lines()
    first = [json.loads(line)["id"] for line in (await anext(stream)).splitlines()]
    assert len(first) == 100
    rows = await world.fetch(
        "SELECT id FROM pairwise_id WHERE client_id = :client ORDER BY id", client=crm.id
    )
    known = [row["id"] for row in rows]
    assert known[:100] == first
    for identifier in known[100:200]:
        await crm.withdraw(identifier, channel="sms")
    rest = [json.loads(line) async for part in stream for line in part.splitlines()]
    assert [line["id"] for line in rest[:-1]] == known[200:]
    assert rest[-1]["count"] == 100 + len(known[200:])


async def test_a_withdrawal_between_selecting_and_holding_is_seen(world, monkeypatch):
    crm = await world.app("crm", *AUDIENCES)
    members = await some_members(crm, 3)
    select_page = audience_repository.page

    async def then_withdraw(*arguments, **details):
        named = await select_page(*arguments, **details)
        if named:
            await crm.withdraw(members[0], channel="sms")
        return named

    monkeypatch.setattr(audience_repository, "page", then_withdraw)
    lines = await export(crm)
    assert members[0].id not in {line.get("id") for line in lines}
    assert lines[-1]["count"] == 2


@pytest.mark.usefixtures("in_hundreds")
async def test_a_client_that_is_revoked_while_it_exports_gets_no_more_and_no_last_line(world):
    crm = await world.app("crm", *AUDIENCES)
    await some_members(crm, MANY)
    stream = (await begun(world, crm)).lines()
    await anext(stream)
    await world.runtime.clients.revoke(world.operator, crm.id)
    assert [part async for part in stream] == []
    (end,) = await world.events("audience.export.end")
    assert (end["outcome"], end["count"]) == ("partial", 100)
    assert len(await rows_in(world)) == 100


@pytest.mark.usefixtures("in_hundreds")
async def test_a_client_that_hangs_up_leaves_a_truthful_trail(world):
    crm = await world.app("crm", *AUDIENCES)
    await some_members(crm, MANY)
    sent = []
    gone = asyncio.Event()

    async def receive():
        if not sent:
            sent.append(None)
            body = json.dumps(BODY).encode()
            return {"type": "http.request", "body": body, "more_body": False}
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message):
        if message["type"] == "http.response.body" and message.get("body"):
            sent.append(message["body"])
            gone.set()
            await asyncio.sleep(3600)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "POST",
        "path": "/v1/audiences:export",
        "raw_path": b"/v1/audiences:export",
        "root_path": "",
        "scheme": "http",
        "query_string": b"",
        "headers": [
            (b"authorization", f"Bearer {crm.token}".encode()),
            (b"content-type", b"application/json"),
        ],
        "client": ("127.0.0.1", 1),
        "server": ("registry", 80),
    }
    await asyncio.wait_for(world.edge(scope, receive, send), 30)
    assert len(sent[1].splitlines()) == 100
    (end,) = await world.events("audience.export.end")
    assert (end["outcome"], end["reason"], end["count"]) == ("partial", "client_gone", 100)
    assert len(await rows_in(world)) == 100


async def test_when_the_trail_fails_an_export_discloses_nothing(settings):
    async with open_world(settings) as world:
        crm = await world.app("crm", *AUDIENCES)
        await some_members(crm, 3)
        world.runtime.audit.block("audit_lag")
        refused = await crm.post("/v1/audiences:export", BODY)
        assert refused.status_code == 503
        assert "given_name" not in refused.text
        world.runtime.audit.unblock()


# --- narrowing ------------------------------------------------------------------------


async def account(world, member, **values):
    """Give a member an account past the programme, as if it had been played for years."""
    row = {"tier": "member", "activity_class": None, "branch": None, "tags": "[]", **values}
    await world.execute(
        "INSERT INTO loyalty_account (member_id, tier, points_balance, activity_class, branch, "
        "tags, coupons, purchases, updated_us) VALUES "
        "(:member, :tier, 0, :class, :branch, :tags, 0, 0, 0)",
        member=await world.member_id(member),
        tier=row["tier"],
        **{"class": row["activity_class"]},
        branch=row["branch"],
        tags=row["tags"],
    )


HIDDEN = (
    ("tier", {"tier": ["gold"]}, "/where/tier"),
    ("branch", {"branch": ["siam"]}, "/where/branch"),
    ("activity_class", {"activity_class": ["active"]}, "/where/activity_class"),
    ("tags", {"tags": {"none": ["gift_buyer"]}}, "/where/tags/none"),
)


@pytest.mark.parametrize(("field", "where", "pointer"), HIDDEN)
async def test_an_export_is_narrowed_only_by_what_its_purpose_discloses(
    world, field, where, pointer
):
    crm = await world.app("crm", *AUDIENCES)
    (member,) = await some_members(crm, 1)
    await account(world, member, tier="gold", activity_class="active", branch="siam")
    refused = await crm.post("/v1/audiences:export", {**BODY, "where": where})
    assert refused.status_code == 422, field
    assert refused.json()["reason"] == "where_not_disclosed"
    (error,) = refused.json()["errors"]
    assert (error["pointer"], error["code"]) == (pointer, "not_in_purpose")
    assert await world.events("audience.export") == []


async def test_what_a_purpose_does_not_disclose_narrows_a_count_alone(world):
    crm = await world.app("crm", *AUDIENCES)
    for _, where, pointer in HIDDEN:
        await count(crm, where=where)
        other = {"branch": ["ari"]} if "branch" not in where else {"tier": ["gold"]}
        refused = await crm.post("/v1/audiences:query", {**BODY, "where": {**where, **other}})
        assert refused.status_code == 422, where
        assert refused.json()["reason"] == "where_not_disclosed"
        told = {(error["pointer"], error["code"]) for error in refused.json()["errors"]}
        assert (pointer, "not_combinable") in told


async def test_an_audience_is_narrowed_by_what_the_programme_knows(world):
    crm = await world.app("crm", *AUDIENCES, "purpose:profiling")
    gold, silver, tagged, none = [
        await crm.register(phone=f"081-{at:07}", consents={"profiling": None}) for at in range(4)
    ]
    await account(world, gold, tier="gold", activity_class="active", branch="siam")
    await account(world, silver, tier="silver", activity_class="dormant")
    await account(world, tagged, tags='["event_guest","gift_buyer"]')
    for where, expected in (
        ({}, [gold, silver, tagged, none]),
        ({"brand": "main"}, [gold, silver, tagged, none]),
        ({"tier": ["gold"]}, [gold]),
        ({"tier": ["gold", "silver"]}, [gold, silver]),
        ({"activity_class": ["dormant"]}, [silver]),
        ({"tier": ["gold"], "activity_class": ["dormant"]}, []),
        ({"branch": ["siam", "ari"]}, [gold]),
        ({"branch": ["%"]}, []),
        ({"tags": {"any": ["gift_buyer", "new_arrivals"]}}, [tagged]),
        ({"tags": {"all": ["gift_buyer", "event_guest"]}}, [tagged]),
        ({"tags": {"all": ["gift_buyer", "new_arrivals"]}}, []),
        ({"tags": {"none": ["gift_buyer"]}}, [gold, silver, none]),
        ({"tags": {"any": ["event_guest"], "none": ["gift_buyer"]}}, []),
    ):
        lines = await export(crm, purpose="profiling", channel=None, where=where)
        assert {line["id"] for line in lines[:-1]} == {one.id for one in expected}, where


async def test_a_word_that_the_pack_does_not_know_is_never_left_out(world):
    crm = await world.app("crm", *AUDIENCES)
    for where, pointer in (
        ({"tier": ["gold", "golden"]}, "/where/tier/1"),
        ({"activity_class": ["asleep_"]}, "/where/activity_class/0"),
        ({"tags": {"none": ["unheard_of"]}}, "/where/tags/none/0"),
        ({"tiers": ["gold"]}, "/where"),
        ({"tier": []}, "/where/tier"),
    ):
        refused = await crm.post("/v1/audiences:query", {**BODY, "where": where})
        assert refused.status_code == 422, where
        assert refused.json()["errors"][0]["pointer"] == pointer


# --- what SQL says is what the decision says ------------------------------------------

_MEMBER = Statement(
    insert(member_table).values(
        id=bindparam("id"),
        brand=bindparam("brand"),
        jurisdiction=bindparam("jurisdiction"),
        cells=b"\x80",
        provenance=b"\x80",
        version=1,
        created_us=0,
        updated_us=0,
    )
)
_GATE = Statement(
    insert(member_gate).values(
        member_id=bindparam("id"),
        version=1,
        state=bindparam("state"),
        age_tier=bindparam("age_tier"),
    )
)
_STATE = Statement(
    insert(consent_state).values(
        member_id=bindparam("id"),
        purpose=bindparam("purpose"),
        channel=bindparam("channel"),
        status=bindparam("status"),
        event_id="con_x",
        notice_revision=bindparam("revision"),
        guardian_id=bindparam("guardian"),
        since_us=0,
    )
)


def every_state(jurisdictions):
    """Every combination of what a decision looks at, words and guardian of a consent included."""
    decisions = [(None, "", None)]
    decisions += itertools.product(Status, ("current", "sha256:unheard-of"), (None, "grd_x"))
    for law, state, tier, decided in itertools.product(
        jurisdictions, GateState, AgeTier, decisions
    ):
        yield "main", law, state, tier, *decided
    yield "other", "TH", GateState.ACTIVE, AgeTier.ADULT, Status.GIVEN, "current", None


async def test_in_every_state_there_is_sql_counts_exactly_those_whom_the_decision_allows(world):
    crm = await world.app("crm", *AUDIENCES)
    runtime, caller = world.runtime, world.caller(crm)
    reached = [("marketing", "sms"), ("profiling", ""), ("membership", "")]
    current = {purpose: world.revision(purpose) for purpose, _ in reached}
    everybody = {}
    async with recorded(runtime.database) as work:
        for one in every_state([*runtime.pack.jurisdictions, "XX"]):
            brand, law, state, tier, status, words, guardian = one
            identifier = new_id("mem")
            everybody[identifier] = one
            await work.run(_MEMBER, id=identifier, brand=brand, jurisdiction=law)
            await work.run(_GATE, id=identifier, state=state.value, age_tier=tier.value)
            for purpose, channel in reached if status else ():
                await work.run(
                    _STATE,
                    id=identifier,
                    purpose=purpose,
                    channel=channel,
                    status=status.value,
                    revision=current[purpose] if words == "current" else words,
                    guardian=guardian,
                )
    for purpose, channel in reached:
        selection = runtime.audiences.selection(purpose, channel or None)
        question = selection.question
        allowed = set()
        for identifier, one in everybody.items():
            brand, law, state, tier, status, words, guardian = one
            revision = current[purpose] if words == "current" else words
            found = Snapshot(
                member_id=identifier,
                brand=brand,
                jurisdiction=law,
                gate_version=1,
                gate_state=state,
                age_tier=tier,
                status=status,
                consent_id=None if status is None else "con_x",
                notice_revision=revision,
                guardian_id=guardian,
                at_us=runtime.clock.now_us(),
                held=frozenset(),
                verified=frozenset(),
            )
            decision = decide(
                runtime.pack, runtime.access, caller, question.purpose, question.channel, (), found
            )
            if isinstance(decision, Allowed):
                allowed.add(identifier)
        shape = runtime.audiences._shape(selection)
        whom = runtime.audiences._whom(caller, selection)
        async with runtime.database.read() as session:
            found = await audience_repository.unknown_members(
                session, shape, whom, after="", most=100_000
            )
            assert await audience_repository.count(session, shape, whom) == len(allowed)
        assert set(found) == allowed
        assert 0 < len(allowed) < len(everybody)
