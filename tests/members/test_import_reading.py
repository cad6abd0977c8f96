"""Reading and judging member files: the sample truth, damaged files, and no row lost."""

import csv
import io
import itertools
import json
from collections import Counter
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from members.importing import (
    CODECS,
    FIELD_KINDS,
    PROFILES,
    ImportFileError,
    Profile,
    error_file,
    judge_row,
    read_rows,
    row_digest,
    survey,
)
from members.normalise import DATE_ERAS, KINDS, REASONS

REPOSITORY = Path(__file__).resolve().parents[2]
TODAY = date(2026, 11, 23)
PLAIN = PROFILES["plain"]
TH = PROFILES["th"]
DECLARED = {
    "th.csv": TH,
    "th_cp874.csv": TH,
    "tw.csv": PROFILES["tw"],
    "tw_big5.csv": PROFILES["tw"],
    "en.csv": PROFILES["en"].declare(phone_region="th"),
}
TRUTH_FIELDS = {"phone", "email", "birth_date", "gender", "national_id", "line_uid"}
HEADER = "Member No,First name,Mobile,E-mail,Notes\r\n"


def stream(content, encoding="utf-8"):
    return io.BytesIO(content if isinstance(content, bytes) else content.encode(encoding))


def rows_of(content, profile=TH, encoding="utf-8"):
    return list(read_rows(stream(content, encoding), profile))


def judged(content, profile=TH):
    return [judge_row(row, profile.formats(TODAY)) for row in rows_of(content, profile)]


def refusal(content, profile=PLAIN, encoding="utf-8"):
    with pytest.raises(ImportFileError) as caught:
        list(read_rows(stream(content, encoding), profile))
    return caught.value.reason


# --- the sample files, row by row


@pytest.mark.parametrize("name", sorted(DECLARED))
def test_every_row_of_the_sample_files_is_judged_as_the_truth_says(name, member_files):
    truth = json.loads((member_files / "truth.json").read_text())[name]
    profile = DECLARED[name]
    formats = profile.formats(TODAY)
    verdicts = [judge_row(row, formats) for row in read_rows(member_files / name, profile)]
    wrong = [
        verdict.row_no
        for verdict, true in zip(verdicts, truth, strict=True)
        if verdict.outcome != true["outcome"]
        or [list(issue) for issue in verdict.issues] != true["issues"]
        or {f: v for f, v in verdict.fields.items() if f in TRUTH_FIELDS} != true["normal"]
    ]
    outcomes = Counter(verdict.outcome for verdict in verdicts)
    issues = Counter(".".join(issue) for verdict in verdicts for issue in verdict.issues)
    print(f"{name}: {len(truth)} rows, {dict(outcomes)}, {dict(issues)}, wrong: {len(wrong)}")
    assert wrong == []


@pytest.mark.parametrize(
    ("name", "codec"),
    [("th.csv", "utf-8-sig"), ("th_cp874.csv", "cp874"), ("tw_big5.csv", "cp950")],
)
def test_the_encoding_of_the_sample_files_is_found(name, codec, member_files):
    found = survey(member_files / name, DECLARED[name])
    assert (found.codec, found.delimiter, found.unknown) == (codec, ",", ())
    assert set(found.fields) == set(FIELD_KINDS)


def test_without_a_declared_region_no_national_number_is_believed(member_files):
    rows = itertools.islice(read_rows(member_files / "th.csv", PLAIN), 200)
    codes = {code for row in rows for _, code in judge_row(row, PLAIN.formats(TODAY)).issues}
    assert {"region", "country", "era"} <= codes


# --- one row


def test_a_row_without_an_identifier_is_set_aside_with_all_its_reasons():
    (row,) = judged(HEADER + "M1,สมหญิง,081,nobody@,\r\n")
    assert row.outcome == "quarantined"
    assert row.issues == (("phone", "invalid"), ("email", "invalid"), ("row", "no_identifier"))
    assert row.kept == {"phone": "081", "email": "nobody@"}
    assert row.fields == {"external_id": "M1", "given_name": "สมหญิง"}


def test_a_row_with_one_good_identifier_is_taken_without_its_bad_values():
    (row,) = judged(HEADER + "M1,สมหญิง,812345678,nobody@,\r\n")
    assert row.outcome == "accepted"
    assert row.issues == (("email", "invalid"),)
    assert row.kept == {"email": "nobody@"}
    assert row.fields["phone"] == "+66812345678"
    assert row.remarks == (("phone", "leading_zero"),)


