"""Days that the law names, from the numbers of the packaged pack: golden vectors and properties."""

from dataclasses import replace
from datetime import date, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsar import NoClockError, Right, Targets, clock_of, deadlines
from dsar.deadlines import counted_pause, end_of_day_us, is_working_day, local_day
from kernel import from_rfc3339
from policies import Evidence, Fact, Status, load_pack

PACK = load_pack()
TARGETS = Targets(access_days=15, other_days=30)
ONE_DAY = timedelta(days=1)


def day(text):
    return date.fromisoformat(text)


def clock(code, right):
    return clock_of(PACK.jurisdictions[code], Right(right))


@pytest.mark.parametrize(
    ("code", "right", "received", "extended", "safe", "legal"),
    [
        ("EU", "access", "2026-01-31", False, "2026-02-28", "2026-03-02"),
        ("EU", "access", "2026-01-31", True, "2026-04-30", "2026-04-30"),
        ("EU", "access", "2026-08-31", False, "2026-09-30", "2026-09-30"),
        ("EU", "access", "2028-01-30", False, "2028-02-29", "2028-02-29"),
        ("EU", "access", "2028-01-30", True, "2028-04-30", "2028-05-01"),
        ("TW", "access", "2026-03-14", False, "2026-03-29", "2026-03-30"),
        ("TW", "erasure", "2026-04-01", True, "2026-05-31", "2026-06-01"),
        ("TH", "access", "2026-03-14", False, "2026-04-13", "2026-04-16"),
        ("TH", "erasure", "2026-01-31", False, "2026-05-01", "2026-05-05"),
    ],
)
def test_the_golden_vectors_of_the_law_reference(code, right, received, extended, safe, legal):
    found = deadlines(clock(code, right), day(received), TARGETS, extended=extended)
    assert (found.safe_due, found.legal_due) == (day(safe), day(legal))


def test_where_the_law_counts_from_the_last_of_request_identity_and_fee_identity_moves_the_start():
    # UK art. 12A: the pack has no UK file yet; the rule is tested with its fact alone.
    british = replace(
        clock("EU", "access"),
        period=Fact(
            1, "months", "UK GDPR art 12A", Status.IN_FORCE, Evidence.SECONDARY,
            "latest_of_request_id_fee", None, None, None, {},
        ),
    )  # fmt: skip
    found = deadlines(british, day("2026-03-02"), TARGETS, identified=day("2026-03-20"))
    assert (found.safe_due, found.legal_due) == (day("2026-04-20"), day("2026-04-20"))
    assert deadlines(british, day("2026-03-02"), TARGETS).safe_due == day("2026-04-02")


def test_elsewhere_proving_identity_late_gives_no_more_time():
    for code in PACK.jurisdictions:
        without = deadlines(clock(code, "access"), day("2026-03-02"), TARGETS)
        assert without == deadlines(
            clock(code, "access"), day("2026-03-02"), TARGETS, identified=day("2026-03-20")
        )


def test_a_jurisdiction_without_holiday_data_says_so():
    days = {
        code: deadlines(clock(code, "access"), day("2026-03-14"), TARGETS) for code in ("TH", "EU")
    }
    assert not days["TH"].weekends_only
    assert days["EU"].weekends_only
    assert is_working_day(clock("EU", "access"), day("2028-05-01")), "a holiday nobody told us of"


def test_a_number_never_checked_makes_the_answer_unverified():
    assert deadlines(clock("TH", "portability"), day("2026-03-14"), TARGETS).unverified
    assert not deadlines(clock("EU", "access"), day("2026-03-14"), TARGETS).unverified


def test_a_request_that_is_due_at_once_is_due_on_its_own_day_even_on_a_holiday():
    found = deadlines(clock("TH", "objection"), day("2026-04-13"), TARGETS)
    assert found.safe_due == found.legal_due == found.target == day("2026-04-13")


def test_thailand_acknowledges_before_it_answers():
    found = deadlines(clock("TH", "access"), day("2026-03-14"), TARGETS)
    assert found.acknowledge_due == day("2026-03-29")


def test_what_the_law_does_not_extend_cannot_be_extended():
    with pytest.raises(NoClockError):
        deadlines(clock("TH", "erasure"), day("2026-03-14"), TARGETS, extended=True)


def test_every_right_has_a_clock_with_a_source_in_every_jurisdiction():
    for rules in PACK.jurisdictions.values():
        for right in Right:
            assert clock_of(rules, right).period.source


def test_every_zone_of_the_pack_is_known_and_a_day_ends_at_its_own_midnight():
    for rules in PACK.jurisdictions.values():
        zone = rules.calendar.conditions.get("tz")
        assert zone is None or ZoneInfo(str(zone))
    thai = clock("TH", "access")
    assert local_day(thai, from_rfc3339("2026-03-13T18:30:00Z")) == day("2026-03-14")
    assert end_of_day_us(thai, day("2026-03-14")) == from_rfc3339("2026-03-14T17:00:00Z")


CLOCKS = [clock_of(rules, right) for rules in PACK.jurisdictions.values() for right in Right]
DAYS = st.dates(date(2020, 1, 1), date(2080, 12, 31))


@given(st.sampled_from(CLOCKS), DAYS, st.integers(0, 400))
def test_who_asks_later_is_never_answered_earlier(one, received, later):
    first = deadlines(one, received, TARGETS)
    second = deadlines(one, received + later * ONE_DAY, TARGETS)
    assert first.safe_due <= second.safe_due
    assert first.legal_due <= second.legal_due
    assert first.target <= second.target


@given(st.sampled_from(CLOCKS), DAYS, st.integers(0, 60))
def test_the_safe_day_never_comes_after_the_legal_day_and_the_target_never_after_either(
    one, received, paused
):
    found = deadlines(one, received, TARGETS, paused_days=paused)
    assert received <= found.target <= found.safe_due <= found.legal_due
    rolls = one.calendar.value == "next_working_day" and one.period.unit != "immediate"
    assert is_working_day(one, found.legal_due) or not rolls


@given(st.sampled_from(CLOCKS), DAYS, st.integers(0, 400))
def test_a_pause_adds_exactly_its_days(one, received, paused):
    plain = deadlines(one, received, TARGETS)
    waited = deadlines(one, received, TARGETS, paused_days=paused)
    added = 0 if one.period.unit == "immediate" else paused
    assert waited.safe_due == plain.safe_due + added * ONE_DAY


@given(st.sampled_from(CLOCKS), DAYS, DAYS)
def test_a_pause_counts_only_where_the_law_lets_the_clock_stop(one, begun, ended):
    allowed = replace(one, pause=one.period)
    assert counted_pause(one, begun, ended) == 0 or one.pause is not None
    assert counted_pause(allowed, begun, ended) == max(0, (ended - begun).days)


@given(st.sampled_from([one for one in CLOCKS if one.extension is not None]), DAYS)
def test_an_extension_never_shortens_anything(one, received):
    plain = deadlines(one, received, TARGETS)
    longer = deadlines(one, received, TARGETS, extended=True)
    assert longer.safe_due > plain.safe_due
    assert longer.legal_due >= plain.legal_due
