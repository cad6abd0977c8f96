"""The core that holds names: what is found, what is forgotten, and what one person's name hides."""

import itertools
import random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from disclosure import search_words
from disclosure.names import PART, record_form
from kernel import InvalidRequestError
from members import search_form
from service.search.letters import to_letters
from service.search.projection import (
    BEGINNING,
    EXACT,
    INSIDE,
    MOST_MATCHES,
    SEGMENT_BYTES,
    FullError,
    Projection,
)

MAIN, OTHER = b"main", b"other"
EVERY_PART = 0xFF
_numbers = itertools.count(1)


def an_id() -> bytes:
    return next(_numbers).to_bytes(8) + random.Random(next(_numbers)).randbytes(8)


def letters(*names: str) -> bytes:
    return to_letters(PART.join(map(search_form, names)))


def put(projection, *names, brand=MAIN, month=0, member=None, stamp=1):
    member = member or an_id()
    projection.put(member, stamp, month, brand, memoryview(letters(*names)))
    return member


def find(projection, typed, *, brand=MAIN, parts=EVERY_PART, after=None, most=100):
    words = [
        [bytearray(to_letters(word)) for word in alternative]
        for alternative in search_words(typed).alternatives
    ]
    return projection.find(brand, words, parts, after, most)


def ids(found):
    return [hit.member for hit in found.hits]


@pytest.fixture
def projection():
    return Projection(64 * SEGMENT_BYTES)


# --- what is not found ----------------------------------------------------------------


@pytest.mark.parametrize(
    "typed", ["", " ", "a", "ก", "é", "\u200b\u200b", "a\u200b", "\x00", "ﷺ"[:0]]
)
def test_too_little_is_refused(typed):
    with pytest.raises(InvalidRequestError) as refused:
        search_words(typed)
    assert refused.value.reason == "too_short"


def test_more_than_five_words_are_refused():
    with pytest.raises(InvalidRequestError) as refused:
        search_words("aa bb cc dd ee ff")
    assert refused.value.reason == "too_many_words"


def test_words_never_show_what_was_typed():
    assert "สมหญิง" not in repr(search_words("สมหญิง"))


def test_a_name_of_another_brand_is_not_found(projection):
    put(projection, "Jaidee", "Somying", brand=OTHER)
    assert not find(projection, "somying").hits


def test_a_piece_does_not_reach_from_one_member_into_the_next(projection):
    put(projection, "aaa", "bbb")
    put(projection, "ccc", "ddd")
    assert not find(projection, "bbbccc").hits
    assert not find(projection, "bbccc").hits


def test_separators_that_somebody_types_are_not_separators(projection):
    member = put(projection, "aaa", "bbb")
    for typed in ("aaa\x01bbb", "aaa\x00bbb", "\x00\x00aaa", "\x01aaa"):
        found = find(projection, typed)
        assert ids(found) in ([], [member])
        assert all(
            b"\x00" not in to_letters(w) for a in search_words(typed).alternatives for w in a
        )


def test_a_part_that_may_not_be_looked_into_finds_nobody(projection):
    put(projection, "Jaidee", "Somying")
    assert not find(projection, "jaidee", parts=0b10).hits
    assert not find(projection, "somying", parts=0b01).hits
    assert not find(projection, "somying jaidee", parts=0b10).hits
    assert find(projection, "somying jaidee", parts=0b11).hits


def test_a_family_name_that_may_not_be_looked_into_is_not_part_of_a_chinese_name(projection):
    put(projection, "王", "小明")
    assert find(projection, "王小明").hits
    assert not find(projection, "王小明", parts=0b10).hits


# --- what is found --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "typed"),
    [
        (("ใจดี", "สมหญิง"), "มหญ"),
        (("ใจดี", "สมหญิง"), "สมหญิง ใจดี"),
        (("ใจดี", "สมหญิง"), "ใจดี สมหญิง"),
        (("น้ำใจ", "อำนวย"), "อำนวย"),
        (("น้ำใจ", "อำนวย"), "น้ํา"),
        (("王", "小明"), "王"),
        (("王", "小明"), "小明"),
        (("王", "小明"), "王小明"),
        (("歐陽", "修"), "歐陽修"),
        (("𠮷田", "太郎"), "𠮷"),
        (("Jaidee", "SOMYING"), "oMyI"),
        (("Müller", "Jörg"), "mül"),
        (("Weiß", "Anna"), "weiss"),
        (("van der Berg", "An"), "derberg"),
        (("ｆｕｌｌ", "ｗｉｄｔｈ"), "full"),
        (("ใจ\u200bดี", "สม"), "ใจดี"),
        (("Jaidee", "Somying", "Ying"), "ying jaidee"),
    ],
)
def test_a_piece_of_a_name_is_found_in_every_script(projection, names, typed):
    put(projection, "somebody", "else")
    member = put(projection, *names)
    assert ids(find(projection, typed)) == [member]


def test_the_whole_name_comes_before_a_beginning_and_that_before_the_rest(projection):
    inside = put(projection, "x", "tanan")
    begins = put(projection, "ananda", "x")
    whole = put(projection, "x", "anan")
    found = find(projection, "anan")
    assert [(hit.member, hit.rank) for hit in found.hits] == [
        (whole, EXACT), (begins, BEGINNING), (inside, INSIDE),
    ]  # fmt: skip


