"""What was shipped to the backup store, and which backups were made."""

from sqlalchemy import BigInteger, Column, LargeBinary, Table, Text

from kernel import metadata

backup_progress = Table(
    "backup_progress",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", BigInteger, nullable=False),
)

backup_set = Table(
    "backup_set",
    metadata,
    Column("generation", BigInteger, primary_key=True, autoincrement=False),
    Column("id", Text, nullable=False),
    Column("created_us", BigInteger, nullable=False),
    Column("verified_us", BigInteger),
    Column("manifest_sha256", LargeBinary, nullable=False),
    Column("stored_bytes", BigInteger, nullable=False),
    Column("row_count", BigInteger, nullable=False),
)
