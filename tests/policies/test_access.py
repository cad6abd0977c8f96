import itertools
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies import access_enforcer, compile_access, load_pack
from policies.access import _expand
from policies.grants import Link, Rule, parse_rows

PACK = load_pack()
ACCESS = compile_access(PACK)
STAFF_WITHOUT_DATA = ("auditor", "operator", "admin")
STAFF = ("clerk", "marketer", "dpo", *STAFF_WITHOUT_DATA)


@pytest.mark.parametrize("role", STAFF_WITHOUT_DATA)
@pytest.mark.parametrize("action", ["view", "view_masked"])
def test_auditor_operator_and_admin_see_no_field(role, action):
    for category, purpose in itertools.product(PACK.categories, [None, "other", *PACK.purposes]):
        assert not ACCESS.allows(role, "main", category, action, purpose)


def test_a_customers_folder_cannot_open_cells_to_an_admin(overlay):
    rows = "".join(
        f"p, {role}, *, identity, view, *, allow\ng, {role}, app, main\n"
        for role in STAFF_WITHOUT_DATA
    )
    mine = compile_access(load_pack(overlay({"roles/policy.csv": rows})))

    for role in STAFF_WITHOUT_DATA:
        assert not mine.allows(role, "main", "identity", "view", "membership")


def test_nobody_unknown_may_do_anything():
    assert not ACCESS.allows("stranger", "main", "identity", "view", "membership")
    assert not ACCESS.allows("*", "*", "*", "*", "*")
    assert not ACCESS.allows("", "", "", "", "")


@pytest.mark.parametrize("role", STAFF)
def test_no_member_of_staff_opens_identity_or_contact(role):
    for category in ("identity", "contact", "government_id", "demographic", "note"):
        for purpose in PACK.purposes:
            assert not ACCESS.allows(role, "main", category, "view", purpose)


def test_no_app_reads_government_numbers_or_notes():
    for category in ("government_id", "note"):
        for purpose in PACK.purposes:
            assert not ACCESS.allows("app", "main", category, "view", purpose)


@pytest.mark.parametrize("purpose", ["analytics", "profiling"])
def test_an_app_never_sees_who_it_is_for_analytics_or_profiling(purpose):
    assert not ACCESS.allows("app", "main", "identity", "view", purpose)
    assert not ACCESS.allows("app", "main", "contact", "view", purpose)
    assert ACCESS.allows("app", "main", "loyalty", "view", purpose)


def test_an_app_may_nothing_for_a_purpose_that_no_row_names():
    for category in PACK.categories:
        assert not ACCESS.allows("app", "main", category, "view", "parking")


def test_an_app_serves_the_main_exchange():
    for category in ("identity", "contact"):
        assert ACCESS.allows("app", "main", category, "view", "marketing")
    for resource, action in (
        ("member", "register"),
        ("member", "introduce"),
        ("consent", "write"),
        ("duplicates", "read"),
        ("audit", "read"),
    ):
        assert ACCESS.allows("app", "main", resource, action)
    assert ACCESS.allows("app", "main", "member", "lookup", "membership")


def test_a_clerk_sees_outlines_points_and_tier():
    assert ACCESS.allows("clerk", "main", "contact", "view_masked", "membership")
    assert ACCESS.allows("clerk", "main", "loyalty", "view", "membership")
    assert ACCESS.allows("clerk", "main", "member", "lookup", "membership")
    assert not ACCESS.allows("clerk", "main", "member", "lookup", "marketing")
    assert not ACCESS.allows("clerk", "main", "contact", "view_masked", "marketing")
    assert not ACCESS.allows("clerk", "main", "audit", "read")


def test_an_auditor_reads_the_trail_and_nothing_else():
    assert ACCESS.allows("auditor", "main", "audit", "read")
    for resource, action in (("member", "lookup"), ("consent", "read"), ("staff", "manage")):
        assert not ACCESS.allows("auditor", "main", resource, action)


def test_a_member_sees_all_that_is_held():
    for category in PACK.categories:
        assert ACCESS.allows("member", "main", category, "view", "membership")


