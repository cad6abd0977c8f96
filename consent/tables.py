"""Notices, consent events, their present state, and the member gate."""

from sqlalchemy import BigInteger, Column, Index, Integer, LargeBinary, Table, Text

from kernel import GOVERNED, metadata

member_gate = Table(
    "member_gate",
    metadata,
    Column("member_id", Text, primary_key=True),
    Column("version", Integer, nullable=False),
    Column("state", Text, nullable=False),
    Column("age_tier", Text, nullable=False),
    sqlite_with_rowid=False,
    info=GOVERNED,
)

notice = Table(
    "notice",
    metadata,
    Column("revision", Text, primary_key=True),
    Column("key", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("lang", Text, nullable=False),
    Column("text", Text, nullable=False),
    Column("effective_from_us", BigInteger, nullable=False),
    info=GOVERNED,
)

consent_event = Table(
    "consent_event",
    metadata,
    Column("id", Text, primary_key=True),
    Column("member_id", Text, nullable=False),
    Column("purpose", Text, nullable=False),
    Column("channel", Text, nullable=False),
    Column("decision", Text, nullable=False),
    Column("notice_revision", Text),
    Column("lang", Text),
    Column("evidence", LargeBinary, nullable=False),
    Column("recorded_by", Text, nullable=False),
    Column("at_us", BigInteger, nullable=False),
    Column("audit_id", Text, nullable=False),
    Column("guardian_id", Text),
    Column("joint_with", Text),
    info=GOVERNED,
)
Index("ix_consent_event_member", consent_event.c.member_id, consent_event.c.at_us)

consent_state = Table(
    "consent_state",
    metadata,
    Column("member_id", Text, primary_key=True),
    Column("purpose", Text, primary_key=True),
    Column("channel", Text, primary_key=True),
    Column("status", Text, nullable=False),
    Column("event_id", Text, nullable=False),
    Column("notice_revision", Text),
    Column("since_us", BigInteger, nullable=False),
    Column("guardian_id", Text),
    sqlite_with_rowid=False,
    info=GOVERNED,
)

# Who may decide for, or with, a minor. The contact of a guardian who is no member is a cell
# under the minor's key, so that it goes with the minor.
guardian = Table(
    "guardian",
    metadata,
    Column("id", Text, primary_key=True),
    Column("member_id", Text, nullable=False),
    Column("relation", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("guardian_member_id", Text),
    Column("contact_point_id", Text),
    Column("cells", LargeBinary),
    Column("code_mac", LargeBinary),
    Column("attempts", Integer, nullable=False),
    Column("expires_us", BigInteger, nullable=False),
    Column("proven_us", BigInteger),
    Column("ended_us", BigInteger),
    Column("recorded_by", Text, nullable=False),
    Column("created_us", BigInteger, nullable=False),
    info=GOVERNED,
)
Index("ix_guardian_member", guardian.c.member_id)
Index("ix_guardian_guardian_member", guardian.c.guardian_member_id)

# An address whose holder objected, by keyed tag alone: it outlives the member (PDPA s.32).
suppression = Table(
    "suppression",
    metadata,
    Column("tag", LargeBinary, primary_key=True),
    Column("purpose", Text, primary_key=True),
    Column("channel", Text, primary_key=True),
    Column("since_us", BigInteger, nullable=False),
    sqlite_with_rowid=False,
    info=GOVERNED,
)
