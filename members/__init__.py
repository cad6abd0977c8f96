"""Members: identity, contact points, validation, import. Finds members, never opens a cell."""

from members.age import AgeTiers
from members.contact import CODE_WANTED, ContactPoints
from members.errors import (
    CodeRefusedError,
    ContactPointNotFoundError,
    MemberDataError,
    MemberNotFoundError,
)
from members.importing import PROFILES, ImportFileError, Profile
from members.imports import ImportReport, Imports
from members.normalise import DATE_ERAS, Formats
from members.participants import Erased, EraseParticipant, Forgotten
from members.registration import Prepared, formats, prepare
from members.repository import ContactPoint, MemberRow, Provenance, count_members
from members.service import Duplicate, Found, Members, Registered
from members.sources import MEMBER_TABLE, member_source, pairwise_is

__all__ = [
    "CODE_WANTED",
    "DATE_ERAS",
    "MEMBER_TABLE",
    "PROFILES",
    "AgeTiers",
    "CodeRefusedError",
    "ContactPoint",
    "ContactPointNotFoundError",
    "ContactPoints",
    "Duplicate",
    "EraseParticipant",
    "Erased",
    "Forgotten",
    "Formats",
    "Found",
    "ImportFileError",
    "ImportReport",
    "Imports",
    "MemberDataError",
    "MemberNotFoundError",
    "MemberRow",
    "Members",
    "Prepared",
    "Profile",
    "Provenance",
    "Registered",
    "count_members",
    "formats",
    "member_source",
    "pairwise_is",
    "prepare",
]