@pytest.mark.parametrize("cells", ["M1,a,0812345678,", "M1,a,0812345678,,,", "0812345678"])
def test_a_row_that_does_not_line_up_with_the_header_is_set_aside_whole(cells):
    (row,) = rows_of(HEADER + cells + "\r\n")
    assert (row.fault, row.values, row.raw) == ("columns", {}, cells.split(","))
    verdict = judge_row(row, TH.formats(TODAY))
    assert (verdict.outcome, verdict.issues) == ("quarantined", (("row", "columns"),))


def test_misplaced_quotation_marks_cost_only_their_own_row():
    rows = rows_of(HEADER + '1,"a"b,0812345678,,\r\n2,b,0812345679,,\r\n')
    assert [row.fault for row in rows] == ["quotes", None]
    assert rows[0].raw == ['1,"a"b,0812345678,,']


def test_a_quotation_mark_inside_a_plain_cell_is_only_a_character():
    (row,) = rows_of(HEADER + "1,5'10\" tall,0812345678,,\r\n")
    assert row.values["given_name"] == "5'10\" tall"


def test_a_zero_byte_costs_only_its_own_row():
    rows = rows_of(HEADER + "1,a\0b,0812345678,,\r\n2,b,0812345679,,\r\n")
    assert [row.fault for row in rows] == ["nul", None]


def test_a_row_is_its_own_repeat_only_when_every_cell_is_the_same():
    rows = rows_of(HEADER + "1,a,0812345678,,\r\n1,a,0812345678,,\r\n1,a,0812345678, ,\r\n")
    first, same, other = (row_digest(row.raw) for row in rows)
    assert first == same
    assert first != other
    assert row_digest(["ab", ""]) != row_digest(["a", "b"]) != row_digest(["ab"])


# --- shapes of files


def test_line_ends_may_be_mixed_and_cells_may_hold_lines():
    content = HEADER + '1,a,0812345678,,"x\r\ny"\n2,b,0812345679,,\r3,c,0812345670,,\r\n\r\n  \n'
    rows = rows_of(content)
    assert [row.row_no for row in rows] == [1, 2, 3]
    assert rows[0].values["notes"] == "x\r\ny"
    assert judge_row(rows[0], TH.formats(TODAY)).fields["notes"] == "x\ny"


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_is_the_one_under_which_the_header_is_known(delimiter):
    line = HEADER.replace(",", delimiter) + f"1{delimiter}a,b;c{delimiter}0812345678"
    found = survey(stream(line), PLAIN)
    assert found.delimiter == delimiter
    assert len(found.header) == 5


@pytest.mark.parametrize(
    ("encoding", "codec"),
    [("utf-8", "utf-8-sig"), ("utf-8-sig", "utf-8-sig"), ("utf-16", "utf-16")],
)
def test_a_byte_order_mark_is_not_part_of_the_first_column(encoding, codec):
    content = "เบอร์โทร,ชื่อ\r\n0812345678,สมชาย\r\n"
    assert survey(stream(content, encoding), PLAIN).codec == codec
    (row,) = rows_of(content, encoding=encoding)
    assert row.values == {"phone": "0812345678", "given_name": "สมชาย"}


@pytest.mark.parametrize(
    "header",
    [
        "เบอร์โทรศัพท์",
        "手機",
        "行動電話",
        "手机",
        "Mobile",
        "MOBILE NO.",
        "phone_number",
        "Phone-Number",
        "\u200bTel",
        "ＴＥＬ",
    ],
)
def test_a_column_is_known_in_three_languages_however_it_is_punctuated(header):
    assert survey(stream(f"{header}\r\n"), PLAIN).fields == ("phone",)


def test_every_field_of_an_import_has_a_known_kind():
    assert set(FIELD_KINDS.values()) <= KINDS


def test_columns_nobody_knows_are_reported_and_not_imported():
    found = survey(stream("Mobile,Shoe size,,E-mail\r\n0812345678,42,x,\r\n"), PLAIN)
    assert found.unknown == ("Shoe size", "column 3")
    assert found.fields == ("phone", None, None, "email")
    (row,) = rows_of("Mobile,Shoe size,,E-mail\r\n0812345678,42,x,\r\n")
    assert row.values == {"phone": "0812345678", "email": ""}
    assert row.raw == ["0812345678", "42", "x", ""]


def test_a_declared_column_wins_over_the_known_names():
    profile = PLAIN.declare(columns={"Contact": "phone", "Mobile": ""})
    found = survey(stream("Contact,Mobile,Notes\r\n"), profile)
    assert found.fields == ("phone", None, "notes")
    assert found.unknown == ()


