"""Members, their pairwise ids and contact points, and what an import did with each row."""

from sqlalchemy import BigInteger, Column, Index, Integer, LargeBinary, Table, Text

from kernel import metadata

member = Table(
    "member",
    metadata,
    Column("id", Text, primary_key=True),
    Column("brand", Text, nullable=False),
    Column("jurisdiction", Text, nullable=False),
    Column("cells", LargeBinary, nullable=False),
    Column("provenance", LargeBinary, nullable=False),
    Column("version", Integer, nullable=False),
    Column("created_us", BigInteger, nullable=False),
    Column("updated_us", BigInteger, nullable=False),
)

pairwise_id = Table(
    "pairwise_id",
    metadata,
    Column("id", Text, primary_key=True),
    Column("client_id", Text, nullable=False),
    Column("member_id", Text, nullable=False),
    Column("created_us", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)
Index("uq_pairwise_id_client_member", pairwise_id.c.client_id, pairwise_id.c.member_id, unique=True)
Index("ix_pairwise_id_member", pairwise_id.c.member_id)

contact_point = Table(
    "contact_point",
    metadata,
    Column("id", Text, primary_key=True),
    Column("member_id", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("field", Text, nullable=False),
    Column("verified_us", BigInteger),
    Column("sign_in_tag", LargeBinary, unique=True),
    Column("created_us", BigInteger, nullable=False),
)
Index("ix_contact_point_member", contact_point.c.member_id)

contact_code = Table(
    "contact_code",
    metadata,
    Column("contact_point_id", Text, primary_key=True),
    Column("code_mac", LargeBinary, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("expires_us", BigInteger, nullable=False),
)

import_run = Table(
    "import_run",
    metadata,
    Column("id", Text, primary_key=True),
    Column("brand", Text, nullable=False),
    Column("file_digest", LargeBinary, nullable=False, unique=True),
    Column("profile", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("created_us", BigInteger, nullable=False),
    Column("finished_us", BigInteger),
)

import_row = Table(
    "import_row",
    metadata,
    Column("import_id", Text, primary_key=True),
    Column("row_no", Integer, primary_key=True, autoincrement=False),
    Column("outcome", Text, nullable=False),
    Column("row_tag", LargeBinary, nullable=False),
    Column("member_id", Text),
    Column("issues", LargeBinary, nullable=False),
    Column("cell", LargeBinary),
)
Index("ix_import_row_tag", import_row.c.import_id, import_row.c.row_tag)
Index("ix_import_row_member", import_row.c.member_id)
