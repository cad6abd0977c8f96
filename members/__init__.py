"""Members: identity, contact points, validation, import. Finds members, never opens a cell."""

from members.age import AgeTiers
from members.answers import Duplicate, Found, Registered
from members.candidates import MATCH_WANTED, Matching, Scanned
from members.contact import CODE_WANTED, ContactPoints, removable
from members.duplicates import Decided, Duplicates
from members.erasure import Erasure
from members.errors import (
    CodeRefusedError,
    ContactPointNotFoundError,
    MemberDataError,
    MemberNotFoundError,
    MergeError,
    MergeUnknownError,
)
from members.finding import find_members
from members.guardian_contacts import MemberContacts
from members.importing import PROFILES, ImportFileError, Profile, escaped
from members.imports import ImportReport, Imports
from members.merging import Merged, Merges
from members.normalise import DATE_ERAS, Formats, search_form
from members.notes import NOTES_WANTED, Findings, Notes
from members.numbers_repository import consent_counts_of
from members.participants import Erased, EraseParticipant, Forgotten, MergeParticipant
from members.parting import Parted, Partings
from members.quarantine import NOT_MATCHABLE
from members.registration import Prepared, formats, prepare
from members.reindex import Reindex
from members.repository import (
    ContactPoint,
    DuplicatePair,
    Finding,
    MemberRow,
    PairState,
    Provenance,
    count_members,
    jurisdiction_of,
    member_ids,
)
from members.service import Members
from members.sources import (
    MEMBER_TABLE,
    first_pairwise,
    member_source,
    named_source,
    pairwise_is,
    pairwise_source,
    registry_source,
)
from members.uploads import IMPORT_WANTED, ImportProgress, Uploads
from members.verifying import Deviating, Deviation, Rows, Verified

__all__ = [
    "CODE_WANTED",
    "DATE_ERAS",
    "IMPORT_WANTED",
    "MATCH_WANTED",
    "MEMBER_TABLE",
    "NOTES_WANTED",
    "NOT_MATCHABLE",
    "PROFILES",
    "AgeTiers",
    "CodeRefusedError",
    "ContactPoint",
    "ContactPointNotFoundError",
    "ContactPoints",
    "Decided",
    "Deviating",
    "Deviation",
    "Duplicate",
    "DuplicatePair",
    "Duplicates",
    "EraseParticipant",
    "Erased",
    "Erasure",
    "Finding",
    "Findings",
    "Forgotten",
    "Formats",
    "Found",
    "ImportFileError",
    "ImportProgress",
    "ImportReport",
    "Imports",
    "Matching",
    "MemberContacts",
    "MemberDataError",
    "MemberNotFoundError",
    "MemberRow",
    "Members",
    "MergeError",
    "MergeParticipant",
    "MergeUnknownError",
    "Merged",
    "Merges",
    "Notes",
    "PairState",
    "Parted",
    "Partings",
    "Prepared",
    "Profile",
    "Provenance",
    "Registered",
    "Reindex",
    "Rows",
    "Scanned",
    "Uploads",
    "Verified",
    "consent_counts_of",
    "count_members",
    "escaped",
    "find_members",
    "first_pairwise",
    "formats",
    "jurisdiction_of",
    "member_ids",
    "member_source",
    "named_source",
    "pairwise_is",
    "pairwise_source",
    "prepare",
    "registry_source",
    "removable",
    "search_form",
]
