"""The log's key can be rotated: the head names the key that may move it, and overlaps are kept."""

import sqlalchemy as sa
from alembic import op

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None

_TABLE = "audit_key"


def upgrade() -> None:
    op.add_column("audit_head", sa.Column("vkey", sa.Text(), nullable=True))
    op.create_table(
        _TABLE,
        sa.Column("size", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("origin", sa.Text(), nullable=False),
        sa.Column("old_vkey", sa.Text(), nullable=False),
        sa.Column("new_vkey", sa.Text(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("event_id", sa.Text(), nullable=False),
        sa.Column("rotated_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("size", name=op.f("pk_audit_key")),
    )
    if op.get_bind().dialect.name == "postgresql":
        op.execute(
            f"CREATE TRIGGER {_TABLE}_frozen BEFORE UPDATE OR DELETE OR TRUNCATE ON {_TABLE} "
            "FOR EACH STATEMENT EXECUTE FUNCTION yinyom_refuse_change()"
        )
        op.execute(f"ALTER TABLE {_TABLE} ENABLE ALWAYS TRIGGER {_TABLE}_frozen")
        return
    pushed = f"EXISTS (SELECT 1 FROM {_TABLE} WHERE size = NEW.size OR rowid = NEW.rowid)"
    for change, when in (("UPDATE", "1"), ("DELETE", "1"), ("INSERT", pushed)):
        name = f"{_TABLE}_no_{'replace' if change == 'INSERT' else change.lower()}"
        op.execute(
            f"CREATE TRIGGER {name} BEFORE {change} ON {_TABLE} WHEN {when} "
            f"BEGIN SELECT RAISE(ABORT, '{_TABLE} is append-only'); END"
        )
