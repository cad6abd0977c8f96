"""Policies: what the registry may know, why, for how long, and who may see it.

The policy pack (purposes, field catalogue, notices, jurisdictions, retention, roles) is loaded
whole or not at all; access rules are compiled into a snapshot. Pure: no database, no clock.
"""

from policies.access import AccessSnapshot, access_enforcer, compile_access
from policies.errors import Finding, PackError
from policies.grants import FIELD_ACTIONS, RESOURCE_ACTIONS, VIEW, VIEW_MASKED
from policies.jurisdictions import age_tier, completed_years, lawful_basis, period_end
from policies.loader import check, load_pack
from policies.masking import mask
from policies.model import (
    AgeTier,
    BasisKind,
    CatalogueField,
    Category,
    Channel,
    ChannelRule,
    ContactKind,
    Evidence,
    Fact,
    FieldKey,
    FieldKind,
    FieldOmission,
    IndexKind,
    Jurisdiction,
    JurisdictionCode,
    LawfulBasis,
    LocalText,
    MaskRule,
    MinorTier,
    Notice,
    NoticeKey,
    NoticeRevision,
    PolicyPack,
    Purpose,
    PurposeKey,
    RetentionClass,
    RetentionClassKey,
    Status,
    Storage,
)
from policies.notices import check_succession
from policies.publication import public_purpose, public_purposes
from policies.scopes import SCOPE_GRANTS, Scopes, parse_scopes, scope_grammar

__all__ = [
    "FIELD_ACTIONS",
    "RESOURCE_ACTIONS",
    "SCOPE_GRANTS",
    "VIEW",
    "VIEW_MASKED",
    "AccessSnapshot",
    "AgeTier",
    "BasisKind",
    "CatalogueField",
    "Category",
    "Channel",
    "ChannelRule",
    "ContactKind",
    "Evidence",
    "Fact",
    "FieldKey",
    "FieldKind",
    "FieldOmission",
    "Finding",
    "IndexKind",
    "Jurisdiction",
    "JurisdictionCode",
    "LawfulBasis",
    "LocalText",
    "MaskRule",
    "MinorTier",
    "Notice",
    "NoticeKey",
    "NoticeRevision",
    "PackError",
    "PolicyPack",
    "Purpose",
    "PurposeKey",
    "RetentionClass",
    "RetentionClassKey",
    "Scopes",
    "Status",
    "Storage",
    "access_enforcer",
    "age_tier",
    "check",
    "check_succession",
    "compile_access",
    "completed_years",
    "lawful_basis",
    "load_pack",
    "mask",
    "parse_scopes",
    "period_end",
    "public_purpose",
    "public_purposes",
    "scope_grammar",
]
