"""Where wrapped keys and blind-index tags rest."""

from sqlalchemy import BigInteger, Column, Index, Integer, LargeBinary, Table, Text

from kernel import GOVERNED, metadata

vault_bucket = Table(
    "vault_bucket",
    metadata,
    Column("bucket", Integer, primary_key=True, autoincrement=False),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("ring_version", Integer, nullable=False),
    Column("wrapped", LargeBinary, nullable=False),
    info=GOVERNED,
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
    info=GOVERNED,
)
Index(
    "ix_vault_key_destroy_after",
    vault_key.c.destroy_after_us,
    postgresql_where=vault_key.c.destroy_after_us.is_not(None),
    sqlite_where=vault_key.c.destroy_after_us.is_not(None),
)

Index(
    "ix_vault_key_bucket",
    vault_key.c.bucket,
    vault_key.c.owner_id,
    vault_key.c.kind,
    vault_key.c.version,
)

vault_ring = Table(
    "vault_ring",
    metadata,
    Column("name", Text, primary_key=True),
    Column("newest", Integer, nullable=False),
    Column("oldest", Integer, nullable=False),
)

vault_destroyed = Table(
    "vault_destroyed",
    metadata,
    Column("id", Text, primary_key=True),
    Column("bucket", Integer, nullable=False),
    Column("keys", Integer, nullable=False),
)

vault_rekey = Table(
    "vault_rekey",
    metadata,
    Column("bucket", Integer, primary_key=True, autoincrement=False),
    Column("above", Integer, nullable=False),
)

vault_rotation = Table(
    "vault_rotation",
    metadata,
    Column("id", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("began_us", BigInteger, nullable=False),
    Column("ended_us", BigInteger),
    Column("buckets", Integer, nullable=False),
    Column("erasures", Integer, nullable=False),
    Column("moved", BigInteger, nullable=False),
    Column("oldest_root", Integer, nullable=False),
    Column("newest_root", Integer, nullable=False),
)
Index(
    "uq_vault_rotation_open",
    vault_rotation.c.kind,
    unique=True,
    postgresql_where=vault_rotation.c.ended_us.is_(None),
    sqlite_where=vault_rotation.c.ended_us.is_(None),
)

# Owners who were given a key that is in no ring backup yet; a row each time.
vault_unbacked = Table(
    "vault_unbacked",
    metadata,
    Column("id", Text, primary_key=True),
    Column("owner_id", Text, nullable=False),
    sqlite_with_rowid=False,
)

vault_tag = Table(
    "vault_tag",
    metadata,
    Column("kind", Text, primary_key=True),
    Column("tag", LargeBinary, primary_key=True),
    Column("owner_id", Text, primary_key=True),
    Column("field", Text, primary_key=True),
    Column("index_version", Integer, nullable=False),
    Column("suppression", LargeBinary, nullable=False),
    sqlite_with_rowid=False,
)
Index("ix_vault_tag_owner", vault_tag.c.owner_id)

vault_index = Table(
    "vault_index",
    metadata,
    Column("kind", Text, primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("form", Integer, nullable=False),
    Column("hardened", Integer, nullable=False),
    Column("state", Text, nullable=False),
    Column("cursor", Text, nullable=False),
    Column("done", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)
