"""Claims that wait for their code."""

from sqlalchemy import BigInteger, Column, Index, Integer, LargeBinary, Table, Text

from kernel import metadata

contact_claim = Table(
    "contact_claim",
    metadata,
    Column("id", Text, primary_key=True),
    Column("member_id", Text, unique=True),
    Column("kind", Text, nullable=False),
    Column("slot", Text),
    Column("sealed", LargeBinary, nullable=False),
    Column("contact_digest", LargeBinary, nullable=False),
    Column("code_mac", LargeBinary),
    Column("attempts", Integer, nullable=False),
    Column("code_expires_us", BigInteger),
    Column("expires_us", BigInteger, nullable=False),
)
Index("ix_contact_claim_expires", contact_claim.c.expires_us)
