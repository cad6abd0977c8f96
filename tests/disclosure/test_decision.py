"""The decision as a pure function: what it may never do, whatever it is asked.

Snapshots, callers and questions are drawn from all that the packaged policy knows and some that
it does not.
"""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consent import BasisRefusal, GateState, Status
from disclosure import Allowed, Denied, Omission, Refusal, Snapshot, decide
from kernel import Caller, RequestId
from policies import VIEW, VIEW_MASKED, AgeTier, BasisKind, compile_access, load_pack

PACK = load_pack(None)
ACCESS = compile_access(PACK)
FIELDS = sorted(PACK.fields)
REVISION = PACK.notices["marketing"][0].revision
SCOPES = sorted(f"purpose:{key}" for key in PACK.purposes)
ROLES = ["app", "clerk", "dpo", "auditor", "admin", "operator", "marketer", "member", "nobody"]

subsets = st.frozensets(st.sampled_from(FIELDS))
questions = st.sampled_from(
    [(purpose, way) for purpose in PACK.purposes.values() for way in purpose.disclosable]
)
callers = st.builds(
    Caller,
    st.just("cli_x"),
    st.sampled_from(ROLES),
    st.just("api"),
    st.sampled_from(["main", "other"]),
    st.just(RequestId("req_x")),
    st.frozensets(st.sampled_from(SCOPES)),
)


@st.composite
def snapshots(draw):
    held = draw(subsets)
    return Snapshot(
        member_id="mem_x",
        brand=draw(st.sampled_from(["main", "other"])),
        jurisdiction=draw(st.sampled_from(["TH", "EU", "XX"])),
        gate_version=draw(st.integers(1, 5)),
        gate_state=draw(st.sampled_from(GateState)),
        age_tier=draw(st.sampled_from(AgeTier)),
        status=draw(st.none() | st.sampled_from(Status)),
        consent_id="con_x",
        notice_revision=draw(st.sampled_from([REVISION, "sha256:x"])),
        guardian_id=draw(st.sampled_from([None, "grd_x"])),
        at_us=draw(st.integers(0, 2**55)),
        held=held,
        verified=draw(st.frozensets(st.sampled_from(FIELDS))),
    )


wanted_fields = st.none() | st.lists(st.sampled_from(FIELDS), min_size=1, max_size=20)
actions = st.sampled_from([VIEW, VIEW_MASKED])


def fields_of(decision):
    return frozenset(decision.fields) if isinstance(decision, Allowed) else frozenset()


def ask(caller, question, wanted, found, action=VIEW):
    return decide(PACK, ACCESS, caller, *question, wanted, found, action=action)


@settings(max_examples=400, deadline=None)
@given(callers, questions, wanted_fields, snapshots(), actions)
def test_no_field_leaves_that_purpose_channel_role_member_or_proof_do_not_cover(
    caller, question, wanted, found, action
):
    purpose, channel = question
    decision = ask(caller, question, wanted, found, action)
    allowed = fields_of(decision)
    assert allowed <= purpose.fields_for(channel)
    assert allowed <= found.held
    assert wanted is None or allowed <= set(wanted)
    for key in allowed:
        entry = PACK.fields[key]
        assert entry.contact is None or key in found.verified
        assert ACCESS.allows(caller.role, caller.brand, entry.category, action, purpose.key)
    if isinstance(decision, Allowed):
        assert found.gate_state is GateState.ACTIVE
        assert caller.brand == found.brand
        assert f"purpose:{purpose.key}" in caller.scopes
        basis = purpose.basis.get(found.jurisdiction, purpose.default_basis)
        assert decision.basis.kind is basis
        if basis is BasisKind.CONSENT:
            assert found.status is Status.GIVEN
            assert (found.guardian_id is not None) == (found.age_tier in MINORS)
            assert found.notice_revision == REVISION
        assert found.status is not Status.OBJECTED


