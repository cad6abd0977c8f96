"""Where wrapped keys and blind-index tags rest."""

from sqlalchemy import BigInteger, Column, Index, Integer, LargeBinary, Table, Text

from kernel import metadata

vault_bucket = Table(
    "vault_bucket",
    metadata,
    Column("bucket", Integer, primary_key=True, autoincrement=False),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("ring_version", Integer, nullable=False),
    Column("wrapped", LargeBinary, nullable=False),
)

vault_key = Table(
    "vault_key",
    metadata,
    Column("owner_id", Text, primary_key=True),
    Column("kind", Text, primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("bucket", Integer, nullable=False),
    Column("bucket_version", Integer, nullable=False),
    Column("wrapped", LargeBinary, nullable=False),
    Column("destroy_after_us", BigInteger),
    sqlite_with_rowid=False,
)
Index(
    "ix_vault_key_destroy_after",
    vault_key.c.destroy_after_us,
    postgresql_where=vault_key.c.destroy_after_us.is_not(None),
    sqlite_where=vault_key.c.destroy_after_us.is_not(None),
)

vault_tag = Table(
    "vault_tag",
    metadata,
    Column("kind", Text, primary_key=True),
    Column("tag", LargeBinary, primary_key=True),
    Column("owner_id", Text, primary_key=True),
    Column("field", Text, primary_key=True),
    Column("index_version", Integer, nullable=False),
    sqlite_with_rowid=False,
)
Index("ix_vault_tag_owner", vault_tag.c.owner_id)
