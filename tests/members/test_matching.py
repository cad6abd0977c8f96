"""Who is proposed as one person, and who must not be: families, twins, numbers that changed hands."""

import itertools
import json
from collections import defaultdict
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from members.importing import PROFILES, judge_row, read_rows
from members.matching import LINE, MOST_IN_BLOCK, compare, pairs_in_blocks, profile

TODAY = date(2026, 11, 23)
BASE = {"given_name": "สมชาย", "family_name": "ใจดี", "birth_date": "1987-05-12"}


def person(at="a", tags=(), **values):
    return profile(at, values, {kind: frozenset([tag]) for kind, tag in dict(tags).items()})


PHONE = {"phone": b"1"}


def test_the_same_phone_name_and_birth_date_are_proposed():
    match = compare(person(tags=PHONE, **BASE), person("b", tags=PHONE, **BASE))
    assert match.score >= LINE
    assert match.reasons == ("phone", "given_name", "family_name", "birth_date")


@pytest.mark.parametrize(
    "other",
    [
        pytest.param({"given_name": "สมหญิง", "birth_date": "1989-01-30"}, id="a family"),
        pytest.param({"given_name": "สมศักดิ์"}, id="twins with like names"),
        pytest.param({"given_name": "วิภา"}, id="twins"),
        pytest.param(
            {"given_name": "Anna", "family_name": "Lee", "birth_date": "1999-09-09"},
            id="a number that changed hands",
        ),
        pytest.param({"birth_date": "1962-03-04"}, id="a father and a son of one name"),
    ],
)
def test_who_only_shares_a_phone_is_not_proposed(other):
    match = compare(person(tags=PHONE, **BASE), person("b", tags=PHONE, **{**BASE, **other}))
    assert match.score < LINE


def test_two_different_national_ids_are_two_people_whatever_else_agrees():
    one = person(tags={"phone": b"1", "email": b"2", "national_id": b"3"}, **BASE)
    other = person("b", tags={"phone": b"1", "email": b"2", "national_id": b"4"}, **BASE)
    assert compare(one, other).score == 0


def test_titles_case_and_order_of_names_do_not_part_a_person():
    one = person(tags=PHONE, given_name="นายสมชาย", family_name="ใจดี", birth_date="1987-05-12")
    assert compare(one, person("b", tags=PHONE, **BASE)).score >= LINE
    one = person(tags=PHONE, given_name="Mary", family_name="ANN Lee")
    assert compare(one, person("b", tags=PHONE, given_name="Ann Lee", family_name="mary")).score > 0


def test_a_name_alone_proposes_nobody():
    named = {"given_name": "偉強", "family_name": "陳"}
    assert compare(person(**named), person("b", **named)).score < LINE
    assert list(pairs_in_blocks([person(**named), person("b", **named)])) == []


def test_an_identifier_that_a_crowd_shares_brings_nobody_together():
    crowd = [person(str(at), tags=PHONE) for at in range(MOST_IN_BLOCK + 1)]
    assert list(pairs_in_blocks(crowd)) == []
    assert len(list(pairs_in_blocks(crowd[:3]))) == 3


VALUES = st.fixed_dictionaries(
    {},
    optional={
        "given_name": st.text(max_size=6),
        "family_name": st.text(max_size=6),
        "birth_date": st.sampled_from(["1987-05-12", "1987-12-05", "2001-01-01"]),
        "postcode": st.sampled_from(["10110", "50000"]),
    },
)
TAGS = st.dictionaries(
    st.sampled_from(["phone", "email", "national_id"]), st.sampled_from([b"1", b"2"])
)


@given(VALUES, TAGS, VALUES, TAGS)
def test_a_score_is_the_same_from_both_sides_and_names_fields_only(one, tags, other, their_tags):
    a, b = person("a", tags, **one), person("b", their_tags, **other)
    forth, back = compare(a, b), compare(b, a)
    assert forth == back
    assert 0 <= forth.score <= 100
    assert set(forth.reasons) <= {"phone", "email", "national_id", *BASE, "postcode"}


@pytest.mark.parametrize(
    ("name", "declared", "recall"),
    [
        ("th.csv", PROFILES["th"], 0.88),
        ("tw.csv", PROFILES["tw"], 0.92),
        ("en.csv", PROFILES["en"].declare(phone_region="th"), 0.86),
    ],
)
def test_the_labelled_files_are_matched_without_one_wrong_pair(
    name, declared, recall, member_files
):
    truth = json.loads((member_files / "truth.json").read_text())[name]
    records, persons, seen = [], defaultdict(list), set()
    for raw, true in zip(read_rows(member_files / name, declared), truth, strict=True):
        row = judge_row(raw, declared.formats(TODAY))
        if row.outcome != "accepted" or tuple(raw.raw) in seen:
            continue
        seen.add(tuple(raw.raw))
        tags = {
            kind: row.fields[kind].encode()
            for kind in ("phone", "email", "line_uid", "national_id")
            if kind in row.fields
        }
        records.append(person(str(raw.row_no), tags, **row.fields))
        persons[true["person"]].append(str(raw.row_no))
    wanted = {pair for rows in persons.values() for pair in itertools.combinations(rows, 2)}
    found = {
        (one.member_id, other.member_id)
        for one, other in pairs_in_blocks(records)
        if compare(one, other).score >= LINE
    }
    right = len(found & wanted)
    print(f"{name}: precision {right / len(found):.3f}, recall {right / len(wanted):.3f}")
    assert found <= wanted
    assert right / len(wanted) >= recall