@settings(max_examples=300, deadline=None)
@given(callers, questions, wanted_fields, snapshots(), actions)
def test_every_field_asked_for_leaves_or_is_omitted_with_a_reason(
    caller, question, wanted, found, action
):
    purpose, channel = question
    decision = ask(caller, question, wanted, found, action)
    if isinstance(decision, Denied):
        return
    asked = purpose.fields_for(channel) if wanted is None else set(wanted)
    assert fields_of(decision) | decision.omitted.keys() == asked
    assert not fields_of(decision) & decision.omitted.keys()
    assert len(set(decision.fields)) == len(decision.fields)
    assert all(decision.omitted.values())


MINORS = {AgeTier.MINOR_WITH_GUARDIAN, AgeTier.GUARDIAN_ONLY}
RESTRICTIONS = {
    "erased": lambda caller, found: (caller, replace(found, gate_state=GateState.ERASED)),
    "restricted": lambda caller, found: (caller, replace(found, gate_state=GateState.RESTRICTED)),
    "another brand": lambda caller, found: (replace(caller, brand="else"), found),
    "no scope": lambda caller, found: (replace(caller, scopes=frozenset()), found),
    "no role": lambda caller, found: (replace(caller, role="nobody"), found),
    "never asked": lambda caller, found: (caller, replace(found, status=None)),
    "refused": lambda caller, found: (caller, replace(found, status=Status.REFUSED)),
    "withdrawn": lambda caller, found: (caller, replace(found, status=Status.WITHDRAWN)),
    "expired": lambda caller, found: (caller, replace(found, status=Status.EXPIRED)),
    "a child": lambda caller, found: (
        caller,
        replace(found, age_tier=AgeTier.GUARDIAN_ONLY, guardian_id=None),
    ),
    "a minor": lambda caller, found: (
        caller,
        replace(found, age_tier=AgeTier.MINOR_WITH_GUARDIAN, guardian_id=None),
    ),
    "grown up": lambda caller, found: (
        caller,
        replace(found, age_tier=AgeTier.ADULT, guardian_id="grd_x"),
    ),
    "objected": lambda caller, found: (caller, replace(found, status=Status.OBJECTED)),
    "other words": lambda caller, found: (caller, replace(found, notice_revision="sha256:y")),
    "unknown law": lambda caller, found: (caller, replace(found, jurisdiction="XX")),
    "nothing held": lambda caller, found: (caller, replace(found, held=frozenset())),
    "nothing verified": lambda caller, found: (caller, replace(found, verified=frozenset())),
}


@pytest.mark.parametrize("restriction", RESTRICTIONS)
@settings(max_examples=120, deadline=None)
@given(callers, questions, wanted_fields, snapshots(), actions)
def test_a_restriction_more_never_lets_a_field_more_out(
    restriction, caller, question, wanted, found, action
):
    before = fields_of(ask(caller, question, wanted, found, action))
    restricted = RESTRICTIONS[restriction](caller, found)
    after = fields_of(ask(restricted[0], question, wanted, restricted[1], action))
    assert after <= before


@settings(max_examples=200, deadline=None)
@given(callers, questions, st.lists(st.sampled_from(FIELDS), min_size=2), snapshots(), subsets)
def test_fewer_held_or_asked_for_never_lets_more_out(caller, question, wanted, found, kept):
    before = fields_of(ask(caller, question, wanted, found))
    fewer = replace(found, held=found.held & kept, verified=found.verified & kept)
    assert fields_of(ask(caller, question, wanted, fewer)) <= before
    assert fields_of(ask(caller, question, wanted[1:], found)) <= before


# --- each reason ----------------------------------------------------------------------

