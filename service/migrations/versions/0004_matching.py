"""Members: imports over HTTP, findings in notes, duplicates and merges."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    _let_merged_ids_name_the_survivor()
    _create_tables()


def _let_merged_ids_name_the_survivor() -> None:
    """SQLite adds a column only at the end, behind the key: its table is made anew."""
    op.drop_index("uq_pairwise_id_client_member", table_name="pairwise_id")
    if op.get_bind().dialect.name == "postgresql":
        op.add_column("pairwise_id", sa.Column("made_for", sa.Text(), nullable=True))
    else:
        op.drop_index("ix_pairwise_id_member", table_name="pairwise_id")
        op.rename_table("pairwise_id", "pairwise_id_before")
        op.create_table(
            "pairwise_id",
            sa.Column("id", sa.Text(), nullable=False),
            sa.Column("client_id", sa.Text(), nullable=False),
            sa.Column("member_id", sa.Text(), nullable=False),
            sa.Column("created_us", sa.BigInteger(), nullable=False),
            sa.Column("made_for", sa.Text(), nullable=True),
            sa.PrimaryKeyConstraint("id", name=op.f("pk_pairwise_id")),
            sqlite_with_rowid=False,
        )
        op.execute(
            "INSERT INTO pairwise_id (id, client_id, member_id, created_us) "
            "SELECT id, client_id, member_id, created_us FROM pairwise_id_before"
        )
        op.drop_table("pairwise_id_before")
        op.create_index("ix_pairwise_id_member", "pairwise_id", ["member_id"], unique=False)
    op.create_index(
        "uq_pairwise_id_client_member",
        "pairwise_id",
        ["client_id", "member_id"],
        unique=True,
        postgresql_where=sa.text("made_for IS NULL"),
        sqlite_where=sa.text("made_for IS NULL"),
    )


def _create_tables() -> None:
    op.create_table(
        "import_upload",
        sa.Column("import_id", sa.Text(), nullable=False),
        sa.Column("rows", sa.Integer(), nullable=False),
        sa.Column("parts", sa.Integer(), nullable=False),
        sa.Column("declared", sa.LargeBinary(), nullable=True),
        sa.Column("failure", sa.Text(), nullable=True),
        sa.Column("created_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("import_id", name=op.f("pk_import_upload")),
    )
    op.create_table(
        "import_part",
        sa.Column("import_id", sa.Text(), nullable=False),
        sa.Column("part", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("cell", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("import_id", "part", name=op.f("pk_import_part")),
    )
    op.create_table(
        "note_finding",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("member_id", sa.Text(), nullable=False),
        sa.Column("field", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("start_at", sa.Integer(), nullable=False),
        sa.Column("end_at", sa.Integer(), nullable=False),
        sa.Column("score", sa.Integer(), nullable=False),
        sa.Column("recogniser", sa.Text(), nullable=False),
        sa.Column("found_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_note_finding")),
    )
    op.create_index("ix_note_finding_member", "note_finding", ["member_id"], unique=False)
    op.create_index("ix_note_finding_kind", "note_finding", ["kind", "member_id"], unique=False)
    op.create_table(
        "duplicate",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("brand", sa.Text(), nullable=False),
        sa.Column("first_id", sa.Text(), nullable=False),
        sa.Column("second_id", sa.Text(), nullable=False),
        sa.Column("score", sa.Integer(), nullable=False),
        sa.Column("reasons", sa.LargeBinary(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("merge_id", sa.Text(), nullable=True),
        sa.Column("created_us", sa.BigInteger(), nullable=False),
        sa.Column("decided_us", sa.BigInteger(), nullable=True),
        sa.Column("decided_by", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_duplicate")),
    )
    op.create_index("uq_duplicate_pair", "duplicate", ["first_id", "second_id"], unique=True)
    op.create_index("ix_duplicate_second", "duplicate", ["second_id"], unique=False)
    op.create_index("ix_duplicate_queue", "duplicate", ["brand", "state", "id"], unique=False)
    op.create_table(
        "member_merge",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("brand", sa.Text(), nullable=False),
        sa.Column("survivor_id", sa.Text(), nullable=False),
        sa.Column("merged_id", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("survivor_cell", sa.LargeBinary(), nullable=True),
        sa.Column("merged_cell", sa.LargeBinary(), nullable=True),
        sa.Column("merged_us", sa.BigInteger(), nullable=False),
        sa.Column("undo_until_us", sa.BigInteger(), nullable=False),
        sa.Column("undone_us", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_member_merge")),
    )
    op.create_index("ix_member_merge_survivor", "member_merge", ["survivor_id"], unique=False)
    op.create_index("ix_member_merge_merged", "member_merge", ["merged_id"], unique=False)
