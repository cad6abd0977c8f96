"""Reading a file of members, CSV or XLSX, row by row, in bounded memory, without losing one.

The file is surveyed first (encoding, header, every row's shape, digest) and read second, so that
a file that is damaged as a whole is refused before its first row has been judged. A row that is
damaged by itself becomes a row with a fault. Against a hostile file: no field, row or file may
grow past its limit, and a quotation mark that never closes cannot swallow the rest unnoticed.
"""

import csv
import hashlib
import io
import re
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final

from members.importing.columns import (
    ERRORS_COLUMN,
    ROW_COLUMN,
    map_columns,
    recognise,
    recognise_beyond_ascii,
)
from members.importing.encoding import decide_encoding
from members.importing.errors import ImportFileError
from members.importing.profile import Profile
from members.importing.spreadsheet import CODEC, FORMULA, is_spreadsheet, sheet_records

Source = Path | BinaryIO
"""A file on disk, or an open seekable binary stream (an upload held in memory)."""

STRUCTURE_FAULTS: Final = frozenset({"columns", "quotes", "nul", FORMULA})
"""Faults that make a row unreadable as a whole: see `RawRow.fault`."""

_DELIMITERS: Final = ",;\t|"
_HEAD_CHARS: Final = 1 << 16
_Record = tuple[list[str], str | None]
_ESCAPED = re.compile("'+[=+\\-@\t\r\n＝＋－＠]")


@dataclass(frozen=True, slots=True)
class Survey:
    """What a whole file turned out to be.

    `fields` gives each column's field or `None`; `unknown` names the columns that are not
    imported because nobody knows them; `rows` counts data rows; `sha256` is over the raw bytes
    and, with the row number, identifies a row for a retry.
    """

    codec: str
    delimiter: str
    header: tuple[str, ...]
    fields: tuple[str | None, ...]
    unknown: tuple[str, ...]
    rows: int
    sha256: str

    @property
    def is_error_file(self) -> bool:
        """Whether this is one of our own error files, mended and sent again."""
        return ROW_COLUMN in self.header and ERRORS_COLUMN in self.header


@dataclass(frozen=True, slots=True)
class RawRow:
    """One data row as it stood in the file; `row_no` counts data rows from 1.

    `values` holds the cells of known columns by field and is empty when `fault` is set:
    `columns` (more or fewer cells than the header), `quotes` (misplaced quotation marks; `raw`
    is then the text of the row in one cell), `nul` (a zero byte) or `formula` (of a spreadsheet).
    """

    row_no: int
    values: Mapping[str, str] = field(repr=False)
    raw: list[str] = field(repr=False)
    fault: str | None = None


def survey(source: Source, profile: Profile) -> Survey:
    """Look through the whole file and say what it is.

    Raises `ImportFileError` when the file cannot be read safely as a whole; `reason` says why.
    """
    profile.check()
    with _opened(source) as stream:
        digest = _sha256(stream)
        codec, delimiter = _kind(stream, profile)
        with closing(_records(stream, codec, delimiter, profile)) as records:
            header = _header(records)
            fields, unknown = map_columns(header, profile.columns)
            rows = 0
            for _ in records:
                rows += 1
                if rows > profile.max_rows:
                    raise ImportFileError(
                        f"it has more than {profile.max_rows} rows", reason="too_many_rows"
                    )
    return Survey(codec, delimiter, tuple(header), fields, unknown, rows, digest)


def read_rows(source: Source, profile: Profile, surveyed: Survey | None = None) -> Iterator[RawRow]:
    """Yield every data row in file order; as many as `Survey.rows`.

    Pass the survey when there is one already. Raises `ImportFileError`: before the first row for
    a file that cannot be read, after the last (`changed`) when the file was written to meanwhile.
    """
    found = surveyed or survey(source, profile)
    known = [(index, key) for index, key in enumerate(found.fields) if key is not None]
    width = len(found.header)
    restore = found.is_error_file
    marker = found.header.index(ERRORS_COLUMN) if restore else -1
    row_no = 0
    with (
        _opened(source) as stream,
        closing(_records(stream, found.codec, found.delimiter, profile)) as records,
    ):
        next(records, None)
        for cells, damage in records:
            row_no += 1
            fault = damage or (None if len(cells) == width else "columns")
            if restore and fault != "quotes":
                cells = [_restored(cell) for cell in cells]  # noqa: PLW2901 - the same cells
                fault = fault or _unmended(cells[marker])
            values = {} if fault else {key: cells[index] for index, key in known}
            yield RawRow(row_no, values, cells, fault)
        if row_no != found.rows or _sha256(stream) != found.sha256:
            raise ImportFileError("the file changed while it was read", reason="changed")


def _kind(stream: BinaryIO, profile: Profile) -> tuple[str, str]:
    """Give codec and delimiter of a file; a spreadsheet has no delimiter."""
    if is_spreadsheet(stream):
        return CODEC, ""
    codec = decide_encoding(stream, profile.encoding, _names_columns_beyond_ascii)
    return codec, profile.delimiter or _delimiter(_head(stream, codec))


