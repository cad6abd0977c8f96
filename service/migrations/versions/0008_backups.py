"""The rights ledger, what was shipped to the backup store, and the backups made."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_FIXED = ("id", "kind", "subject", "at_us", "body")


def upgrade() -> None:
    op.create_table(
        "rights_ledger",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("subject", sa.LargeBinary(), nullable=False),
        sa.Column("at_us", sa.BigInteger(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=True),
        sa.Column("link", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_rights_ledger")),
        sa.UniqueConstraint("position", name=op.f("uq_rights_ledger_position")),
    )
    op.create_index(
        "ix_rights_ledger_waiting",
        "rights_ledger",
        ["id"],
        unique=False,
        postgresql_where=sa.text("position IS NULL"),
        sqlite_where=sa.text("position IS NULL"),
    )
    op.create_table(
        "backup_progress",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_backup_progress")),
    )
    op.create_table(
        "backup_set",
        sa.Column("generation", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("created_us", sa.BigInteger(), nullable=False),
        sa.Column("verified_us", sa.BigInteger(), nullable=True),
        sa.Column("manifest_sha256", sa.LargeBinary(), nullable=False),
        sa.Column("stored_bytes", sa.BigInteger(), nullable=False),
        sa.Column("row_count", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("generation", name=op.f("pk_backup_set")),
    )
    if op.get_bind().dialect.name == "postgresql":
        _guard_postgres()
    else:
        _guard_sqlite()


def _guard_postgres() -> None:
    same = " AND ".join(f"NEW.{name} = OLD.{name}" for name in _FIXED)
    op.execute(
        "CREATE FUNCTION yinyom_place_once() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        f"IF OLD.position IS NULL AND NEW.position IS NOT NULL AND {same} THEN RETURN NEW; END IF; "
        "RAISE EXCEPTION 'rights_ledger is append-only' "
        "USING ERRCODE = 'integrity_constraint_violation'; END $$"
    )
    op.execute(
        "CREATE TRIGGER rights_ledger_placed BEFORE UPDATE ON rights_ledger "
        "FOR EACH ROW EXECUTE FUNCTION yinyom_place_once()"
    )
    op.execute(
        "CREATE TRIGGER rights_ledger_frozen BEFORE DELETE OR TRUNCATE ON rights_ledger "
        "FOR EACH STATEMENT EXECUTE FUNCTION yinyom_refuse_change()"
    )
    for trigger in ("placed", "frozen"):
        op.execute(f"ALTER TABLE rights_ledger ENABLE ALWAYS TRIGGER rights_ledger_{trigger}")


def _guard_sqlite() -> None:
    same = " AND ".join(f"NEW.{name} IS OLD.{name}" for name in _FIXED)
    refused = "BEGIN SELECT RAISE(ABORT, 'rights_ledger is append-only'); END"
    op.execute(
        "CREATE TRIGGER rights_ledger_no_update BEFORE UPDATE ON rights_ledger "
        f"WHEN NOT (OLD.position IS NULL AND NEW.position IS NOT NULL AND {same}) {refused}"
    )
    op.execute(f"CREATE TRIGGER rights_ledger_no_delete BEFORE DELETE ON rights_ledger {refused}")
    op.execute(
        "CREATE TRIGGER rights_ledger_no_replace BEFORE INSERT ON rights_ledger "
        "WHEN EXISTS (SELECT 1 FROM rights_ledger "
        "WHERE id = NEW.id OR position = NEW.position OR rowid = NEW.rowid) "
        f"{refused}"
    )
