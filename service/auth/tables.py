"""Clients, their access tokens, and the sessions of members in the portal."""

from sqlalchemy import BigInteger, Column, Index, LargeBinary, Table, Text

from kernel import GOVERNED, metadata

client = Table(
    "client",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("brand", Text, nullable=False),
    Column("secret_hash", LargeBinary, nullable=False),
    Column("scopes", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("created_us", BigInteger, nullable=False),
    Column("agent_key", LargeBinary),
    # Who of the staff alone holds the secret, where it counts as somebody's own yes.
    Column("person", Text),
    # How many distinct members it may read in a day, where that is not the setting.
    Column("members_a_day", BigInteger),
    info=GOVERNED,
)
Index(
    "uq_client_brand_name",
    client.c.brand,
    client.c.name,
    unique=True,
    postgresql_where=client.c.state == "active",
    sqlite_where=client.c.state == "active",
)

access_token = Table(
    "access_token",
    metadata,
    Column("token_hash", LargeBinary, primary_key=True),
    Column("client_id", Text, nullable=False),
    Column("scopes", Text, nullable=False),
    Column("expires_us", BigInteger, nullable=False),
)
Index("ix_access_token_client", access_token.c.client_id)
Index("ix_access_token_expires", access_token.c.expires_us)

portal_session = Table(
    "portal_session",
    metadata,
    Column("token_hash", LargeBinary, primary_key=True),
    Column("state", Text, nullable=False),
    Column("member_id", Text),
    Column("contact_point_id", Text),
    Column("note", Text),
    Column("expires_us", BigInteger, nullable=False),
    # What a fresh code was answered for in this very browser, and when.
    Column("proven_for", Text),
    Column("proven_us", BigInteger),
)
Index("ix_portal_session_member", portal_session.c.member_id)
