"""What `vault lint` says of a leak is what an attack finds, and a leak nobody accepted fails it."""

import math
import random
from collections import Counter

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies import load_pack
from service.vault_lint import lint
from tests.support.world import open_world
from vault import (
    INDEXED_KINDS,
    SPACES,
    Indexes,
    IndexVersion,
    beacon_bits,
    coincidences,
    enumeration_seconds,
    flat,
    recovery_from_histogram,
    recovery_from_shares,
    seasonal,
    zipf,
)

pytestmark = pytest.mark.anyio

POINTS = 0.05


# --- the attack -----------------------------------------------------------------------


def attacked(shares, members, partitions, seed):
    """Lay the values, in the order of their shares, on the tags in the order of their number."""
    chance = random.Random(seed)
    values = sorted(range(len(shares)), key=lambda value: -shares[value])
    tags = Counter(
        (value, chance.randrange(partitions))
        for value in chance.choices(range(len(shares)), weights=shares, k=members)
    )
    ordered = sorted(tags.items(), key=lambda one: (-one[1], chance.random()))
    named = sum(
        count
        for rank, ((value, _), count) in enumerate(ordered)
        if rank // partitions < len(values) and values[rank // partitions] == value
    )
    return named / members


ATTACKS = {
    "months of a small shop": (seasonal(0.08), 10_000, 1, 60),
    "months": (seasonal(0.08), 100_000, 1, 40),
    "months in 16 partitions": (seasonal(0.08), 100_000, 16, 6),
    "months in 64 partitions": (seasonal(0.08), 200_000, 64, 3),
    "surnames": (zipf(50_000, 0.9), 100_000, 1, 3),
    "surnames in 16 partitions": (zipf(50_000, 0.9), 100_000, 16, 3),
    "genders": ([0.52, 0.46, 0.02], 1_000, 1, 1_000),
    "genders that are hard to tell": ([0.5, 0.49, 0.01], 1_000, 1, 1_500),
    "postcodes": (zipf(1_000, 0.9), 20_000, 1, 5),
    "endings": (flat(10_000), 50_000, 1, 2),
    "one value": ([1.0], 100, 1, 1),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_the_prediction_is_within_five_points_of_a_simulated_attack(attack):
    shares, members, partitions, rounds = ATTACKS[attack]
    predicted = recovery_from_shares(shares, members, partitions)
    simulated = [attacked(shares, members, partitions, seed) for seed in range(rounds)]
    assert abs(predicted - math.fsum(simulated) / rounds) <= POINTS


def test_more_members_leak_more_and_more_partitions_less():
    at = [recovery_from_shares(seasonal(0.08), n) for n in (1_000, 10_000, 100_000, 1_000_000)]
    assert at == sorted(at)
    parts = [recovery_from_shares(seasonal(0.08), 1_000_000, p) for p in (1, 4, 16, 64, 256)]
    assert parts == sorted(parts, reverse=True)
    assert parts[0] > 0.9
    assert parts[2] < 0.5


@given(
    st.lists(st.floats(0.001, 1), min_size=1, max_size=40),
    st.integers(1, 10**7),
    st.integers(1, 40),
)
def test_a_prediction_is_a_share(shares, members, partitions):
    assert -1e-6 <= recovery_from_shares(shares, members, partitions) <= 1 + 1e-2


def test_of_tags_that_nobody_shares_next_to_nothing_is_named():
    assert recovery_from_histogram({1: 100_000}) == 1 / 100_000
    assert recovery_from_histogram({}) == 0.0


def test_a_number_that_alone_is_shared_by_so_many_is_named():
    """Exact, not a model: of the tags of one number, one is right on average."""
    assert recovery_from_histogram({1: 950, 50: 1}) == pytest.approx(51 / 1_000)
    chance = random.Random(3)
    counts = [1] * 400 + [2] * 50 + [3] * 10 + [40]
    rounds = 300
    named = 0
    for _ in range(rounds):
        tags = list(range(len(counts)))
        chance.shuffle(tags)
        tags.sort(key=lambda tag: -counts[tag])  # stable: ties stay shuffled
        truth = sorted(range(len(counts)), key=lambda tag: -counts[tag])
        named += sum(counts[tag] for tag, value in zip(tags, truth, strict=True) if tag == value)
    expected = recovery_from_histogram(Counter(counts))
    assert abs(named / rounds / sum(counts) - expected) < 0.01


# --- the bounds -----------------------------------------------------------------------


def test_the_rule_of_ciphersweet_is_two_to_the_root_of_all_members():
    assert coincidences(1_000_000, 12).within is False  # too many a tag
    assert coincidences(1_000_000, 10_000).within is True
    assert coincidences(1_000_000, 990_000).within is False  # nearly unique
    assert coincidences(0, 0).members_a_tag == 0


@pytest.mark.parametrize("values", [3, 16, 100, 1_000, 10_000, 2**20, 3 * 10**8])
def test_the_rule_of_aws_is_under_half_and_over_the_root(values):
    allowed = beacon_bits(values)
    fits = [bits for bits in range(1, 64) if math.sqrt(values) < 2**bits < values / 2]
    assert (allowed is None) == (not fits)
    if allowed is not None:
        assert list(range(allowed[0], allowed[1] + 1)) == fits


def test_of_two_values_no_length_is_allowed():
    assert beacon_bits(0) is beacon_bits(1) is beacon_bits(2) is None


def test_whoever_holds_the_key_needs_minutes_for_every_thai_mobile_number():
    rate = 1 / 0.57e-6
    assert enumeration_seconds(SPACES["phone"], rate) == pytest.approx(171, abs=1)
    assert enumeration_seconds(SPACES["line_uid"], rate) > 10**24
    assert enumeration_seconds(SPACES["email"], rate) is None
    assert SPACES.keys() == INDEXED_KINDS


# --- the report -----------------------------------------------------------------------


def pack_with(tmp_path, text):
    (tmp_path / "fields.toml").write_text(text, encoding="utf-8")
    return load_pack(tmp_path)


def report_of(tmp_path, text):
    return lint(pack_with(tmp_path, text), Indexes(0, []), {}, 1_000, 1e6, 100.0)


async def test_the_catalogue_as_it_comes_declares_nothing_that_leaks(settings):
    async with open_world(settings, background=False) as world:
        crm = await world.app()
        for at in range(3):
            await crm.register(phone="081-234-5678", email=f"m{at}@example.com")
        from service.vault_commands import vault_lint

        answer = await vault_lint(world.runtime, lambda _done, _total: None, pack=None)
        assert (answer["ok"], answer["coarse"], answer["findings"]) == (True, [], [])
        by_kind = {one["kind"]: one for one in answer["indexes"]}
        assert by_kind.keys() == INDEXED_KINDS
        phone, email = by_kind["phone"], by_kind["email"]
        assert (phone["owners"], phone["tags"], phone["most_shared"]) == (3, 1, 3)
        assert (email["owners"], email["tags"], email["most_shared"]) == (3, 3, 1)
        assert phone["recovery"] == 1.0
        assert email["recovery"] == pytest.approx(1 / 3, abs=1e-6)
        assert by_kind["card_no"]["owners"] == 0
        told = orjson.dumps(answer)
        for secret in (b"+66812345678", b"m1@example.com"):
            assert secret not in told


@pytest.mark.parametrize(
    ("text", "field", "least"),
    [
        ('[fields.birth_date]\ncoarse_index = "month"', "birth_date", 0.9),
        ('[fields.gender]\ncoarse_index = "value"', "gender", 0.9),
        ('[fields.family_name]\ncoarse_index = "value"\npartitions = 16', "family_name", 0.1),
    ],
)
def test_a_low_entropy_tag_that_nobody_answers_for_fails(tmp_path, text, field, least):
    report = report_of(tmp_path, text)
    assert report["ok"] is False
    assert [finding["field"] for finding in report["findings"]] == [field]
    assert report["coarse"][0]["recovery_at_a_million"] >= least
    assert "accept_leakage" in report["findings"][0]["remedy"]


def test_a_leak_that_was_accepted_is_told_and_passes_and_is_not_stored(tmp_path):
    why = "one shop of two hundred members, no thief cares"
    report = report_of(
        tmp_path,
        f'[fields.birth_date]\ncoarse_index = "month"\npartitions = 16\naccept_leakage = "{why}"',
    )
    assert report["ok"] is True
    told = report["coarse"][0]
    assert (told["accept_leakage"], told["partitions"], told["stored"]) == (why, 16, False)
    assert 0 < told["recovery"] < told["recovery_at_a_million"] < 0.6


def test_a_hardened_index_is_told_by_the_rate_of_hardened_tags_and_wanted_until_it_is_there(
    tmp_path,
):
    pack = pack_with(tmp_path, "[fields.national_id]\nhardened = true")
    before = lint(pack, Indexes(0, []), {}, 1_000, 1e6, 100.0)
    assert before["ok"] is False
    assert "vault reindex --kind national_id" in before["findings"][0]["remedy"]
    there = IndexVersion("national_id", 2, hardened=True)
    after = lint(pack, Indexes(1, [there]), {}, 1_000, 1e6, 100.0)
    assert after["ok"] is True
    seconds = {
        one["version"]: one["enumeration_seconds"]
        for report in (before, after)
        for one in report["indexes"]
        if one["kind"] == "national_id"
    }
    assert seconds == {1: pytest.approx(520), 2: pytest.approx(5_200_000)}


def test_endings_of_numbers_are_flat_and_leak_next_to_nothing_by_frequency(tmp_path):
    report = report_of(tmp_path, '[fields.phone]\ncoarse_index = "last4"')
    assert report["ok"] is False  # flat or not, somebody has to answer for it
    told = report["coarse"][0]
    assert told["recovery_at_a_million"] < 0.001
    assert told["coincidences"]["within"] is True
