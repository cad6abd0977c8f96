"""Staff accounts, their sessions in the console, and what waits for a second person."""

from sqlalchemy import BigInteger, Column, Index, LargeBinary, Table, Text

from kernel import GOVERNED, metadata

staff = Table(
    "staff",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("brand", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("person", Text),
    Column("state", Text, nullable=False),
    Column("password", Text, nullable=False),
    # Set while the password is a one-time one; it opens nothing after this moment.
    Column("once_until_us", BigInteger),
    Column("language", Text),
    Column("created_us", BigInteger, nullable=False),
    Column("signed_in_us", BigInteger),
    info=GOVERNED,
)

staff_session = Table(
    "staff_session",
    metadata,
    Column("token_hash", LargeBinary, primary_key=True),
    Column("staff_id", Text, nullable=False),
    Column("note", Text),
    Column("seen_us", BigInteger, nullable=False),
    Column("expires_us", BigInteger, nullable=False),
)
Index("ix_staff_session_staff", staff_session.c.staff_id)
Index("ix_staff_session_expires", staff_session.c.expires_us)

approval = Table(
    "approval",
    metadata,
    Column("id", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("brand", Text, nullable=False),
    Column("about", Text, nullable=False),
    Column("request_hash", LargeBinary, nullable=False),
    Column("requested_by", Text, nullable=False),
    Column("requested_us", BigInteger, nullable=False),
    Column("expires_us", BigInteger, nullable=False),
    Column("state", Text, nullable=False),
    Column("decided_by", Text),
    Column("decided_us", BigInteger),
    info=GOVERNED,
)
Index("ix_approval_request", approval.c.kind, approval.c.request_hash)
Index("ix_approval_state", approval.c.state, approval.c.id)