def _header(records: Iterator[_Record]) -> list[str]:
    cells, damage = next(records, ([], None))
    if not cells:
        raise ImportFileError("there is no row in it", reason="empty")
    if damage == "nul":
        raise ImportFileError("the header row has zero bytes, as UTF-16 would", reason="encoding")
    if damage is not None:
        what = "a formula" if damage == FORMULA else "misplaced quotation marks"
        raise ImportFileError(f"the header row has {what}", reason="header")
    return cells


def _unmended(errors: str) -> str | None:
    """Return the structural fault an error file still reports for a row, if any.

    Such a row was padded to the width of its table, so its width proves nothing any more; it
    counts as mended once somebody has emptied the cell.
    """
    for issue in errors.split("; "):
        place, _, code = issue.partition(".")
        if place == "row" and code in STRUCTURE_FAULTS:
            return code
    return None


def _restored(cell: str) -> str:
    return cell[1:] if _ESCAPED.match(cell) is not None else cell


@contextmanager
def _opened(source: Source) -> Iterator[BinaryIO]:
    if isinstance(source, Path):
        with source.open("rb") as stream:
            yield stream
    else:
        yield source


def _sha256(stream: BinaryIO) -> str:
    stream.seek(0)
    digest = hashlib.sha256()
    while chunk := stream.read(1 << 20):
        digest.update(chunk)
    return digest.hexdigest()


def _head(stream: BinaryIO, codec: str) -> str:
    with _decoded(stream, codec) as text:
        return text.read(_HEAD_CHARS)


@contextmanager
def _decoded(stream: BinaryIO, codec: str) -> Iterator[io.TextIOWrapper]:
    stream.seek(0)
    text = io.TextIOWrapper(stream, encoding=codec, errors="strict", newline="")
    try:
        yield text
    finally:
        text.detach()


def _header_cells(head: str, delimiter: str) -> list[str]:
    """Return the cells of the first row that has any, as one delimiter would cut it."""
    rows = csv.reader(io.StringIO(head, newline=""), delimiter=delimiter)
    return next((cells for cells in rows if any(cells)), [])


def _delimiter(head: str) -> str:
    """Return the delimiter under which the header row names most columns; a comma in doubt."""
    return max(_DELIMITERS, key=lambda delimiter: recognise(_header_cells(head, delimiter)))


def _names_columns_beyond_ascii(head: str) -> bool:
    return any(recognise_beyond_ascii(_header_cells(head, each)) for each in _DELIMITERS)


class _Lines:
    """Feeds lines to the CSV parser and remembers those of the row it is reading."""

    def __init__(self, text: io.TextIOWrapper, max_chars: int) -> None:
        self._text = text
        self._max_chars = max_chars
        self._chars = 0
        self.row: list[str] = []
        self.exhausted = False

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._text.readline(self._max_chars + 1)
        if not line:
            self.exhausted = True
            raise StopIteration
        self._chars += len(line)
        if self._chars > self._max_chars:
            raise _RowTooLongError
        self.row.append(line)
        return line

    def begin_row(self) -> None:
        self.row = []
        self._chars = 0


class _RowTooLongError(Exception):
    """A row grew past the limit; becomes an `ImportFileError` where its number is known."""


def _records(
    stream: BinaryIO, codec: str, delimiter: str, profile: Profile
) -> Generator[_Record, None, None]:
    """Yield the cells of every row that is not blank, the header included, and its damage."""
    if codec == CODEC:
        yield from sheet_records(stream, profile)
        return
    with _decoded(stream, codec) as text:
        lines = _Lines(text, profile.max_row_chars)
        parser = csv.reader(lines, delimiter=delimiter, strict=True)
        row_no = 0
        while True:
            lines.begin_row()
            try:
                cells = next(parser)
                damage = None
            except StopIteration:
                return
            except csv.Error:
                if lines.exhausted:
                    raise ImportFileError(
                        f"the quotation mark opened in {_place(row_no)} never closes",
                        reason="unclosed_quote",
                    ) from None
                cells, damage = ["".join(lines.row).rstrip("\r\n")], "quotes"
            except UnicodeError:  # the survey decoded it all
                raise ImportFileError(
                    "the file changed while it was read", reason="changed"
                ) from None
            except _RowTooLongError:
                raise ImportFileError(
                    f"{_place(row_no)} is longer than {profile.max_row_chars} characters",
                    reason="row_too_long",
                ) from None
            if _is_blank_line(cells):
                continue
            if damage is None and any("\0" in line for line in lines.row):
                damage = "nul"
            row_no += 1
            yield cells, damage


def _place(row_no: int) -> str:
    return f"data row {row_no}" if row_no else "the header row"


def _is_blank_line(cells: Sequence[str]) -> bool:
    return not cells or (len(cells) == 1 and not cells[0].strip())
