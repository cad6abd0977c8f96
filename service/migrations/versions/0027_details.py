"""Sealed details beside the trail: written once, cut loose at an erasure, dropped by their clock.

A row is never deleted and never changed but in two ways: its link to the member goes, or its
ciphertext goes, where an event `retention.detail_pruned` stands beside that, its day has come by
the database's own clock, its month is over, and no legal hold covers the event that it belongs to.
On PostgreSQL that event is of the same transaction, and whoever drops is allowed to prune: the
password of servers that do not sequence is not enough.
"""

import sqlalchemy as sa
from alembic import op

revision = "0027"
down_revision = "0026"
branch_labels = None
depends_on = None

_HELD = """
    SELECT 1 FROM audit_event e
    JOIN audit_hold h ON h.released_us IS NULL
      AND (h.from_us IS NULL OR h.from_us <= e.recorded_us)
      AND (h.until_us IS NULL OR h.until_us > e.recorded_us)
      AND (h.action IS NULL OR h.action = e.action)
      AND (h.by_subject = 0 OR EXISTS (
          SELECT 1 FROM audit_hold_subject s WHERE s.hold_id = h.id AND s.token = e.subject))
    WHERE e.id = OLD.event_id
"""
_TOLD = """
    SELECT 1 FROM audit_event p
    WHERE p.id = NEW.dropped_by AND p.action = 'retention.detail_pruned'
      AND p.recorded_us >= NEW.due_us AND NEW.due_us <= {now} {and_by}
      AND NOT EXISTS (SELECT 1 FROM audit_event e WHERE e.id = OLD.event_id
                      AND (e.recorded_us >= NEW.due_us OR e.recorded_us >= {month}))
"""
_MAY = """
    NEW.event_id = OLD.event_id AND NEW.member_id IS NULL AND (
        (NEW.ciphertext {is} OLD.ciphertext AND NEW.dropped_by {is} OLD.dropped_by
         AND NEW.due_us {is} OLD.due_us)
        OR (OLD.ciphertext IS NOT NULL AND NEW.ciphertext IS NULL AND NEW.due_us IS NOT NULL
            AND EXISTS ({told}) AND NOT EXISTS ({held})))
"""
_SQLITE = {
    "now": "CAST(strftime('%s', 'now') AS INTEGER) * 1000000",
    "month": "CAST(strftime('%s', 'now', 'start of month') AS INTEGER) * 1000000",
    "and_by": "",
}
_POSTGRES = {
    "now": "extract(epoch FROM clock_timestamp()) * 1000000",
    "month": "extract(epoch FROM date_trunc('month', clock_timestamp() AT TIME ZONE 'UTC'))"
    " * 1000000",
    # Holds are looked for as they are now, not as they were when a long transaction began.
    "and_by": "AND p.xmin = pg_current_xact_id()::xid"
    " AND current_setting('transaction_isolation') = 'read committed'"
    " AND has_function_privilege(session_user, 'yinyom_prune(text)', 'EXECUTE')",
}


def upgrade() -> None:
    op.create_table(
        "audit_detail",
        sa.Column("event_id", sa.Text(), nullable=False),
        sa.Column("member_id", sa.Text(), nullable=True),
        sa.Column("ciphertext", sa.LargeBinary(), nullable=True),
        sa.Column("dropped_by", sa.Text(), nullable=True),
        sa.Column("due_us", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("event_id", name=op.f("pk_audit_detail")),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_audit_detail_member_id", "audit_detail", ["member_id"], unique=False)
    if op.get_bind().dialect.name == "postgresql":
        _guard_postgres()
    else:
        _guard_sqlite()


def _guard_postgres() -> None:
    schema = op.get_bind().exec_driver_sql("SELECT quote_ident(current_schema())").scalar_one()
    may = _MAY.format_map(
        {
            "is": "IS NOT DISTINCT FROM",
            "told": _TOLD.format(**_POSTGRES),
            "held": _HELD,
        }
    )
    op.execute(
        f"""
        CREATE FUNCTION yinyom_guard_detail() RETURNS trigger
        LANGUAGE plpgsql SECURITY DEFINER SET search_path = {schema}, pg_temp AS $$
        BEGIN
            IF ({may}) IS NOT TRUE THEN
                RAISE EXCEPTION '% is append-only', TG_TABLE_NAME
                    USING ERRCODE = 'integrity_constraint_violation';
            END IF;
            RETURN NEW;
        END $$
        """
    )
    op.execute("REVOKE EXECUTE ON FUNCTION yinyom_guard_detail() FROM PUBLIC")
    for kind, name, event, each, function in (
        ("", "guarded", "BEFORE UPDATE", "ROW", "yinyom_guard_detail"),
        ("", "frozen", "BEFORE DELETE OR TRUNCATE", "STATEMENT", "yinyom_refuse_change"),
        ("CONSTRAINT", "recorded", "AFTER INSERT OR UPDATE OR DELETE", "ROW",
         "yinyom_require_event"),
    ):  # fmt: skip
        deferred = "DEFERRABLE INITIALLY DEFERRED" if kind else ""
        op.execute(
            f"CREATE {kind} TRIGGER audit_detail_{name} {event} ON audit_detail {deferred} "
            f"FOR EACH {each} EXECUTE FUNCTION {function}()"
        )
        op.execute(f"ALTER TABLE audit_detail ENABLE ALWAYS TRIGGER audit_detail_{name}")


def _guard_sqlite() -> None:
    may = _MAY.format_map({"is": "IS", "told": _TOLD.format(**_SQLITE), "held": _HELD})
    for name, change, when in (
        ("update", "UPDATE", f"({may}) IS NOT TRUE"),
        ("delete", "DELETE", "1"),
        # As in the first migration: REPLACE must not push a row out where no trigger fires.
        ("replace", "INSERT",
         "EXISTS (SELECT 1 FROM audit_detail WHERE event_id = NEW.event_id)"),
    ):  # fmt: skip
        op.execute(
            f"CREATE TRIGGER audit_detail_no_{name} BEFORE {change} ON audit_detail "
            f"WHEN {when} BEGIN SELECT RAISE(ABORT, 'audit_detail is append-only'); END"
        )
