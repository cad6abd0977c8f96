"""The trail's doors from the inside: who may open them, when, and what slips past them.

Functions of the trail are called by nobody to whom they were not granted, and not hung on other
tables either: whoever could put the queue's own trigger on a table of theirs could queue what is
no event. A body is deleted only by the transaction that tells of it, never one of the running
month, and by no transaction that looks at holds as they were. A hold is released once and not
changed. On SQLite, REPLACE and UPDATE OR REPLACE push no row out of a table that keeps its rows.
"""

from alembic import op

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None

# As in 0021, but for the running month: whoever may name places and days in the log still cannot
# reach what happened since the month began, by the database's own clock.
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
      AND p.until_us <= p.due_us AND p.due_us <= {now} AND OLD.recorded_us < {month}
      AND EXISTS (SELECT 1 FROM audit_checkpoint c WHERE c.size > l.leaf_index)
"""
_NEVER = "OLD.action LIKE 'retention.%'"
_SQLITE = {
    "now": "CAST(strftime('%s', 'now') AS INTEGER) * 1000000",
    "month": "CAST(strftime('%s', 'now', 'start of month') AS INTEGER) * 1000000",
}
_POSTGRES = {
    "now": "extract(epoch FROM clock_timestamp()) * 1000000",
    "month": "extract(epoch FROM date_trunc('month', clock_timestamp() AT TIME ZONE 'UTC'))"
    " * 1000000",
}

_LONGEST = 65_535

_FUNCTIONS = (
    f"""
    CREATE OR REPLACE FUNCTION yinyom_refuse_deletion() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
    BEGIN
        IF {_NEVER} OR EXISTS ({_HELD}) OR NOT EXISTS ({_NAMED.format(**_POSTGRES)}) THEN
            RAISE EXCEPTION '% is append-only', TG_TABLE_NAME
                USING ERRCODE = 'integrity_constraint_violation';
        END IF;
        RETURN OLD;
    END $$
    """,
    # The lock excludes itself: of two prunes one waits, and then sees what the other has done.
    """
    CREATE OR REPLACE FUNCTION yinyom_stop_holds() RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
    BEGIN
        LOCK TABLE audit_hold, audit_hold_subject IN SHARE ROW EXCLUSIVE MODE;
        RETURN true;
    END $$
    """,
    # A transaction that keeps one moment of the database would look for holds in that moment.
    """
    CREATE OR REPLACE FUNCTION yinyom_prune(of_event text) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
    DECLARE gone bigint;
    BEGIN
        IF current_setting('transaction_isolation') <> 'read committed' THEN
            RAISE EXCEPTION 'holds are looked for as they are now'
                USING ERRCODE = 'invalid_transaction_state';
        END IF;
        LOCK TABLE audit_hold, audit_hold_subject IN SHARE ROW EXCLUSIVE MODE;
        PERFORM 1 FROM audit_event WHERE id = of_event AND xmin = pg_current_xact_id()::xid;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'no event of this transaction tells of the deletion'
                USING ERRCODE = 'integrity_constraint_violation';
        END IF;
        DELETE FROM audit_event e USING audit_leaf l, audit_pruned p
            WHERE p.event_id = of_event AND e.id = l.event_id
              AND l.leaf_index BETWEEN p.first_index AND p.last_index;
        GET DIAGNOSTICS gone = ROW_COUNT;
        RETURN gone;
    END $$
    """,
    # As in 0022, but for the length: a longer one would have its place for good, in no export.
    f"""
    CREATE OR REPLACE FUNCTION yinyom_queue_event() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
    BEGIN
        IF octet_length(NEW.body) > {_LONGEST} THEN
            RAISE EXCEPTION 'the log takes no entry of this length'
                USING ERRCODE = 'integrity_constraint_violation';
        END IF;
        INSERT INTO audit_pending (event_id) VALUES (NEW.id);
        PERFORM set_config('yinyom.event', NEW.id, true);
        RETURN NULL;
    END $$
    """,
    """
    CREATE FUNCTION yinyom_release_once() RETURNS trigger
    LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
    BEGIN
        IF OLD.released_us IS NULL AND NEW.released_us IS NOT NULL THEN
            OLD.released_us := NEW.released_us;
            IF OLD IS NOT DISTINCT FROM NEW THEN
                RETURN NEW;
            END IF;
        END IF;
        RAISE EXCEPTION '% is only released', TG_TABLE_NAME
            USING ERRCODE = 'integrity_constraint_violation';
    END $$
    """,
)
# A fixed path that ends in pg_temp, and no caller: a trigger needs none, and who hangs a function
# on a table must be allowed to call it.
_SHUT = """
    DO $$ DECLARE f regprocedure; BEGIN
      FOR f IN SELECT oid::regprocedure FROM pg_proc
        WHERE pronamespace = current_schema()::regnamespace AND proname LIKE 'yinyom\\_%'
      LOOP
        EXECUTE format('ALTER FUNCTION %s SET search_path = %I, pg_temp', f, current_schema());
        EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', f);
      END LOOP;
    END $$
