"""Imports of member files: declare, survey, read, judge, hand back what needs mending.

Nothing here touches the database; storing what was judged is the service's work.
"""

from members.importing.columns import FIELD_KINDS, IDENTIFIERS
from members.importing.encoding import CODECS
from members.importing.error_file import FaultyRow, error_file, escaped
from members.importing.errors import ImportFileError
from members.importing.judging import JudgedRow, Outcome, judge_row, row_digest
from members.importing.profile import PROFILES, Profile
from members.importing.reading import RawRow, Source, Survey, read_rows, survey

__all__ = [
    "CODECS",
    "FIELD_KINDS",
    "IDENTIFIERS",
    "PROFILES",
    "FaultyRow",
    "ImportFileError",
    "JudgedRow",
    "Outcome",
    "Profile",
    "RawRow",
    "Source",
    "Survey",
    "error_file",
    "escaped",
    "judge_row",
    "read_rows",
    "row_digest",
    "survey",
]
