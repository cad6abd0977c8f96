"""Why a whole file was not imported, as opposed to a row of it."""

from typing import Final

from kernel.errors import YinyomError

_REMEDIES: Final = {
    "encoding": "Declare the encoding (--encoding utf-8, cp874 or big5) and try again.",
    "header": "The first row must name the columns; map foreign names with --map.",
    "duplicate_column": "Remove or rename one of the two columns, or leave one out with --map.",
    "no_identifier_column": "Bring a phone, e-mail, LINE id or national id column, or --map one.",
    "declaration": "Correct the declaration; docs/formats/import.md lists what may be declared.",
    "unclosed_quote": "Close the quotation mark, or export the file anew: it may be cut short.",
    "row_too_long": "Look for a missing closing quotation mark near that row.",
    "too_many_rows": "Split the file.",
    "empty": "Export the file again; it has no header row.",
    "not_csv": "Save it as CSV UTF-8 and import that.",
    "spreadsheet": "Open it, save it anew as XLSX or as CSV UTF-8, and import that.",
    "several_sheets": "Keep the sheet with the members and delete the others.",
    "changed": "Import a copy that nothing else writes to.",
}


class ImportFileError(YinyomError):
    """The file as a whole cannot be read safely; no row of it was judged.

    `reason` is one of the keys above. Places are given by row and column number: a file without
    a header row has personal data where the column names should be.
    """

    slug = "import-file"
    status = 422
    title = "The file cannot be imported"
    exit_code = 1

    def __init__(self, detail: str, *, reason: str) -> None:
        super().__init__(detail, reason=reason, remedy=f"Nothing was imported. {_REMEDIES[reason]}")
