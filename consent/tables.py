"""Notices, consent events, their present state, and the member gate."""

from sqlalchemy import BigInteger, Column, Index, Integer, LargeBinary, Table, Text

from kernel import metadata

member_gate = Table(
    "member_gate",
    metadata,
    Column("member_id", Text, primary_key=True),
    Column("version", Integer, nullable=False),
    Column("state", Text, nullable=False),
    Column("age_tier", Text, nullable=False),
    sqlite_with_rowid=False,
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
    sqlite_with_rowid=False,
)