PERMITTED = Caller("cli_x", "app", "api", "main", RequestId("req_x"), frozenset(SCOPES))
CONSENTING = Snapshot(
    member_id="mem_x",
    brand="main",
    jurisdiction="TH",
    gate_version=1,
    gate_state=GateState.ACTIVE,
    age_tier=AgeTier.ADULT,
    status=Status.GIVEN,
    consent_id="con_x",
    notice_revision=REVISION,
    guardian_id=None,
    at_us=1,
    held=frozenset(FIELDS),
    verified=frozenset(FIELDS),
)
MARKETING = (PACK.purposes["marketing"], "sms")
REASONS = {
    Refusal.MEMBER_ERASED: RESTRICTIONS["erased"],
    Refusal.MEMBER_RESTRICTED: RESTRICTIONS["restricted"],
    Refusal.OTHER_BRAND: RESTRICTIONS["another brand"],
    Refusal.SCOPE_MISSING: RESTRICTIONS["no scope"],
    Refusal.ROLE_NOT_ALLOWED: RESTRICTIONS["no role"],
    BasisRefusal.CONSENT_NOT_GIVEN: RESTRICTIONS["never asked"],
    BasisRefusal.CONSENT_REFUSED: RESTRICTIONS["refused"],
    BasisRefusal.CONSENT_WITHDRAWN: RESTRICTIONS["withdrawn"],
    BasisRefusal.CONSENT_EXPIRED: RESTRICTIONS["expired"],
    BasisRefusal.OBJECTED: RESTRICTIONS["objected"],
    BasisRefusal.NOTICE_OUTDATED: RESTRICTIONS["other words"],
    BasisRefusal.CAME_OF_AGE: RESTRICTIONS["grown up"],
    BasisRefusal.GUARDIAN_REQUIRED: RESTRICTIONS["a minor"],
    BasisRefusal.JURISDICTION_UNKNOWN: RESTRICTIONS["unknown law"],
}


def test_with_nothing_in_the_way_exactly_the_fields_of_purpose_and_channel_leave():
    decision = ask(PERMITTED, MARKETING, None, CONSENTING)
    assert decision.fields == ("given_name", "language", "phone")
    assert decision.omitted == {}
    assert (decision.basis.consent_id, decision.basis.notice_revision) == ("con_x", REVISION)


def test_there_is_a_case_for_each_reason_but_the_one_of_members_who_are_not_found():
    assert {*Refusal, *BasisRefusal} - REASONS.keys() == {Refusal.MEMBER_UNKNOWN}


@pytest.mark.parametrize("reason", REASONS)
def test_each_reason_of_a_denial_is_reached(reason):
    caller, found = REASONS[reason](PERMITTED, CONSENTING)
    assert ask(caller, MARKETING, None, found) == Denied(reason)


@pytest.mark.parametrize("hidden", ["erased", "another brand"])
@pytest.mark.parametrize("also", sorted(RESTRICTIONS.keys() - {"erased", "another brand"}))
def test_what_must_look_unknown_is_never_told_apart_by_a_second_reason(hidden, also):
    caller, found = RESTRICTIONS[hidden](*RESTRICTIONS[also](PERMITTED, CONSENTING))
    decision = ask(caller, MARKETING, None, found)
    assert decision.reason in {Refusal.MEMBER_ERASED, Refusal.OTHER_BRAND}


@pytest.mark.parametrize(
    ("key", "change", "reason"),
    [
        ("birth_date", {}, "not_in_purpose"),
        ("email", {}, "not_in_channel"),
        ("given_name", {"held": frozenset()}, Omission.NOT_HELD),
        ("phone", {"verified": frozenset()}, Omission.UNVERIFIED),
    ],
)
def test_each_reason_of_an_omission_is_reached(key, change, reason):
    decision = ask(PERMITTED, MARKETING, [key, "language"], replace(CONSENTING, **change))
    assert decision.omitted[key] == reason


def test_a_field_that_the_role_may_not_see_is_omitted_beside_those_it_may():
    decision = ask(PERMITTED, (PACK.purposes["membership"], None), None, CONSENTING)
    assert decision.omitted == {
        "national_id": Omission.ROLE_NOT_ALLOWED,
        "notes": Omission.ROLE_NOT_ALLOWED,
    }


def test_the_order_asked_for_is_the_order_answered_and_repeats_count_once():
    wanted = ["phone", "given_name", "phone"]
    assert ask(PERMITTED, MARKETING, wanted, CONSENTING).fields == ("phone", "given_name")


def test_an_unverified_contact_is_omitted_even_from_an_outline():
    decision = ask(
        PERMITTED,
        (PACK.purposes["membership"], None),
        ["phone"],
        replace(CONSENTING, verified=frozenset()),
        VIEW_MASKED,
    )
    assert decision.omitted == {"phone": Omission.UNVERIFIED}