def test_an_overlay_adds_a_role_in_one_brand_only(overlay):
    rows = "g, manager, clerk, tea\np, manager, tea, duplicates, read, *, allow\n"
    mine = compile_access(load_pack(overlay({"roles/policy.csv": rows})))

    assert mine.allows("manager", "tea", "duplicates", "read")
    assert mine.allows("manager", "tea", "contact", "view_masked", "membership")
    assert not mine.allows("manager", "main", "duplicates", "read")
    assert not mine.allows("manager", "main", "contact", "view_masked", "membership")


def test_the_snapshot_carries_the_digest_of_its_pack():
    assert ACCESS.digest == PACK.digest


def test_the_packaged_rules_answer_as_casbin_answers():
    enforcer = access_enforcer(PACK.access_model, PACK.access_policy)
    rules, _, broken = parse_rows(PACK.access_policy)
    assert not broken
    roles = sorted({rule.role for rule in rules})
    questions = {
        (role, "main", rule.resource, rule.action, purpose)
        for role in roles
        for rule in rules[::6]
        for purpose in ("membership", "marketing")
    }
    for question in sorted(questions):
        assert ACCESS.allows(*question) == enforcer.enforce(*question), question


ROLES = st.sampled_from(["app", "clerk", "chief", "owner", "x"])
BRANDS = st.sampled_from(["*", "main", "tea"])
WORDS = st.sampled_from(["*", "identity", "contact", "member"])
ACTIONS = st.sampled_from(["*", "view", "register"])
PURPOSES = st.sampled_from(["*", "-", "membership", "marketing"])
EFFECTS = st.sampled_from(["allow", "allow", "deny"])
RULES = st.builds(Rule, ROLES, BRANDS, WORDS, ACTIONS, PURPOSES, EFFECTS)
LINKS = st.builds(Link, ROLES, ROLES, BRANDS)
QUESTIONS = st.tuples(
    st.sampled_from(["app", "clerk", "chief", "owner", "x", "nobody"]),
    st.sampled_from(["main", "tea", "elsewhere", "*"]),
    st.sampled_from(["identity", "contact", "member", "unheard"]),
    st.sampled_from(["view", "register", "unheard"]),
    st.sampled_from(["membership", "marketing", "unheard", None]),
)


@settings(max_examples=250, deadline=None)
@given(
    st.lists(RULES, min_size=1, max_size=8),
    st.lists(LINKS, max_size=5),
    st.lists(QUESTIONS, min_size=1, max_size=12),
)
def test_the_snapshot_answers_as_casbin_answers(rules, links, questions):
    text = "\n".join(
        [*(rule.row for rule in rules)]
        + [f"g, {link.role}, {link.inherits}, {link.brand}" for link in links]
    )
    enforcer = access_enforcer(PACK.access_model, text)
    snapshot = _expand(
        [Rule(*row) for row in enforcer.get_policy()],
        [Link(*row) for row in enforcer.get_grouping_policy()],
        "",
    )

    for role, brand, resource, action, purpose in questions:
        asked = (role, brand, resource, action, purpose or "-")
        said = snapshot.allows(role, brand, resource, action, purpose)
        assert said == enforcer.enforce(*asked), asked


@pytest.mark.parametrize("length", [8, 9, 10, 11])
def test_long_chains_of_roles_end_where_casbin_ends(length):
    links = "\n".join(f"g, r{step}, r{step + 1}, *" for step in range(length))
    text = f"p, r{length}, *, member, register, *, allow\n{links}"
    enforcer = access_enforcer(PACK.access_model, text)
    rules, parsed, broken = parse_rows(text)

    snapshot = _expand(rules, parsed, "")

    assert not broken
    asked = ("r0", "main", "member", "register", "-")
    assert snapshot.allows(*asked) == enforcer.enforce(*asked)


def test_our_reading_of_the_rows_is_casbins_reading():
    enforcer = access_enforcer(PACK.access_model, PACK.access_policy)
    rules, links, _ = parse_rows(PACK.access_policy)

    assert [Rule(*row) for row in enforcer.get_policy()] == rules
    assert [Link(*row) for row in enforcer.get_grouping_policy()] == links


def test_a_decision_only_looks_up():
    """It is on the path of every read: no call of Python code, so no walk through rules."""
    called = []

    def note(frame, event, _):
        if event == "call":
            called.append(frame.f_code.co_name)

    sys.setprofile(note)
    try:
        ACCESS.allows("app", "main", "contact", "view", "marketing")
    finally:
        sys.setprofile(None)
    assert called == ["allows"]