def test_a_survey_may_be_used_again_and_an_open_stream_stays_open():
    content = stream(HEADER + "1,a,0812345678,,\r\n")
    found = survey(content, TH)
    assert found.rows == 1
    assert len(list(read_rows(content, TH, found))) == 1
    assert len(list(read_rows(content, TH, found))) == 1


def test_reading_may_stop_anywhere(tmp_path):
    path = tmp_path / "members.csv"
    path.write_text(HEADER + "1,a,0812345678,,\r\n" * 5)
    rows = read_rows(path, TH)
    assert next(rows).row_no == 1
    rows.close()


# --- files that are refused whole


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (b"\r\n\r\n", "empty"),
        (b"\xef\xbb\xbf", "empty"),
        (b"PK\x03\x04rest", "not_csv"),
        (b"\xd0\xcf\x11\xe0rest", "not_csv"),
        (b"Foo,Bar\r\n1,2\r\n", "header"),
        (b'"Mobile"x,Notes\r\n', "header"),
        (b"0812345678,nobody@example.com\r\n", "header"),
        (b"First name,Notes\r\nx,y\r\n", "no_identifier_column"),
        (b"Mobile,Phone\r\n1,2\r\n", "duplicate_column"),
        (b"Mobile,Foo,foo\r\n1,2,3\r\n", "duplicate_column"),
        (b'Mobile,Notes\r\n1,"never closed\r\n2,x\r\n', "unclosed_quote"),
        (b'Mobile,"Notes\r\n1,2\r\n', "unclosed_quote"),
        ("Mobile,Notes\r\n1,2\r\n".encode("utf-16-le"), "encoding"),
        ("Mobile,Notes\r\n1,Jos\u00e9\r\n".encode("latin-1"), "encoding"),
        ("Mobile,Notes\r\n1,สมชาย\r\n".encode("cp874"), "encoding"),
        ("手機,備註\r\n1,".encode("big5") + b"\xff\xff\r\n", "encoding"),
        (b"\xef\xbb\xbfMobile\r\n\xff\r\n", "encoding"),
        (b"\xff\xfeM", "encoding"),
        (b"Mobile\r\n" + b"1" * 200_000, "row_too_long"),
        (b'Mobile\r\n"' + b"1\r\n" * 80_000, "row_too_long"),
        (b"M" * 200_000, "row_too_long"),
    ],
)
def test_a_file_that_cannot_be_read_safely_is_refused_before_its_first_row(content, reason):
    assert refusal(content) == reason


@pytest.mark.parametrize(
    ("declared", "content", "reason"),
    [
        ("utf-8", "เบอร์โทร\r\n".encode("cp874"), "encoding"),
        ("cp874", "เบอร์โทร\r\n".encode("utf-8-sig"), "encoding"),
        ("big5", "手機\r\n".encode("utf-16"), "encoding"),
        ("cp874", b"Mobile\r\n\xfc\r\n", "encoding"),
        ("cp874", "手機\r\n".encode("big5"), "header"),
        ("utf-16", b"a", "encoding"),
    ],
)
def test_a_declared_encoding_must_fit_the_file(declared, content, reason):
    assert refusal(content, PLAIN.declare(encoding=declared)) == reason


def test_a_declared_legacy_encoding_needs_no_telling_header():
    content = "Mobile,Notes\r\n0812345678,สมชาย\r\n".encode("cp874")
    (row,) = rows_of(content, PLAIN.declare(encoding="TIS-620"))
    assert row.values["notes"] == "สมชาย"


@pytest.mark.parametrize(
    "declaration",
    [
        {"date_era": "lunar"},
        {"phone_region": "Thailand"},
        {"id_country": "ไท"},
        {"encoding": "rot13"},
    ],
)
def test_a_declaration_nobody_knows_is_refused(declaration):
    with pytest.raises(ImportFileError) as caught:
        PLAIN.declare(**declaration)
    assert caught.value.reason in {"declaration", "encoding"}


@pytest.mark.parametrize("columns", [{"Mobile": "shoe_size"}, {"Contact": "phone"}])
def test_a_declared_column_must_exist_on_both_sides(columns):
    assert refusal(b"Mobile\r\n", PLAIN.declare(columns=columns)) == "declaration"


def test_two_declared_columns_cannot_fill_one_field():
    profile = PLAIN.declare(columns={"Contact": "phone"})
    assert refusal(b"Mobile,Contact\r\n", profile) == "duplicate_column"


def test_a_row_limit_beyond_the_parser_is_refused():
    assert refusal(b"Mobile\r\n", Profile(max_row_chars=10_000_000)) == "declaration"


