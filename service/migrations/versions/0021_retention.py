"""The narrow door by which bodies of the trail go when their time has come, and holds upon it.

A body is deleted only where a run of places in the log is named for it, by an event
`retention.pruned` that stands beside it, when its day has come by the database's own clock, under
a signed head, and where no legal hold covers it. Any other deletion is refused as ever.
"""

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None

_HELD = """
    SELECT 1 FROM audit_hold h
    WHERE h.released_us IS NULL
      AND (h.from_us IS NULL OR h.from_us <= OLD.recorded_us)
      AND (h.until_us IS NULL OR h.until_us > OLD.recorded_us)
      AND (h.action IS NULL OR h.action = OLD.action)
      AND (h.by_subject = 0 OR EXISTS (
          SELECT 1 FROM audit_hold_subject s WHERE s.hold_id = h.id AND s.token = OLD.subject))
"""
_NAMED = """
    SELECT 1 FROM audit_leaf l
    JOIN audit_pruned p ON p.first_index = (
        SELECT max(q.first_index) FROM audit_pruned q WHERE q.first_index <= l.leaf_index)
    JOIN audit_event e ON e.id = p.event_id
    WHERE l.event_id = OLD.id AND p.last_index >= l.leaf_index
      AND e.action = 'retention.pruned' AND e.recorded_us >= p.due_us
      AND p.from_us <= OLD.recorded_us AND OLD.recorded_us < p.until_us
      AND p.until_us <= p.due_us AND p.due_us <= {now}
      AND EXISTS (SELECT 1 FROM audit_checkpoint c WHERE c.size > l.leaf_index)
"""
_NEVER = "OLD.action LIKE 'retention.%'"
_SQLITE_NOW = "CAST(strftime('%s', 'now') AS INTEGER) * 1000000"
_POSTGRES_NOW = "extract(epoch FROM clock_timestamp()) * 1000000"

_POSTGRES_FUNCTIONS = (
    f"""
    CREATE FUNCTION yinyom_refuse_deletion() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
    BEGIN
        IF {_NEVER} OR EXISTS ({_HELD}) OR NOT EXISTS ({_NAMED.format(now=_POSTGRES_NOW)}) THEN
            RAISE EXCEPTION '% is append-only', TG_TABLE_NAME
                USING ERRCODE = 'integrity_constraint_violation';
        END IF;
        RETURN OLD;
    END $$
    """,
    """
    CREATE FUNCTION yinyom_stop_holds() RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
    BEGIN
        LOCK TABLE audit_hold, audit_hold_subject IN SHARE MODE;
        RETURN true;
    END $$
    """,
    """
    CREATE FUNCTION yinyom_prune(of_event text) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
    DECLARE gone bigint;
    BEGIN
        LOCK TABLE audit_hold, audit_hold_subject IN SHARE MODE;
        DELETE FROM audit_event e USING audit_leaf l, audit_pruned p
            WHERE p.event_id = of_event AND e.id = l.event_id
              AND l.leaf_index BETWEEN p.first_index AND p.last_index;
        GET DIAGNOSTICS gone = ROW_COUNT;
        RETURN gone;
    END $$
    """,
    """
    CREATE FUNCTION yinyom_refuse_unholding() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
    BEGIN
        IF EXISTS (SELECT 1 FROM audit_hold h
                   WHERE h.id = OLD.hold_id AND h.released_us IS NULL) THEN
            RAISE EXCEPTION '% is held', TG_TABLE_NAME
                USING ERRCODE = 'integrity_constraint_violation';
        END IF;
        RETURN OLD;
    END $$
    """,
)


def upgrade() -> None:
    _create_tables()
    if op.get_bind().dialect.name == "postgresql":
        _guard_postgres()
    else:
        _guard_sqlite()


