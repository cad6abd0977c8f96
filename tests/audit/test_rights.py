"""The rights ledger: pure parts. What lands on it, and when, is in tests/backup/test_ledger.py."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit import RightsEntryError, RightsKind, RightsLedger, link_of, read_entry
from audit.rights import GENESIS, make_entry
from kernel import MemberId, SystemClock, new_id

TAG = bytes(range(16))


def test_an_entry_reads_back_as_it_was_written():
    made = make_entry(RightsKind.WITHDRAWAL, TAG, {"purpose": "marketing", "on": True}, 1_000_000)
    assert read_entry(made.body) == made


@pytest.mark.parametrize(
    "value",
    [
        "mem_00000000000000000000000000",
        "consent:cp_00000000000000000000000000",
        "0812345678",
        "สมหญิง",
        "a b",
        "someone@example.com",
        1.5,
        ["list"],
        {"inner": "sub_00000000000000000000000000"},
    ],
)
def test_an_entry_holds_nothing_that_could_name_somebody(value):
    with pytest.raises(RightsEntryError) as refused:
        make_entry(RightsKind.OBJECTION, TAG, {"what": value}, 1)
    assert str(value) not in str(refused.value)


@pytest.mark.parametrize(
    "value",
    ["", "sms", "con_" + "0" * 26, "sha256:" + "12345678" * 8, "2026-11-23T03:00:00.1234567Z", 7],
)
def test_codes_ids_digests_and_moments_are_taken(value):
    made = make_entry(RightsKind.OBJECTION, TAG, {"what": value}, 1)
    assert read_entry(made.body).detail == {"what": value}


def test_without_the_ring_a_tag_cannot_be_made_again():
    member = MemberId(new_id("mem"))
    one = RightsLedger(bytes(32), SystemClock())
    other = RightsLedger(b"\x01" * 32, SystemClock())
    assert one.tag(member) == RightsLedger(bytes(32), SystemClock()).tag(member)
    assert one.tag(member) != other.tag(member)
    assert len(one.tag(member)) == 16


@given(st.lists(st.binary(min_size=1, max_size=40), min_size=2, max_size=8, unique=True))
def test_a_chain_with_two_bodies_swapped_ends_in_another_link(bodies):
    def end(chain):
        link = GENESIS
        for body in chain:
            link = link_of(link, body)
        return link

    assert end(bodies) != end([bodies[1], bodies[0], *bodies[2:]])
    assert end(bodies) != end(bodies[:-1])


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b'{"v":1}', b"not json"])
def test_what_is_no_entry_is_refused(body):
    with pytest.raises(RightsEntryError):
        read_entry(body)