def test_more_rows_than_allowed_are_refused_before_the_first():
    assert refusal(b"Mobile\r\n1\r\n2\r\n3\r\n", Profile(max_rows=2)) == "too_many_rows"
    assert len(rows_of(b"Mobile\r\n1\r\n2\r\n", Profile(max_rows=2))) == 2


def test_a_region_declared_for_phones_is_the_identity_numbers_country_too():
    assert PROFILES["en"].declare(phone_region="tw").formats(TODAY).id_country == "TW"
    assert TH.declare(phone_region="tw").formats(TODAY).id_country == "TH"
    assert PLAIN.declare(phone_region="TH", id_country="TW").formats(TODAY).id_country == "TW"


@pytest.mark.parametrize("grown", [b"1,x\r\n2,y\r\n", b"3,x\r\n", b"", b"\xff\xff"])
def test_a_file_that_changes_between_survey_and_reading_is_noticed(grown):
    found = survey(stream(b"Mobile,Notes\r\n1,x\r\n"), PLAIN)
    with pytest.raises(ImportFileError) as caught:
        list(read_rows(stream(b"Mobile,Notes\r\n" + grown), PLAIN, found))
    assert caught.value.reason == "changed"


def test_no_refusal_repeats_what_stands_in_the_file():
    for content in (
        b"0812345678,0812345678\r\n",
        b"Mobile,secret-0812345678,Secret 0812345678\r\n",
        b'Mobile\r\n"0812345678',
        b"Mobile\r\n\xff0812345678",
    ):
        with pytest.raises(ImportFileError) as caught:
            survey(stream(content), PLAIN)
        told = caught.value.diagnostics() + repr(caught.value.errors)
        assert "0812345678" not in told
        assert "Nothing was imported" in told


# --- the error file


def mended(content, profile=TH, change=lambda text: text):
    """Read a file, write its faulty rows to an error file, change that, and read it again."""
    source = stream(content)
    found = survey(source, profile)
    raw = list(read_rows(source, profile, found))
    verdicts = [judge_row(row, profile.formats(TODAY)) for row in raw]
    faulty = [
        (row.row_no, row.raw, verdict.issues)
        for row, verdict in zip(raw, verdicts, strict=True)
        if verdict.issues
    ]
    returned = b"".join(error_file(found.header, faulty)).decode()
    return returned, rows_of(change(returned), profile)


def test_an_error_file_has_the_same_columns_and_says_which_row_and_why():
    returned, _ = mended(HEADER + "1,a,0812345678,,\r\n2,b,081,x@,n\r\n")
    assert returned.splitlines() == [
        "\ufeffMember No,First name,Mobile,E-mail,Notes,_row,_errors",
        "2,b,081,x@,n,2,phone.invalid; email.invalid; row.no_identifier",
    ]


def test_a_mended_error_file_is_read_like_the_original():
    _, rows = mended(
        HEADER + "2,b,081,x@,n\r\n", change=lambda text: text.replace(",081,", ",0812345678,")
    )
    verdict = judge_row(rows[0], TH.formats(TODAY))
    assert (verdict.outcome, verdict.issues) == ("accepted", (("email", "invalid"),))


@pytest.mark.parametrize(
    "cells", ["2,b,0812345678", "2,b,0812345678,,,,extra", '2,"b"x,0812345678,,']
)
def test_a_row_that_did_not_line_up_stays_refused_until_somebody_has_mended_it(cells):
    returned, rows = mended(HEADER + cells + "\r\n")
    assert [row.fault is not None for row in rows] == [True]
    again, _ = mended(returned)
    assert again == returned


def test_a_padded_row_counts_once_its_reason_is_emptied():
    _, rows = mended(
        HEADER + "2,b,0812345678\r\n", change=lambda text: text.replace("row.columns", "")
    )
    assert rows[0].fault is None
    assert rows[0].values["phone"] == "0812345678"


