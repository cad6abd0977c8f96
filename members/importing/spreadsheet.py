"""Reading an XLSX sheet of members as rows of text, from a file that may mean harm.

A spreadsheet is a zip of XML. Before it is parsed, its parts are unpacked once against limits, so
that a small file cannot become a large one, and a document type, which could define such growth
in XML itself, is refused. Formulas are not run and their remembered results are not believed: a
row with one is set aside.
"""

import warnings
import zipfile
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from datetime import date, datetime, time
from typing import Any, BinaryIO, Final

from members.importing.errors import ImportFileError
from members.importing.profile import Profile

CODEC: Final = "xlsx"
FORMULA: Final = "formula"

_MOST_PARTS: Final = 1_000
_MOST_UNPACKED: Final = 256 << 20
_MOST_TIMES_LARGER: Final = 200
_MOST_COLUMNS: Final = 1_024
_MOST_CELLS: Final = 40_000_000
_CHUNK: Final = 1 << 20
_EXACT_DIGITS: Final = 1e15
_DOCUMENT_TYPE: Final = (b"<!DOCTYPE", b"<!ENTITY")
_SHEET = "xl/workbook.xml"


def is_spreadsheet(stream: BinaryIO) -> bool:
    """Say whether a file is a zip that calls itself a workbook."""
    stream.seek(0)
    if not zipfile.is_zipfile(stream):
        return False
    try:
        with zipfile.ZipFile(stream) as archive:
            return _SHEET in archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError):
        return False


def sheet_records(
    stream: BinaryIO, profile: Profile
) -> Generator[tuple[list[str], str | None], None, None]:
    """Yield the cells of every row that is not blank, the header first, and its damage.

    Raises `ImportFileError`: `spreadsheet` for a damaged or hostile file, `several_sheets` when
    more than one sheet has rows, `row_too_long`.
    """
    _check_archive(stream)
    stream.seek(0)
    width = 0
    with _damage_refused():
        for cells, damage in _rows(stream):
            if not any(cell.strip() for cell in cells):
                continue
            if sum(map(len, cells)) > profile.max_row_chars:
                raise ImportFileError(
                    f"a row is longer than {profile.max_row_chars} characters",
                    reason="row_too_long",
                )
            if not width:
                width = len(_trimmed(cells, 0))
            yield _trimmed(cells, width), damage


@contextmanager
def _damage_refused() -> Iterator[None]:
    """Turn whatever the parsers stumble over into one refusal, which quotes nothing of it."""
    try:
        yield
    except ImportFileError:
        raise
    except Exception:  # noqa: BLE001 (a hostile file can make them raise anything)
        raise ImportFileError("the spreadsheet is damaged", reason="spreadsheet") from None


def _check_archive(stream: BinaryIO) -> None:
    stream.seek(0, 2)
    largest = min(_MOST_UNPACKED, max(stream.tell(), _CHUNK) * _MOST_TIMES_LARGER)
    stream.seek(0)
    unpacked = 0
    with _damage_refused(), zipfile.ZipFile(stream) as archive:
        parts = archive.infolist()
        if len(parts) > _MOST_PARTS:
            raise ImportFileError("the spreadsheet has too many parts", reason="spreadsheet")
        for part in parts:
            before = b""
            with archive.open(part) as content:
                while chunk := content.read(_CHUNK):
                    unpacked += len(chunk)
                    _check_chunk(before + chunk, unpacked, largest)
                    before = chunk[-len(_DOCUMENT_TYPE[0]) :]


def _check_chunk(content: bytes, unpacked: int, largest: int) -> None:
    if unpacked > largest:
        raise ImportFileError(
            "the spreadsheet grows too large when it is unpacked", reason="spreadsheet"
        )
    if any(mark in content for mark in _DOCUMENT_TYPE):
        raise ImportFileError("the spreadsheet brings a document type", reason="spreadsheet")


def _rows(stream: BinaryIO) -> Iterator[tuple[list[str], str | None]]:
    import openpyxl

    # It warns of decorations that it leaves out; none of them is data.
    warnings.filterwarnings("ignore", category=UserWarning, module=r"openpyxl(\..*)?")
    workbook = openpyxl.load_workbook(stream, read_only=True, data_only=False, keep_links=False)
    try:
        filled = [sheet for sheet in workbook.worksheets if _has_rows(sheet)]
        if len(filled) > 1:
            raise ImportFileError("several sheets have rows", reason="several_sheets")
        cells_read = 0
        for sheet in filled:
            sheet.reset_dimensions()  # what a sheet says of its own size is not believed
            for row in sheet.iter_rows():
                cells_read += len(row)
                if len(row) > _MOST_COLUMNS or cells_read > _MOST_CELLS:
                    raise ImportFileError("the sheet is too wide", reason="spreadsheet")
                formula = any(cell.data_type == "f" for cell in row)
                yield [_text(cell.value) for cell in row], FORMULA if formula else None
    finally:
        workbook.close()


def _has_rows(sheet: Any) -> bool:
    sheet.reset_dimensions()
    for row in sheet.iter_rows():
        if len(row) > _MOST_COLUMNS:
            raise ImportFileError("the sheet is too wide", reason="spreadsheet")
        if any(cell.value is not None for cell in row):
            return True
    return False


def _text(value: object) -> str:
    """Write a cell as somebody would have typed it; digits that Excel lost are not made up."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (int, float)):
        return _number(value)
    if isinstance(value, datetime):
        return value.date().isoformat() if value.time() == time(0) else value.isoformat(" ")
    return value.isoformat() if isinstance(value, date) else str(value)


def _number(value: float) -> str:
    if abs(value) >= _EXACT_DIGITS:
        return f"{value:.5E}"  # refused as `excel_number`
    return str(int(value)) if value == int(value) else str(value)


def _trimmed(cells: Sequence[str], width: int) -> list[str]:
    """Cut blank cells behind the table off, and fill a short row up to its width."""
    kept = list(cells)
    while len(kept) > width and not kept[-1].strip():
        kept.pop()
    return kept + [""] * (width - len(kept))
