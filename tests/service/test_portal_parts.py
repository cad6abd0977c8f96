"""The pure parts of the portal: limits, typed contacts and codes, moments, words, choices."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consent import ConsentState, Status
from kernel.i18n import Catalogue, Language
from policies import AgeTier, load_pack
from service.limits import AddressKey, SlidingWindow
from service.pages import LOCALE
from service.portal.choices import Choices, Standing
from service.portal.moments import moment, year_text, zone_name, zone_of
from service.portal.readings import Timeline
from service.portal.typed import contact_kind, typed_code
from service.portal.words import BlockKind, blocks

NOW_US = 1_795_402_800_000_000  # 2026-11-23T03:00:00Z
HOUR_US = 3_600_000_000


@pytest.fixture(scope="module")
def pack():
    return load_pack(None)


# --- limits ---------------------------------------------------------------------------


def test_a_window_slides_and_what_was_refused_is_not_counted():
    window = SlidingWindow(2, HOUR_US)
    assert [window.take(b"a", at) for at in (0, 1, 2, 3)] == [True, True, False, False]
    assert window.take(b"b", 3)
    assert window.take(b"a", HOUR_US)
    assert not window.take(b"a", HOUR_US)
    assert window.take(b"a", HOUR_US + 1)


@given(st.lists(st.tuples(st.sampled_from([b"a", b"b"]), st.integers(0, 50)), max_size=200))
def test_no_window_of_time_holds_more_than_its_most(steps):
    window = SlidingWindow(3, 100)
    now, taken = 0, []
    for key, pause in steps:
        now += pause
        if window.take(key, now):
            taken.append((key, now))
    for key, at in taken:
        assert sum(k == key and at - 100 < t <= at for k, t in taken) <= 3


def test_a_flood_of_keys_does_not_fill_the_memory():
    window = SlidingWindow(1, HOUR_US, most_keys=10)
    for at in range(1000):
        window.take(str(at).encode(), at)
    assert len(window._seen) == 10


def test_an_address_key_says_nothing_and_differs_between_processes():
    one, other = AddressKey(), AddressKey()
    assert one.of("192.0.2.1") == one.of("192.0.2.1")
    assert one.of("192.0.2.1") != one.of("192.0.2.2")
    assert one.of("192.0.2.1") != other.of("192.0.2.1")


def test_one_ipv6_site_counts_as_one_address():
    key = AddressKey()
    assert key.of("2001:db8::1") == key.of("2001:db8::ffff:2")
    assert key.of("2001:db8::1") != key.of("2001:db8:0:1::1")
    assert key.of("::ffff:192.0.2.1") == key.of("192.0.2.1")
    assert key.of(None) == key.of("not an address")


# --- what people type -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("typed", "kind"),
    [
        ("081-234-5678", "phone"),
        (" ๐๘๑๒๓๔๕๖๗๘ ", "phone"),
        ("+886 912 345 678", "phone"),
        ("a@b", "email"),
        ("@b", None),
        ("a@", None),
        ("somying", None),
        ("123456", None),
        ("", None),
    ],
)
def test_one_field_takes_a_number_or_an_address(typed, kind):
    found = contact_kind(typed)
    assert (None if found is None else found.value) == kind


@pytest.mark.parametrize(
    ("typed", "code"),
    [
        (" 123 456 ", "123456"),
        ("123-456", "123456"),
        ("๑๒๓๔๕๖", "123456"),
        ("１２３４５６", "123456"),
        ("²³", ""),
        ("abc", ""),
    ],
)
def test_a_code_is_read_as_people_type_it(typed, code):
    assert typed_code(typed) == code


# --- moments --------------------------------------------------------------------------


def test_a_day_begins_when_it_begins_for_the_member():
    late = 1_795_372_200_000_000  # 2026-11-22T18:30:00Z
    thai = moment(late, zone_of("TH"), Language.TH)
    assert (thai.day, thai.time) == ("23 พ.ย. 2569", "01:30")
    assert thai.iso.startswith("2026-11-22T18:30")
    taiwan = moment(late, zone_of("TW"), Language.ZH_HANT)
    assert (taiwan.day, taiwan.time) == ("民國115年11月23日", "02:30")
    assert moment(late, zone_of("EU"), Language.EN).day == "22 Nov 2026"
    assert [zone_name(code) for code in ("TH", "TW", "EU")] == ["UTC+7", "UTC+8", "UTC"]


def test_years_are_counted_as_their_readers_count():
    assert year_text(1992, Language.TH) == "2535"
    assert year_text(1992, Language.EN) == "1992"
    assert year_text(1992, Language.ZH_HANT) == "民國81年"
    assert year_text(1911, Language.ZH_HANT) == "西元1911年"


# --- words ----------------------------------------------------------------------------


def letters(text: str) -> str:
    return "".join(letter for letter in text if letter.isalnum())


def shown(text: str) -> str:
    return "".join(span.text for block in blocks(text) for line in block.lines for span in line)


def test_every_letter_of_every_notice_is_shown(pack):
    for notice in pack.notices_by_revision.values():
        assert letters(shown(notice.text)) == letters(notice.text)
        assert blocks(notice.text)[0].kind is BlockKind.HEADING


@given(st.text(alphabet="ab*#- \nกข<&", max_size=80))
def test_no_letter_is_ever_lost(text):
    assert letters(shown(text)) == letters(text)


def test_headings_lists_and_bold_are_told_apart():
    found = blocks("# Title\n\nSome **bold** words\nand more\n- one\n- **two**: x\n\n<b>plain</b>")
    assert [block.kind.value for block in found] == ["heading", "paragraph", "list", "paragraph"]
    assert [(span.text, span.bold) for span in found[1].lines[0]] == [
        ("Some ", False),
        ("bold", True),
        (" words and more", False),
    ]
    assert len(found[2].lines) == 2
    assert found[3].lines[0][0].text == "<b>plain</b>"


# --- choices --------------------------------------------------------------------------


def choices(pack, tier=AgeTier.ADULT, jurisdiction="TH", language=Language.EN) -> Choices:
    return Choices(pack, jurisdiction, tier, language, NOW_US)


def state(status: Status, purpose: str = "profiling", channel: str = "") -> ConsentState:
    return ConsentState(purpose, channel, status, "con_x", agreed(purpose), NOW_US)


def agreed(purpose: str) -> str:
    """Words that stand: what the pack does not know waits to be confirmed."""
    return load_pack().notices[purpose][0].revision


def of(rows, purpose: str, channel: str = ""):
    (row,) = [row for row in rows if row.key == purpose]
    return next(choice for choice in row.choices if choice.channel == channel)


def test_silence_is_shown_as_a_no_on_every_channel(pack):
    rows = choices(pack).rows([])
    (marketing,) = [row for row in rows if row.key == "marketing"]
    assert [choice.channel for choice in marketing.choices] == ["sms", "email", "line", "push"]
    assert {choice.standing for choice in marketing.choices} == {Standing.UNASKED}
    assert {choice.glyph for choice in marketing.choices} == {""}
    assert not marketing.is_given


@pytest.mark.parametrize(
    ("status", "standing", "given", "glyph"),
    [
        (Status.GIVEN, Standing.ALLOWED, True, "on"),
        (Status.REFUSED, Standing.REFUSED, False, ""),
        (Status.WITHDRAWN, Standing.WITHDRAWN, False, ""),
        (Status.EXPIRED, Standing.EXPIRED, False, ""),
    ],
)
def test_each_standing_has_its_sign(pack, status, standing, given, glyph):
    choice = of(choices(pack).rows([state(status)]), "profiling")
    assert (choice.standing, choice.is_given, choice.glyph) == (standing, given, glyph)
    assert choice.revision == agreed("profiling")


@pytest.mark.parametrize("tier", list(AgeTier))
def test_a_minors_own_yes_is_shown_as_waiting(pack, tier):
    found = choices(pack, tier)
    choice = of(found.rows([state(Status.GIVEN)]), "profiling")
    minor = tier in {AgeTier.MINOR_WITH_GUARDIAN, AgeTier.GUARDIAN_ONLY}
    assert found.needs_guardian == minor
    assert choice.glyph == ("half" if minor else "on")
    assert choice.is_given


def test_what_rests_on_contract_has_no_choice_and_comes_last(pack):
    *_, last = choices(pack).rows([])
    assert (last.key, last.choices) == ("membership", ())
    assert (last.section, last.section_kind) == ("24(3)", "section")


def test_the_law_is_that_of_the_members_jurisdiction(pack):
    (row,) = [r for r in choices(pack, jurisdiction="EU").rows([]) if r.key == "profiling"]
    assert (row.section, row.section_kind) == ("6(1)(a)", "article")
    (row,) = [r for r in choices(pack, jurisdiction="XX").rows([]) if r.key == "profiling"]
    assert (row.section, row.law) == ("", "")


# --- readings -------------------------------------------------------------------------


def reading(**changed: object) -> dict[str, object]:
    return {
        "audit_id": "evt_x",
        "at": "2026-11-23T03:00:00.000000Z",
        "by": {"id": "cli_x", "role": "app"},
        "purpose": "marketing",
        "channel": "sms",
        "action": "member.view",
        "fields": ["phone", "phone.2"],
        "told": [],
        "decision": "allow",
        "reason": None,
        "emergency": False,
        **changed,
    }


@pytest.fixture
def timeline(pack):
    return Timeline(pack, Catalogue(LOCALE), Language.EN, UTC, {"cli_x": "sender"})


def test_a_reading_is_told_in_words(timeline):
    (day,) = timeline.days([reading()])
    (one,) = day.readings
    assert day.title == "23 Nov 2026"
    assert (one.reader, one.purpose, one.channel) == ("sender", "News and offers", "SMS")
    assert one.fields == ("Mobile number", "Mobile number")
    assert one.refusal is None


def test_a_role_reason_purpose_or_client_that_we_do_not_know_is_still_told(timeline):
    strange = reading(
        by={"id": "cli_y", "role": "alien"},
        decision="deny",
        reason="strange",
        purpose="gone",
        channel=None,
        fields=[],
    )
    ((one,),) = [day.readings for day in timeline.days([strange])]
    assert one.reader == "Somebody else with a right to"
    assert one.refusal == "there was no right to it"
    assert (one.purpose, one.channel) == ("", "")


def test_days_keep_the_newest_first(timeline):
    days = timeline.days(
        [
            reading(at=f"2026-11-{day:02d}T0{hour}:00:00Z")
            for day, hour in ((23, 2), (23, 1), (21, 1))
        ]
    )
    assert [(day.title, len(day.readings)) for day in days] == [
        ("23 Nov 2026", 2),
        ("21 Nov 2026", 1),
    ]


def test_what_a_feed_told_is_put_into_words(timeline):
    told = [
        reading(action="change.read", fields=[], told=["consent.withdrawn", "strange.thing"]),
        reading(action="suppression.read", fields=[], told=["withdrawn", "restricted", "strange"]),
    ]
    ((change, suppression),) = [day.readings for day in timeline.days(told)]
    assert change.told == ("you withdrew", "something about your membership changed")
    assert suppression.told == (
        "you withdrew",
        "use of your data is paused",
        "there was no right to it",
    )
    assert (change.is_suppressed, suppression.is_suppressed) == (False, True)
    assert (change.fields, suppression.fields) == ((), ())


def test_whatever_a_feed_tells_has_words_in_every_language():
    from disclosure import FEED_TYPES

    catalogue = Catalogue(LOCALE)
    for kind in FEED_TYPES:  # the reasons are those of refusals, below
        assert catalogue.has(f"change.{kind}"), kind
    assert catalogue.has("reason.merged")


def test_every_reason_of_a_refusal_has_words_in_every_language():
    from consent import BasisRefusal
    from disclosure import Refusal

    catalogue = Catalogue(LOCALE)
    for reason in (*BasisRefusal, *Refusal):
        if reason is not Refusal.MEMBER_UNKNOWN:  # nobody's timeline can hold it
            assert catalogue.has(f"reason.{reason.value}"), reason


def test_now_is_what_the_constant_says():
    assert datetime.fromtimestamp(NOW_US / 1e6, UTC) == datetime(2026, 11, 23, 3, tzinfo=UTC)
