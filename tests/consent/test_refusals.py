"""Decisions that may not be recorded: refused with their place, and nothing of them is stored."""

import pytest

from tests.support.world import EVIDENCE, registration

pytestmark = pytest.mark.anyio

ADULT, CHILD = "1990-05-12", "2020-05-12"


@pytest.fixture
async def crm(world):
    return await world.app()


@pytest.fixture
async def member(crm):
    return await crm.register(phone="081-234-5678", birth_date=ADULT)


async def stored(world):
    return (
        await world.fetch("SELECT id FROM consent_event"),
        await world.fetch("SELECT id FROM member"),
        await world.fetch("SELECT id FROM outbox WHERE topic LIKE 'consent%'"),
    )


def places(answer):
    return {error["pointer"]: error["code"] for error in answer.json().get("errors", [])}


FAULTS = {
    "a purpose nobody knows": ({"purpose": "astrology"}, "/purpose", "unknown_purpose"),
    "a purpose by contract": (
        {"purpose": "membership", "channel": None},
        "/purpose",
        "not_by_consent",
    ),
    "a channel nobody knows": ({"channel": "pigeon"}, "/channel", "unknown_channel"),
    "no channel where one is needed": ({"channel": None}, "/channel", "channel_required"),
    "a channel where there are none": (
        {"purpose": "profiling", "channel": "sms"},
        "/channel",
        "channel_not_applicable",
    ),
    "words nobody wrote": (
        {"notice_revision": "sha256:" + "0" * 64},
        "/notice_revision",
        "unknown_notice_revision",
    ),
    "not a revision": (
        {"notice_revision": "1"},
        "/notice_revision",
        "unknown_notice_revision",
    ),
    "the words of another language": ({"lang": "en"}, "/lang", "wrong_language"),
    "evidence of a kind nobody knows": (
        {"evidence": {"remarks": "she said yes"}},
        "/evidence",
        "unknown_evidence",
    ),
    "free text as evidence": (
        {"evidence": {"ui_action": "นางสาวสมหญิง กด"}},
        "/evidence/ui_action",
        "evidence",
    ),
    "a number as evidence": ({"evidence": {"device": 3}}, "/evidence/device", "evidence"),
    "a telephone number as evidence": (
        {"evidence": {"device": "p0812345678"}},
        "/evidence/device",
        "evidence",
    ),
    "an address as evidence": (
        {"evidence": {"place": "somying@example.com"}},
        "/evidence/place",
        "evidence",
    ),
    "an object as evidence": (
        {"evidence": {"form": {"name": "x"}}},
        "/evidence/form",
        "evidence",
    ),
    "a moment without an offset": (
        {"evidence": {"shown_at": "2026-11-23T03:00:00"}},
        "/evidence/shown_at",
        "evidence",
    ),
    "a moment that has not come": (
        {"evidence": {"shown_at": "2199-01-01T00:00:00Z"}},
        "/evidence/shown_at",
        "in_future",
    ),
    "a decision that has not come": (
        {"evidence": {"decided_at": "2199-01-01T00:00:00Z"}},
        "/evidence/decided_at",
        "in_future",
    ),
    "no moment at all": (
        {"evidence": {"shown_at": "yesterday"}},
        "/evidence/shown_at",
        "evidence",
    ),
}


def faulty(world, change):
    purpose = change.get("purpose", "marketing")
    own_words = {"notice_revision": world.revision(purpose)} if purpose == "profiling" else {}
    decision = world.decision("marketing", "sms") | own_words | change
    return {key: value for key, value in decision.items() if value is not None}


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_faulty_decision_is_refused_at_its_place_and_nothing_is_stored(
    world, crm, member, fault
):
    change, pointer, code = FAULTS[fault]
    before = await stored(world)
    decision = faulty(world, change)
    body = {"consents": [world.decision("analytics"), decision]}
    answer = await crm.post(f"/v1/members/{member.id}/consents", body)
    assert answer.status_code == 422
    assert places(answer) == {f"/consents/1{pointer}": code}
    answer = await crm.post("/v1/members", registration({"given_name": "สมศรี"}, [decision]))
    assert answer.status_code == 422
    assert places(answer) == {f"/consents/0{pointer}": code}
    assert await stored(world) == before


async def test_the_words_of_another_purpose_prove_nothing(world, crm, member):
    decision = faulty(world, {"notice_revision": world.revision("profiling")})
    answer = await crm.post(f"/v1/members/{member.id}/consents", {"consents": [decision]})
    assert places(answer) == {"/consents/0/notice_revision": "unknown_notice_revision"}


async def test_each_purpose_and_channel_is_decided_once_in_a_request(world, crm, member):
    yes = world.decision("marketing", "sms")
    no = world.decision("marketing", "sms", "refused")
    answer = await crm.post(f"/v1/members/{member.id}/consents", {"consents": [yes, no]})
    assert places(answer) == {"/consents/1": "repeated"}


@pytest.mark.parametrize("decision", ["withdrawn", "expired", "maybe", "", None, 1])
async def test_only_given_and_refused_can_be_decided_here(world, crm, member, decision):
    body = {"consents": [world.decision("marketing", "sms") | {"decision": decision}]}
    assert (await crm.post(f"/v1/members/{member.id}/consents", body)).status_code == 422


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"purpose": "astrology"},
        {"purpose": "membership"},
        {"purpose": "marketing", "channel": "pigeon"},
        {"purpose": "profiling", "channel": "sms"},
        {"purpose": "marketing", "reason": "too many"},
        {"purpose": ["marketing"]},
    ],
)
async def test_a_withdrawal_must_name_what_it_takes_back(world, crm, member, body):
    before = await stored(world)
    answer = await crm.post(f"/v1/members/{member.id}/consents:withdraw", body)
    assert answer.status_code == 422
    assert await stored(world) == before


