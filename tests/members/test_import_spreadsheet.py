"""Spreadsheets: read like CSV, and hostile ones refused before they can do anything."""

import io
import zipfile
from datetime import date, datetime

import openpyxl
import pytest

from members.importing import PROFILES, ImportFileError, judge_row, read_rows, survey

TH = PROFILES["th"]
TODAY = date(2026, 11, 23)
HEADER = ["Member No", "First name", "Mobile", "Birth date", "National ID"]


def workbook(*rows, sheets=1):
    book = openpyxl.Workbook()
    for _ in range(sheets - 1):
        book.create_sheet().append(["something"])
    for row in rows:
        book.active.append(row)
    kept = io.BytesIO()
    book.save(kept)
    kept.seek(0)
    return kept


def repacked(stream, **parts):
    """The same archive with parts replaced by name (dots and slashes as `__`)."""
    made = io.BytesIO()
    with zipfile.ZipFile(stream) as old, zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, parts.pop(name, None) or old.read(name))
        for name, content in parts.items():
            new.writestr(name, content)
    made.seek(0)
    return made


def judged(stream):
    return [judge_row(row, TH.formats(TODAY)) for row in read_rows(stream, TH)]


def refusal(stream):
    with pytest.raises(ImportFileError) as caught:
        list(read_rows(stream, TH))
    return caught.value.reason


def test_numbers_and_dates_are_read_as_somebody_would_have_typed_them():
    (row,) = judged(
        workbook(HEADER, [1001.0, "สมหญิง", 812345678, datetime(1987, 5, 12), 3101701234560])  # noqa: DTZ001
    )
    assert row.outcome == "accepted"
    assert row.fields["phone"] == "+66812345678"
    assert row.fields["birth_date"] == "1987-05-12"
    assert row.fields["external_id"] == "1001"


def test_a_number_whose_digits_are_lost_is_refused_and_never_made_up():
    (row,) = judged(workbook(HEADER, ["M1", "a", 8.12345678e17, None, None]))
    assert row.issues[0] == ("phone", "excel_number")


def test_a_row_with_a_formula_is_set_aside_and_the_formula_is_not_run():
    rows = judged(
        workbook(
            HEADER,
            ["M1", "=1+1", "0812345678", None, None],
            ["M2", "b", "0812345679", None, None],
        )
    )
    assert [row.outcome for row in rows] == ["quarantined", "accepted"]
    assert rows[0].issues == (("row", "formula"),)


def test_short_rows_are_filled_blank_rows_left_out_and_surplus_cells_set_aside():
    rows = judged(
        workbook(
            HEADER,
            ["M1", "a", "0812345678"],
            [None, " ", None],
            ["M2", "b", "0812345679", None, None, None, "beyond"],
        )
    )
    assert [row.issues for row in rows] == [(), (("row", "columns"),)]


def test_a_workbook_with_two_filled_sheets_is_refused():
    assert refusal(workbook(HEADER, ["M1", "a", "0812345678"], sheets=2)) == "several_sheets"


def test_a_small_file_that_grows_large_is_refused():
    bomb = repacked(workbook(HEADER), **{"xl/media/zeros.bin": bytes(230 << 20)})
    assert len(bomb.getvalue()) < 1 << 20
    assert refusal(bomb) == "spreadsheet"


def test_a_document_type_is_refused():
    entity = b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "c">]><worksheet/>'
    assert refusal(repacked(workbook(HEADER), **{"xl/worksheets/sheet1.xml": entity})) == (
        "spreadsheet"
    )


@pytest.mark.parametrize(
    "content", [b"<worksheet><sheetData><row r='x'>", b"\xff\xfe", b"<a/>"], ids=repr
)
def test_a_damaged_sheet_is_refused_without_a_quote_of_it(content):
    damaged = repacked(workbook(HEADER), **{"xl/worksheets/sheet1.xml": content})
    assert refusal(damaged) in {"spreadsheet", "empty"}


def test_a_very_wide_sheet_is_refused():
    wide = (
        b'<worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><sheetData>'
        b'<row r="1"><c r="XFD1"><v>1</v></c></row></sheetData></worksheet>'
    )
    assert refusal(repacked(workbook(HEADER), **{"xl/worksheets/sheet1.xml": wide})) == (
        "spreadsheet"
    )


def test_a_survey_counts_the_rows_that_are_read():
    stream = workbook(HEADER, *([f"M{at}", "a", f"08{at:08}"] for at in range(250)))
    assert survey(stream, TH).rows == len(list(read_rows(stream, TH))) == 250
