"""Rights requests, the exports made for them, and restrictions of processing."""

from sqlalchemy import BigInteger, Column, Index, Integer, LargeBinary, Table, Text

from kernel import GOVERNED, metadata

rights_request = Table(
    "rights_request",
    metadata,
    Column("id", Text, primary_key=True),
    Column("member_id", Text),
    Column("brand", Text, nullable=False),
    Column("jurisdiction", Text, nullable=False),
    Column("right_key", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("via", Text, nullable=False),
    Column("opened_by", Text, nullable=False),
    Column("details", LargeBinary, nullable=False),
    Column("corrections", LargeBinary),
    Column("received_us", BigInteger, nullable=False),
    Column("verified_us", BigInteger),
    Column("verified_by", Text),
    Column("stepped_up_us", BigInteger),
    Column("paused_us", BigInteger),
    Column("paused_days", Integer, nullable=False),
    Column("extended_us", BigInteger),
    Column("extension_reason", Text),
    Column("safe_due", Text, nullable=False),
    Column("legal_due", Text, nullable=False),
    Column("target", Text, nullable=False),
    Column("acknowledge_due", Text),
    Column("alarm_us", BigInteger, nullable=False),
    Column("flagged", Text),
    Column("decided_us", BigInteger),
    Column("decided_by", Text),
    Column("proposed_us", BigInteger),
    Column("proposed_by", Text),
    Column("reason", Text),
    Column("law", Text),
    Column("audit_id", Text),
    Column("results", LargeBinary, nullable=False),
    Column("outcome", LargeBinary, nullable=False),
    Column("version", Integer, nullable=False),
    info=GOVERNED,
)
Index("ix_rights_request_member", rights_request.c.member_id)
Index("ix_rights_request_state", rights_request.c.state, rights_request.c.alarm_us)

rights_export = Table(
    "rights_export",
    metadata,
    Column("request_id", Text, primary_key=True),
    Column("member_id", Text, nullable=False),
    Column("wrapped_key", LargeBinary, nullable=False),
    Column("sealed", LargeBinary, nullable=False),
    Column("created_us", BigInteger, nullable=False),
    Column("expires_us", BigInteger, nullable=False),
    info=GOVERNED,
)
Index("ix_rights_export_member", rights_export.c.member_id)

restriction = Table(
    "restriction",
    metadata,
    Column("id", Text, primary_key=True),
    Column("member_id", Text),
    Column("brand", Text, nullable=False),
    Column("ground", Text, nullable=False),
    Column("request_id", Text),
    Column("begun_us", BigInteger, nullable=False),
    Column("until_us", BigInteger),
    Column("ended_us", BigInteger),
    info=GOVERNED,
)
Index("ix_restriction_member", restriction.c.member_id)
