"""Rows that an import set aside have an end, and marks by which an erasure finds them."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("import_run", sa.Column("expires_us", sa.BigInteger(), nullable=True))
    op.add_column("import_run", sa.Column("ended_us", sa.BigInteger(), nullable=True))
    op.create_index(
        "ix_import_row_set_aside",
        "import_row",
        ["import_id"],
        unique=False,
        sqlite_where=sa.text("outcome = 'quarantined' AND cell IS NOT NULL"),
        postgresql_where=sa.text("outcome = 'quarantined' AND cell IS NOT NULL"),
    )
    op.create_table(
        "import_mark",
        sa.Column("import_id", sa.Text(), nullable=False),
        sa.Column("row_no", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("mark", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("import_id", "row_no", "mark", name=op.f("pk_import_mark")),
    )
    op.create_index("ix_import_mark_mark", "import_mark", ["mark"], unique=False)