def _create_tables() -> None:
    op.create_table(
        "audit_pruned",
        sa.Column("first_index", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("last_index", sa.BigInteger(), nullable=False),
        sa.Column("event_id", sa.Text(), nullable=False),
        sa.Column("from_us", sa.BigInteger(), nullable=False),
        sa.Column("until_us", sa.BigInteger(), nullable=False),
        sa.Column("due_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("first_index", name=op.f("pk_audit_pruned")),
    )
    op.create_index("ix_audit_pruned_event_id", "audit_pruned", ["event_id"], unique=False)
    op.create_table(
        "audit_hold",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("from_us", sa.BigInteger(), nullable=True),
        sa.Column("until_us", sa.BigInteger(), nullable=True),
        sa.Column("action", sa.Text(), nullable=True),
        sa.Column("by_subject", sa.Integer(), nullable=False),
        sa.Column("placed_us", sa.BigInteger(), nullable=False),
        sa.Column("released_us", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_hold")),
    )
    op.create_table(
        "audit_hold_subject",
        sa.Column("hold_id", sa.Text(), nullable=False),
        sa.Column("token", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("hold_id", "token", name=op.f("pk_audit_hold_subject")),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_audit_hold_subject_token", "audit_hold_subject", ["token"], unique=False)


def _guard_postgres() -> None:
    for function in _POSTGRES_FUNCTIONS:
        op.execute(function)
    op.execute("DROP TRIGGER audit_event_frozen ON audit_event")
    refuse = "yinyom_refuse_change"
    for table, name, event, each, function in (
        ("audit_event", "frozen", "UPDATE OR TRUNCATE", "STATEMENT", refuse),
        ("audit_event", "kept", "DELETE", "ROW", "yinyom_refuse_deletion"),
        (
            "audit_pruned",
            "frozen",
            "UPDATE OR DELETE OR TRUNCATE",
            "STATEMENT",
            "yinyom_refuse_change",
        ),
        ("audit_hold", "frozen", "DELETE OR TRUNCATE", "STATEMENT", refuse),
        ("audit_hold_subject", "frozen", "UPDATE OR TRUNCATE", "STATEMENT", refuse),
        ("audit_hold_subject", "kept", "DELETE", "ROW", "yinyom_refuse_unholding"),
    ):
        op.execute(
            f"CREATE TRIGGER {table}_{name} BEFORE {event} ON {table} "
            f"FOR EACH {each} EXECUTE FUNCTION {function}()"
        )
        op.execute(f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER {table}_{name}")


def _guard_sqlite() -> None:
    op.execute("DROP TRIGGER audit_event_no_delete")
    op.execute(
        "CREATE TRIGGER audit_event_no_delete BEFORE DELETE ON audit_event "
        f"WHEN {_NEVER} OR EXISTS ({_HELD}) OR NOT EXISTS ({_NAMED.format(now=_SQLITE_NOW)}) "
        "BEGIN SELECT RAISE(ABORT, 'audit_event is append-only'); END"
    )
    for table, change in (
        ("audit_pruned", "UPDATE"),
        ("audit_pruned", "DELETE"),
        ("audit_hold", "DELETE"),
        ("audit_hold_subject", "UPDATE"),
    ):
        op.execute(
            f"CREATE TRIGGER {table}_no_{change.lower()} BEFORE {change} ON {table} "
            f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
        )
    op.execute(
        "CREATE TRIGGER audit_hold_subject_no_delete BEFORE DELETE ON audit_hold_subject "
        "WHEN EXISTS (SELECT 1 FROM audit_hold h "
        "WHERE h.id = OLD.hold_id AND h.released_us IS NULL) "
        "BEGIN SELECT RAISE(ABORT, 'audit_hold_subject is held'); END"
    )
    # As in the first migration: REPLACE must not push a row out where no delete trigger fires.
    for table, taken in (
        ("audit_pruned", "first_index = NEW.first_index OR rowid = NEW.rowid"),
        ("audit_hold", "id = NEW.id OR rowid = NEW.rowid"),
        ("audit_hold_subject", "hold_id = NEW.hold_id AND token = NEW.token"),
    ):
        op.execute(
            f"CREATE TRIGGER {table}_no_replace BEFORE INSERT ON {table} "
            f"WHEN EXISTS (SELECT 1 FROM {table} WHERE {taken}) "
            f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
        )
