"""The file a person gets back: the rows that need mending, why, and nothing else changed.

It opens in a spreadsheet, where a cell that begins like a formula would be executed (CSV
injection); such cells get an apostrophe in front, which the reader takes off again. Error files
hold personal data: whoever stores one seals it, lets it expire and records who fetched it.
"""

import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence

from members.importing.columns import ERRORS_COLUMN, ROW_COLUMN

_FORMULA = re.compile("'*[=+\\-@\t\r\n＝＋－＠]")
_E164 = re.compile(r"\+[0-9]{7,15}")
_OURS = frozenset({ROW_COLUMN, ERRORS_COLUMN})

FaultyRow = tuple[int, Sequence[str], Sequence[tuple[str, str]]]
"""Row number, raw cells, issues: what `error_file` needs to know of a row."""


def error_file(header: Sequence[str], rows: Iterable[FaultyRow]) -> Iterator[bytes]:
    """Yield a CSV file (UTF-8 with byte order mark) in pieces of one row.

    Same columns in the same order, then `_row` and `_errors`. A row with fewer cells than the
    header is filled up; surplus cells follow behind `_errors`, so that none is dropped.
    """
    own = [index for index, name in enumerate(header) if name not in _OURS]
    earlier = set(range(len(header))).difference(own)
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\r\n")

    def written(cells: Iterable[str]) -> bytes:
        writer.writerow([escaped(cell) for cell in cells])
        line = buffer.getvalue().encode()
        buffer.seek(0)
        buffer.truncate()
        return line

    yield b"\xef\xbb\xbf" + written([*(header[i] for i in own), ROW_COLUMN, ERRORS_COLUMN])
    for row_no, raw, issues in rows:
        dropped = earlier if len(raw) >= len(header) else ()
        cells = [cell for index, cell in enumerate(raw) if index not in dropped]
        cells += [""] * (len(own) - len(cells))
        reasons = "; ".join(f"{field}.{code}" for field, code in issues)
        yield written([*cells[: len(own)], str(row_no), reasons, *cells[len(own) :]])


def escaped(cell: str) -> str:
    """Return the cell so that no spreadsheet takes it for a formula; plain E.164 stays as it is."""
    if _FORMULA.match(cell) is None or _E164.fullmatch(cell) is not None:
        return cell
    return "'" + cell