async def test_a_withdrawal_of_what_was_never_given_is_on_record(world, crm, member):
    answer = await crm.withdraw(member)
    assert answer.status_code == 200
    assert {c["channel"]: c["status"] for c in answer.json()["consents"]} == dict.fromkeys(
        ("sms", "email", "line", "push"), "withdrawn"
    )
    assert all(c["notice_revision"] is None for c in answer.json()["consents"])
    read = await crm.view(member, "marketing", "sms")
    assert (read.status_code, read.json()["reason"]) == (403, "consent_withdrawn")


async def test_a_refusal_is_not_silence_and_silence_is_not_a_yes(world, crm, member):
    silent = await crm.view(member, "analytics")
    assert (silent.status_code, silent.json()["reason"]) == (403, "consent_not_given")
    no = world.decision("analytics", decision="refused")
    await crm.post(f"/v1/members/{member.id}/consents", {"consents": [no]})
    refused = await crm.view(member, "analytics")
    assert (refused.status_code, refused.json()["reason"]) == (403, "consent_refused")


async def test_a_minor_cannot_say_yes_alone_but_may_say_no_and_take_back(world, crm):
    yes = world.decision("marketing", "sms")
    child = {"given_name": "ขวัญ", "phone": "081-000-0000", "birth_date": CHILD}
    before = await stored(world)
    answer = await crm.post("/v1/members", registration(child, [yes]))
    assert (answer.status_code, answer.json()["reason"]) == (403, "guardian_required")
    assert await stored(world) == before
    member = await crm.register(child)
    answer = await crm.post(f"/v1/members/{member.id}/consents", {"consents": [yes]})
    assert (answer.status_code, answer.json()["reason"]) == (403, "guardian_required")
    no = world.decision("analytics", decision="refused")
    answer = await crm.post(f"/v1/members/{member.id}/consents", {"consents": [no]})
    assert answer.status_code == 201
    assert (await crm.withdraw(member)).status_code == 200


async def test_a_yes_counts_no_more_once_the_birth_date_makes_the_member_a_minor(world, crm):
    member = await crm.register(
        phone="081-234-5678", birth_date=ADULT, consents={"marketing": "sms"}
    )
    assert (await crm.view(member, "marketing", "sms")).status_code == 200
    body = {"fields": {"birth_date": CHILD}, "formats": {"date_era": "iso"}}
    assert (await crm.patch(f"/v1/members/{member.id}", body)).status_code == 200
    read = await crm.view(member, "marketing", "sms")
    assert (read.status_code, read.json()["reason"]) == (403, "guardian_required")


async def test_the_gate_grows_with_everything_that_can_forbid_a_read(world, crm, member):
    async def version():
        rows = await world.fetch("SELECT version FROM member_gate")
        return rows[0]["version"]

    decide = {"consents": [world.decision("marketing", "sms")]}
    steps = {
        "given": lambda: crm.post(f"/v1/members/{member.id}/consents", decide),
        "withdrawn": lambda: crm.withdraw(member),
        "age": lambda: crm.patch(
            f"/v1/members/{member.id}", {"fields": {"birth_date": "1991-01-01"}}
        ),
        "restricted": lambda: world.restrict(member),
        "freed": lambda: world.restrict(member, on=False),
        "erased": lambda: world.erase(member),
    }
    seen = await version()
    for name, step in steps.items():
        await step()
        now = await version()
        assert now > seen, name
        seen = now


async def test_the_state_as_of_a_moment_is_what_was_known_then(world, crm, member):
    yes = {"consents": [world.decision("marketing", "sms")]}
    given = (await crm.post(f"/v1/members/{member.id}/consents", yes)).json()["consents"][0]
    taken = (await crm.withdraw(member, channel="sms")).json()["consents"][0]

    async def as_of(moment=None):
        answer = await crm.get(
            f"/v1/members/{member.id}/consents", params={"as_of": moment} if moment else {}
        )
        return {(c["purpose"], c["channel"]): c["status"] for c in answer.json()["consents"]}

    assert await as_of("2020-01-01T00:00:00Z") == {}
    assert await as_of(given["since"]) == {("marketing", "sms"): "given"}
    assert await as_of(taken["since"]) == {("marketing", "sms"): "withdrawn"}
    assert await as_of() == {("marketing", "sms"): "withdrawn"}
    for moment in ("yesterday", "2026-11-23", "2026-11-23T00:00:00", "9999999999"):
        answer = await crm.get(f"/v1/members/{member.id}/consents", params={"as_of": moment})
        assert answer.status_code == 422, moment


async def test_evidence_is_kept_word_for_word(world, crm):
    member = await crm.register(phone="081-234-5678", consents={"marketing": "sms"})
    receipt = (await crm.get(f"/v1/consents/{member.consents[0]['id']}/receipt")).json()
    assert receipt["receipt"]["evidence"] == EVIDENCE
    assert receipt["receipt"]["notice"]["revision"] == world.revision("marketing")
