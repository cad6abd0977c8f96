"""Members, their pairwise ids and contact points; imports; findings, duplicates and merges."""

from sqlalchemy import BigInteger, Column, Index, Integer, LargeBinary, Table, Text, and_, text

from kernel import GOVERNED, metadata

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
    info=GOVERNED,
)

pairwise_id = Table(
    "pairwise_id",
    metadata,
    Column("id", Text, primary_key=True),
    Column("client_id", Text, nullable=False),
    Column("member_id", Text, nullable=False),
    Column("created_us", BigInteger, nullable=False),
    Column("made_for", Text),
    sqlite_with_rowid=False,
    info=GOVERNED,
)
# An id that came with a merge names the survivor beside the survivor's own; `made_for` is whom it
# named before.
Index(
    "uq_pairwise_id_client_member",
    pairwise_id.c.client_id,
    pairwise_id.c.member_id,
    unique=True,
    postgresql_where=text("made_for IS NULL"),
    sqlite_where=text("made_for IS NULL"),
)
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
    info=GOVERNED,
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
    # When what was set aside ends, and when it has: the import's key is destroyed then.
    Column("expires_us", BigInteger),
    Column("ended_us", BigInteger),
    info=GOVERNED,
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
    info=GOVERNED,
)
Index("ix_import_row_tag", import_row.c.import_id, import_row.c.row_tag)
Index("ix_import_row_member", import_row.c.member_id)

_set_aside = and_(import_row.c.outcome == "quarantined", import_row.c.cell.is_not(None))
Index(
    "ix_import_row_set_aside",
    import_row.c.import_id,
    sqlite_where=_set_aside,
    postgresql_where=_set_aside,
)

# By whom a row that was set aside may be: keyed, so that an erasure finds what it can.
import_mark = Table(
    "import_mark",
    metadata,
    Column("import_id", Text, primary_key=True),
    Column("row_no", Integer, primary_key=True, autoincrement=False),
    Column("mark", LargeBinary, primary_key=True),
)
Index("ix_import_mark_mark", import_mark.c.mark)

import_upload = Table(
    "import_upload",
    metadata,
    Column("import_id", Text, primary_key=True),
    Column("rows", Integer, nullable=False),
    Column("parts", Integer, nullable=False),
    Column("declared", LargeBinary),
    Column("failure", Text),
    Column("created_us", BigInteger, nullable=False),
    info=GOVERNED,
)

import_part = Table(
    "import_part",
    metadata,
    Column("import_id", Text, primary_key=True),
    Column("part", Integer, primary_key=True, autoincrement=False),
    Column("cell", LargeBinary, nullable=False),
)

note_finding = Table(
    "note_finding",
    metadata,
    Column("id", Text, primary_key=True),
    Column("member_id", Text, nullable=False),
    Column("field", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("start_at", Integer, nullable=False),
    Column("end_at", Integer, nullable=False),
    Column("score", Integer, nullable=False),
    Column("recogniser", Text, nullable=False),
    Column("found_us", BigInteger, nullable=False),
    info=GOVERNED,
)
Index("ix_note_finding_member", note_finding.c.member_id)
Index("ix_note_finding_kind", note_finding.c.kind, note_finding.c.member_id)

duplicate = Table(
    "duplicate",
    metadata,
    Column("id", Text, primary_key=True),
    Column("brand", Text, nullable=False),
    Column("first_id", Text, nullable=False),
    Column("second_id", Text, nullable=False),
    Column("score", Integer, nullable=False),
    Column("reasons", LargeBinary, nullable=False),
    Column("state", Text, nullable=False),
    Column("merge_id", Text),
    Column("created_us", BigInteger, nullable=False),
    Column("decided_us", BigInteger),
    Column("decided_by", Text),
    info=GOVERNED,
)
Index("uq_duplicate_pair", duplicate.c.first_id, duplicate.c.second_id, unique=True)
Index("ix_duplicate_second", duplicate.c.second_id)
Index("ix_duplicate_queue", duplicate.c.brand, duplicate.c.state, duplicate.c.id)

member_merge = Table(
    "member_merge",
    metadata,
    Column("id", Text, primary_key=True),
    Column("brand", Text, nullable=False),
    Column("survivor_id", Text, nullable=False),
    Column("merged_id", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("survivor_cell", LargeBinary),
    Column("merged_cell", LargeBinary),
    Column("merged_us", BigInteger, nullable=False),
    Column("undo_until_us", BigInteger, nullable=False),
    Column("undone_us", BigInteger),
    info=GOVERNED,
)
Index("ix_member_merge_survivor", member_merge.c.survivor_id)
Index("ix_member_merge_merged", member_merge.c.merged_id)