@pytest.mark.parametrize(
    ("cell", "written"),
    [
        ("=1+1", "'=1+1"),
        ("+1+1", "'+1+1"),
        ("-1", "'-1"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\tx", "'\tx"),
        ("＝1", "'＝1"),
        ("'=1", "''=1"),
        ("+66812345678", "+66812345678"),
        ("+66 812345678", "'+66 812345678"),
        ("plain", "plain"),
        ("'quoted", "'quoted"),
    ],
)
def test_no_cell_of_an_error_file_is_a_formula_and_all_come_back(cell, written):
    line = io.StringIO()
    csv.writer(line).writerow(["9", cell, "081", "", ""])
    returned, rows = mended(HEADER + line.getvalue())
    assert next(itertools.islice(csv.reader(io.StringIO(returned)), 1, None))[1] == written
    assert rows[0].raw[1] == cell


def test_a_row_printed_by_mistake_shows_no_value():
    (row,) = rows_of(HEADER + "M1,secret,0812345678,secret@,secret\r\n")
    shown = repr(row) + repr(judge_row(row, TH.formats(TODAY)))
    assert "secret" not in shown
    assert "812345678" not in shown
    assert "email" in shown


@pytest.mark.parametrize("word", sorted({*REASONS, *DATE_ERAS, *CODECS, *PROFILES} - {"empty"}))
def test_the_format_document_names_every_code_and_declaration(word):
    document = (REPOSITORY / "docs" / "formats" / "import.md").read_text()
    aliases = {"utf8", "utf-8-sig", "tis620", "iso-8859-11"}
    assert f"`{word}`" in document or word in aliases


# --- nothing is lost

CELLS = st.text(
    st.one_of(st.sampled_from("\",;\t\r\n'=+-@ 0a\0ก手"), st.characters(exclude_categories=["Cs"])),
    max_size=8,
)


@given(table=st.lists(st.lists(CELLS, min_size=3, max_size=3), max_size=8))
@settings(deadline=None, max_examples=300)
def test_every_row_written_is_read_with_every_cell_as_it_was(table):
    text = io.StringIO()
    writer = csv.writer(text, quoting=csv.QUOTE_ALL)
    writer.writerows([["Mobile", "Notes", "Tier"], *table])
    rows = rows_of(text.getvalue())
    assert [row.raw for row in rows] == table
    assert [row.row_no for row in rows] == list(range(1, len(table) + 1))


def letters(text):
    """What is left of CSV text when delimiters, quotation marks and blanks are taken away."""
    return "".join(char for char in text if char not in '",' and not char.isspace())


@given(body=st.text(st.sampled_from('",\r\n a0b"'), max_size=60))
@settings(deadline=None, max_examples=1_000)
def test_every_character_of_a_broken_file_is_in_some_row_or_the_file_is_refused(body):
    source = stream("Mobile,Notes\r\n" + body)
    try:
        found, reason = survey(source, TH), None
    except ImportFileError as error:
        found, reason = None, error.reason
    if found is None:
        assert reason == "unclosed_quote"
        return
    rows = list(read_rows(source, TH, found))
    assert "".join(letters("".join(row.raw)) for row in rows) == letters(body)
    verdicts = [judge_row(row, TH.formats(TODAY)) for row in rows]
    outcomes = Counter(verdict.outcome for verdict in verdicts)
    assert outcomes["accepted"] + outcomes["quarantined"] == found.rows


@given(
    content=st.one_of(
        st.binary(max_size=80),
        st.binary(max_size=60).map(lambda tail: "เบอร์โทร,ชื่อ\r\n".encode("cp874") + tail),
        st.binary(max_size=60).map(lambda tail: "手機,備註\r\n".encode("big5") + tail),
        st.binary(max_size=60).map(lambda tail: b"Mobile,Notes\n" + tail),
        st.text(max_size=60).map(lambda tail: f"Mobile,Notes\n{tail}".encode("utf-16")),
    ),
    encoding=st.sampled_from(["auto", "utf-8", "cp874", "big5", "utf-16"]),
)
@settings(deadline=None, max_examples=1_000)
def test_any_bytes_are_either_refused_or_accounted_for_row_by_row(content, encoding):
    profile = TH.declare(encoding=encoding)
    source = stream(content)
    try:
        found = survey(source, profile)
    except ImportFileError:
        return
    rows = list(read_rows(source, profile, found))
    verdicts = [judge_row(row, profile.formats(TODAY)) for row in rows]
    assert [verdict.row_no for verdict in verdicts] == list(range(1, found.rows + 1))
    b"".join(
        error_file(
            found.header, [(r.row_no, r.raw, v.issues) for r, v in zip(rows, verdicts, strict=True)]
        )
    )


@given(table=st.lists(st.lists(CELLS, min_size=1, max_size=5), max_size=6))
@settings(deadline=None, max_examples=300)
def test_an_error_file_brings_back_every_row_it_was_given(table):
    header = ["Mobile", "Notes", "Tier"]
    given_rows = [(number, cells, [("phone", "invalid")]) for number, cells in enumerate(table, 1)]
    content = b"".join(error_file(header, given_rows))
    rows = rows_of(content)
    assert len(rows) == len(table)
    for row, cells in zip(rows, table, strict=True):
        padded = [*cells, "", ""][: max(3, len(cells))]
        assert row.raw[:3] + row.raw[5:] == padded
        assert row.raw[4] == "phone.invalid"