def test_pages_follow_each_other_without_gap_or_repeat(projection):
    members = {put(projection, "family", f"anan{at}") for at in range(57)}
    seen, after = [], None
    while True:
        found = find(projection, "anan", after=after, most=10)
        seen += ids(found)
        if not found.more:
            break
        after = (found.hits[-1].rank, found.hits[-1].member)
    assert len(seen) == len(set(seen)) == 57
    assert set(seen) == members


def test_when_too_many_fit_it_says_so(projection):
    for at in range(MOST_MATCHES + 1):
        put(projection, "jaidee", str(at))
    found = find(projection, "jaidee", most=10)
    assert found.cut
    assert len(found.hits) == 10


def test_birthdays_are_found_by_their_month(projection):
    march = put(projection, "a", "b", month=3)
    put(projection, "c", "d", month=4)
    put(projection, "e", "f")
    put(projection, "g", "h", month=3, brand=OTHER)
    assert projection.born_in(MAIN, 3) == [march]
    assert projection.born_in(MAIN, 12) == []
    projection.remove(march)
    assert projection.born_in(MAIN, 3) == []


# --- forgetting -----------------------------------------------------------------------


def everything(projection) -> bytes:
    return b"".join(bytes(s.text) for s in projection._segments if s is not None)


def test_what_is_removed_is_overwritten_where_it_lay(projection):
    member = put(projection, "Jaidee", "Plantedname")
    put(projection, "other", "person")
    assert letters("Plantedname") in everything(projection)
    assert projection.remove(member)
    assert letters("Plantedname") not in everything(projection)
    assert not projection.remove(member)
    assert find(projection, "person").hits


def test_a_new_name_takes_the_place_of_the_old_one(projection):
    member = put(projection, "Jaidee", "Oldname")
    put(projection, "Jaidee", "Newname", member=member, stamp=2)
    assert len(projection) == 1
    assert not find(projection, "oldname").hits
    assert ids(find(projection, "newname")) == [member]
    assert letters("Oldname") not in everything(projection)


def test_segments_of_the_dead_are_given_back(projection):
    members = [put(projection, "x" * 90, f"{at:06}") for at in range(60_000)]
    full = projection.size
    for member in members[:-100]:
        projection.remove(member)
    assert projection.size < full / 2
    assert len(projection) == 100
    for at in (59_900, 59_999):
        assert ids(find(projection, f"{at:06}")) == [members[at]]


def test_it_takes_no_more_memory_than_it_was_given():
    small = Projection(4 * SEGMENT_BYTES)
    with pytest.raises(FullError):
        for at in range(100_000):
            put(small, "x" * 90, str(at))
    assert small.size <= 4 * SEGMENT_BYTES
    small.clear()
    assert len(small) == 0
    put(small, "there", "is room")


def test_a_record_beyond_all_measure_is_refused(projection):
    with pytest.raises(FullError):
        put(projection, "x" * SEGMENT_BYTES)


def test_a_walk_keeps_whom_it_met_and_forgets_the_others(projection):
    kept, changed, gone = (put(projection, "name", text) for text in ("kept", "changed", "gone"))
    projection.begin()
    assert projection.confirm(kept, 1)
    assert not projection.confirm(changed, 2)
    assert not projection.confirm(an_id(), 1)
    put(projection, "name", "anew", member=changed, stamp=2)
    late = put(projection, "name", "late")
    assert projection.end() == 1
    assert {*ids(find(projection, "name"))} == {kept, changed, late}
    assert not find(projection, "gone").hits
    assert not projection.remove(gone)


# --- against a model ------------------------------------------------------------------

NAMES = st.text(alphabet="abกขาน้ํ王小 é", min_size=0, max_size=6)
STEPS = st.lists(
    st.tuples(st.integers(0, 7), st.one_of(st.none(), st.tuples(NAMES, NAMES))), max_size=40
)


@settings(max_examples=200, deadline=None)
@given(STEPS, st.text(alphabet="abกขาน王小", min_size=2, max_size=3))
def test_it_finds_what_a_list_would(steps, typed):
    projection, model = Projection(16 * SEGMENT_BYTES), {}
    members = [bytes([at]) * 16 for at in range(1, 9)]
    for at, names in steps:
        if names is None:
            assert projection.remove(members[at]) == (model.pop(members[at], None) is not None)
        else:
            put(projection, *names, member=members[at])
            model[members[at]] = PART.join(map(search_form, names))
    words = search_words(typed)
    assert {*ids(find(projection, typed))} == {m for m, form in model.items() if words.fit(form)}
    assert len(projection) == len(model)


@given(st.text(max_size=20), st.text(max_size=4))
def test_letters_hold_a_piece_exactly_where_the_text_does(text, piece):
    whole, part = search_form(text), search_form(piece)
    assert (to_letters(part) in to_letters(whole)) == (part in whole)


@given(st.text(max_size=30))
@example("A¯")
def test_a_form_has_no_separator_and_is_its_own_form(text):
    form = search_form(text)
    assert search_form(form) == form
    assert not set(to_letters(form)) & {0, 1}


def test_a_field_that_is_not_held_leaves_its_place():
    assert record_form(["family_name", "given_name"], {"given_name": "สม"}) == PART + "สม"