"""
_HOLD_FIXED = ("id", "reason", "from_us", "until_us", "action", "by_subject", "placed_us")
_ENTRY_FIXED = ("id", "kind", "points", "at_us", "expires_us", "client_id")
_LEDGER_FIXED = ("id", "kind", "subject", "at_us", "body")


def upgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        _guard_postgres()
    else:
        _guard_sqlite()


def _guard_postgres() -> None:
    for function in _FUNCTIONS:
        op.execute(function)
    op.execute(
        "CREATE TRIGGER audit_hold_released BEFORE UPDATE ON audit_hold "
        "FOR EACH ROW EXECUTE FUNCTION yinyom_release_once()"
    )
    op.execute("ALTER TABLE audit_hold ENABLE ALWAYS TRIGGER audit_hold_released")
    op.execute(_SHUT)


def _guard_sqlite() -> None:
    kept = f"{_NEVER} OR EXISTS ({_HELD}) OR NOT EXISTS ({_NAMED.format(**_SQLITE)})"
    _mend("audit_event", "no_delete", "DELETE", kept)
    there = "EXISTS (SELECT 1 FROM audit_event WHERE id = NEW.id OR rowid = NEW.rowid)"
    entry = f"typeof(NEW.body) = 'blob' AND length(NEW.body) <= {_LONGEST}"
    _mend("audit_event", "no_replace", "INSERT", f"{there} OR NOT ({entry})")
    # An anchor is offered again, which must not be an error: what is there stays as it is.
    op.execute(
        "CREATE TRIGGER audit_anchor_once BEFORE INSERT ON audit_anchor WHEN EXISTS "
        "(SELECT 1 FROM audit_anchor WHERE size = NEW.size AND sink = NEW.sink) "
        "BEGIN SELECT RAISE(IGNORE); END"
    )
    taken = "SELECT 1 FROM audit_origin WHERE origin = NEW.origin OR rowid = NEW.rowid"
    _mend("audit_origin", "no_replace", "INSERT", f"EXISTS ({taken})")
    moved = "NEW.size IS NOT OLD.size OR NEW.witness IS NOT OLD.witness"
    _forbid("audit_cosignature", "no_move", "UPDATE", f"{moved} OR NEW.rowid IS NOT OLD.rowid")
    released = "OLD.released_us IS NULL AND NEW.released_us IS NOT NULL"
    _forbid("audit_hold", "no_update", "UPDATE", f"NOT ({released} AND {_same(_HOLD_FIXED)})")
    entry = f"{_same(_ENTRY_FIXED)} AND (NEW.reference IS NULL OR NEW.reference IS OLD.reference)"
    _mend("points_entry", "no_update", "UPDATE", f"NOT ({entry})")
    placed = "OLD.position IS NULL AND NEW.position IS NOT NULL"
    free = "NOT EXISTS (SELECT 1 FROM rights_ledger WHERE position = NEW.position)"
    ledger = f"{placed} AND {_same(_LEDGER_FIXED)} AND {free}"
    _mend("rights_ledger", "no_update", "UPDATE", f"NOT ({ledger})")


def _same(columns: tuple[str, ...]) -> str:
    return " AND ".join(f"NEW.{name} IS OLD.{name}" for name in ("rowid", *columns))


def _mend(table: str, name: str, change: str, when: str) -> None:
    op.execute(f"DROP TRIGGER {table}_{name}")
    _forbid(table, name, change, when)


def _forbid(table: str, name: str, change: str, when: str) -> None:
    op.execute(
        f"CREATE TRIGGER {table}_{name} BEFORE {change} ON {table} WHEN {when} "
        f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
    )
