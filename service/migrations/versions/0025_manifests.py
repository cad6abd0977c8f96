"""Rows beside an event that speaks of many: added with it, deleted with it, never changed."""

import sqlalchemy as sa
from alembic import op

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None

_TABLES = ("audit_manifest", "audit_manifest_token")
_PATH = "SET search_path = {schema}, pg_temp"
# A hold on a member covers the events whose rows bear one of the member's tokens.
_HELD = """
    SELECT 1 FROM audit_manifest_token t
    JOIN audit_hold_subject s ON s.token = t.token
    JOIN audit_hold h ON h.id = s.hold_id
    WHERE t.event_id = OLD.id AND h.released_us IS NULL AND h.by_subject <> 0
      AND (h.from_us IS NULL OR h.from_us <= OLD.recorded_us)
      AND (h.until_us IS NULL OR h.until_us > OLD.recorded_us)
      AND (h.action IS NULL OR h.action = OLD.action)
"""
_FUNCTIONS = (
    f"""
    CREATE FUNCTION yinyom_refuse_held_rows() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER {{path}} AS $$
    BEGIN
        IF EXISTS ({_HELD}) THEN
            RAISE EXCEPTION '% is append-only', TG_TABLE_NAME
                USING ERRCODE = 'integrity_constraint_violation';
        END IF;
        RETURN OLD;
    END $$
    """,
    """
    CREATE FUNCTION yinyom_forget_rows() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER {path} AS $$
    BEGIN
        DELETE FROM audit_manifest_token WHERE event_id = OLD.id;
        DELETE FROM audit_manifest WHERE event_id = OLD.id;
        RETURN NULL;
    END $$
    """,
    """
    CREATE FUNCTION yinyom_keep_rows() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER {path} AS $$
    BEGIN
        IF EXISTS (SELECT 1 FROM audit_event WHERE id = OLD.event_id) THEN
            RAISE EXCEPTION '% is append-only', TG_TABLE_NAME
                USING ERRCODE = 'integrity_constraint_violation';
        END IF;
        RETURN OLD;
    END $$
    """,
    """
    CREATE FUNCTION yinyom_rows_of_own_event() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER {path} AS $$
    BEGIN
        IF EXISTS (
            SELECT 1 FROM (SELECT DISTINCT event_id FROM added) a
            WHERE NOT EXISTS (
                SELECT 1 FROM audit_event e
                WHERE e.id = a.event_id AND e.xmin = pg_current_xact_id()::xid)
        ) THEN
            RAISE EXCEPTION '% is for an event of the same transaction', TG_TABLE_NAME
                USING ERRCODE = 'integrity_constraint_violation';
        END IF;
        RETURN NULL;
    END $$
    """,
)


def upgrade() -> None:
    op.create_table(
        "audit_manifest",
        sa.Column("event_id", sa.Text(), nullable=False),
        sa.Column("width", sa.Integer(), nullable=False),
        sa.Column("rows", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("event_id", name=op.f("pk_audit_manifest")),
    )
    op.create_table(
        "audit_manifest_token",
        sa.Column("token", sa.Text(), nullable=False),
        sa.Column("event_id", sa.Text(), nullable=False),
        sa.Column("place", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("token", "event_id", name=op.f("pk_audit_manifest_token")),
        sqlite_with_rowid=False,
    )
    op.create_index(
        "ix_audit_manifest_token_event_id", "audit_manifest_token", ["event_id"], unique=False
    )
    if op.get_bind().dialect.name == "postgresql":
        _guard_postgres()
    else:
        _guard_sqlite()


def _guard_postgres() -> None:
    schema = op.get_bind().exec_driver_sql("SELECT quote_ident(current_schema())").scalar_one()
    for function in _FUNCTIONS:
        op.execute(function.format(path=_PATH.format(schema=schema)))
    for name in ("refuse_held_rows", "forget_rows", "keep_rows", "rows_of_own_event"):
        op.execute(f"REVOKE EXECUTE ON FUNCTION yinyom_{name}() FROM PUBLIC")
    # One row of a page is read by its place: bytes that are not compressed are read in part.
    op.execute('ALTER TABLE audit_manifest ALTER COLUMN "rows" SET STORAGE EXTERNAL')
    _on("audit_event", "rows_held", "BEFORE DELETE", "ROW", "yinyom_refuse_held_rows")
    _on("audit_event", "rows_forgotten", "AFTER DELETE", "ROW", "yinyom_forget_rows")
    for table in _TABLES:
        _on(table, "frozen", "BEFORE UPDATE OR TRUNCATE", "STATEMENT", "yinyom_refuse_change")
        _on(table, "kept", "BEFORE DELETE", "ROW", "yinyom_keep_rows")
        op.execute(
            f"CREATE TRIGGER {table}_own AFTER INSERT ON {table} REFERENCING NEW TABLE AS added "
            "FOR EACH STATEMENT EXECUTE FUNCTION yinyom_rows_of_own_event()"
        )
        op.execute(f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER {table}_own")


def _on(table: str, name: str, when: str, each: str, function: str) -> None:
    op.execute(
        f"CREATE TRIGGER {table}_{name} {when} ON {table} "
        f"FOR EACH {each} EXECUTE FUNCTION {function}()"
    )
    op.execute(f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER {table}_{name}")


def _guard_sqlite() -> None:
    op.execute(
        f"CREATE TRIGGER audit_event_rows_held BEFORE DELETE ON audit_event WHEN EXISTS ({_HELD}) "
        "BEGIN SELECT RAISE(ABORT, 'audit_event is append-only'); END"
    )
    op.execute(
        "CREATE TRIGGER audit_event_rows_forgotten AFTER DELETE ON audit_event BEGIN "
        "DELETE FROM audit_manifest_token WHERE event_id = OLD.id; "
        "DELETE FROM audit_manifest WHERE event_id = OLD.id; END"
    )
    for table in _TABLES:
        _forbid(table, "no_update", "UPDATE", "1")
        _forbid(
            table,
            "no_delete",
            "DELETE",
            "EXISTS (SELECT 1 FROM audit_event WHERE id = OLD.event_id)",
        )
        # Nothing tells of a transaction here: an event that waits for its place has just come.
        _forbid(
            table,
            "own",
            "INSERT",
            "NOT EXISTS (SELECT 1 FROM audit_pending WHERE event_id = NEW.event_id)",
        )
    _forbid(
        "audit_manifest",
        "no_replace",
        "INSERT",
        "EXISTS (SELECT 1 FROM audit_manifest WHERE event_id = NEW.event_id OR rowid = NEW.rowid)",
    )
    _forbid(
        "audit_manifest_token",
        "no_replace",
        "INSERT",
        "EXISTS (SELECT 1 FROM audit_manifest_token "
        "WHERE token = NEW.token AND event_id = NEW.event_id)",
    )


def _forbid(table: str, name: str, change: str, when: str) -> None:
    op.execute(
        f"CREATE TRIGGER {table}_{name} BEFORE {change} ON {table} WHEN {when} "
        f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
    )
