"""Ids sort by creation, survive a round trip, and say nothing else."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel import id_bytes, is_id, new_id, new_random_id
from kernel.ids import uuid7_bytes

# RFC 9562 gives the timestamp 48 bits of milliseconds.
moments = st.integers(min_value=0, max_value=(1 << 48) * 1000 - 1)
prefixes = st.sampled_from(["mem", "sub", "con", "evt", "cp", "cli"])
ID = re.compile(r"[a-z]+_[0-7][0-9a-hjkmnp-tv-z]{25}")

VALID = "mem_01hf7yat00e4n9tqv8d2m5x6kz"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "mem_",
        "mem",
        VALID[4:],  # no prefix
        VALID[:-1],  # a letter short
        VALID + "0",  # a letter long
        VALID.upper(),
        VALID.replace("e4", "il"),  # letters Crockford leaves out
        "mem_8" + VALID[5:],  # more than 128 bits
        "mem_" + "0" * 25 + "๐",  # a Thai digit
    ],
)
def test_what_is_not_an_id_is_refused(text):
    assert not is_id("mem", text)
    with pytest.raises(ValueError, match=r"^not a prefixed id$"):
        id_bytes(text)


@pytest.mark.parametrize("prefix", ["sub", "me", "mem_", "em", ""])
def test_an_id_of_one_kind_is_not_an_id_of_another(prefix):
    assert is_id("mem", VALID)
    assert not is_id(prefix, VALID)


@given(prefixes, moments)
def test_every_new_id_is_well_formed(prefix, now_us):
    made = new_id(prefix, now_us)
    assert ID.fullmatch(made)
    assert is_id(prefix, made)


@given(moments, moments)
def test_ids_of_different_moments_sort_by_their_moment(earlier, later):
    if earlier == later:
        return
    earlier, later = sorted((earlier, later))
    assert new_id("evt", earlier) < new_id("evt", later)
    assert id_bytes(new_id("evt", earlier)) < id_bytes(new_id("evt", later))


@given(moments, st.binary(min_size=8, max_size=8))
def test_an_id_is_a_version_7_uuid_of_its_millisecond(now_us, random):
    value = int.from_bytes(uuid7_bytes(now_us, random))
    assert value >> 80 == now_us // 1000
    assert value >> 76 & 0xF == 7
    assert value >> 62 & 0b11 == 0b10
    assert value & (1 << 62) - 1 == int.from_bytes(random) & (1 << 62) - 1


@given(moments)
def test_letters_and_bytes_are_the_same_number(now_us):
    made = new_id("con", now_us)
    alphabet = "0123456789abcdefghjkmnpqrstvwxyz"
    value = 0
    for letter in made.removeprefix("con_"):
        value = value * 32 + alphabet.index(letter)
    assert id_bytes(made) == value.to_bytes(16)


def test_two_ids_of_one_moment_differ():
    assert len({new_id("mem", 1_700_000_000_000_000) for _ in range(1000)}) == 1000


def test_a_pairwise_id_does_not_tell_when_it_was_made():
    # A UUIDv7 fixes the four bits of its version and the order of its first letters; random
    # ids must show neither, or two clients could match members by creation time.
    made = [new_random_id("sub") for _ in range(400)]
    versions = {int.from_bytes(id_bytes(one)) >> 76 & 0xF for one in made}
    first_letters = {one[4:6] for one in made}
    assert len(versions) == 16
    assert len(first_letters) > 100
    assert made != sorted(made)
