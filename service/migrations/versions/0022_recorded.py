"""No governed change without an event: raw SQL is refused too, and the guards have no way round."""

from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None

GOVERNED = (
    "audit_hold",
    "audit_hold_subject",
    "audit_pruned",
    "client",
    "consent_event",
    "consent_state",
    "contact_point",
    "coupon",
    "duplicate",
    "guardian",
    "import_row",
    "import_run",
    "import_upload",
    "loyalty_account",
    "loyalty_merge",
    "member",
    "member_gate",
    "member_merge",
    "note_finding",
    "notice",
    "pairwise_id",
    "points_entry",
    "points_lot",
    "purchase",
    "registry_fact",
    "restriction",
    "rights_export",
    "rights_request",
    "staff",
    "approval",
    "suppression",
    "vault_bucket",
    "vault_key",
    "webhook",
)
# A function that fixes its search_path without naming pg_temp looks there first: a temporary
# table of the same name would then stand in for the trail, or swallow the queue.
_PATH = "SET search_path = {schema}, pg_temp"
# The setting is only a hint where to look: the row must be there and must have been written by
# this very transaction, which nobody can say of a row but the server.
_FUNCTIONS = (
    """
    CREATE OR REPLACE FUNCTION yinyom_queue_event() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER {path} AS $$
    BEGIN
        INSERT INTO audit_pending (event_id) VALUES (NEW.id);
        PERFORM set_config('yinyom.event', NEW.id, true);
        RETURN NULL;
    END $$
    """,
    """
    CREATE FUNCTION yinyom_require_event() RETURNS trigger
    LANGUAGE plpgsql {path} AS $$
    BEGIN
        PERFORM 1 FROM audit_event
            WHERE id = current_setting('yinyom.event', true)
            AND xmin = pg_current_xact_id()::xid;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'no event speaks of this change of %', TG_TABLE_NAME
                USING ERRCODE = 'integrity_constraint_violation';
        END IF;
        RETURN NULL;
    END $$
    """,
)


# What other migrations made with the path of the moment gets the same end.
_MEND_PATHS = """
    DO $$ DECLARE f regprocedure; BEGIN
      FOR f IN SELECT oid::regprocedure FROM pg_proc
        WHERE pronamespace = current_schema()::regnamespace AND proconfig IS NOT NULL
      LOOP
        EXECUTE format('ALTER FUNCTION %s SET search_path = %I, pg_temp', f, current_schema());
      END LOOP;
    END $$
"""


def upgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        _guard_postgres()
    else:
        _guard_sqlite()


def _guard_postgres() -> None:
    schema = op.get_bind().exec_driver_sql("SELECT quote_ident(current_schema())").scalar_one()
    path = _PATH.format(schema=schema)
    for function in _FUNCTIONS:
        op.execute(function.format(path=path))
    for table in GOVERNED:
        op.execute(
            f"CREATE CONSTRAINT TRIGGER {table}_recorded AFTER INSERT OR UPDATE OR DELETE "
            f"ON {table} DEFERRABLE INITIALLY DEFERRED "
            "FOR EACH ROW EXECUTE FUNCTION yinyom_require_event()"
        )
        op.execute(f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER {table}_recorded")
        if not table.startswith("audit_"):  # those refuse it already
            _refuse(table, "TRUNCATE", "no_truncate")
    _refuse("audit_cosignature", "DELETE OR TRUNCATE", "frozen")
    _refuse("audit_anchor", "UPDATE OR DELETE OR TRUNCATE", "frozen")
    _refuse("audit_origin", "UPDATE OR DELETE OR TRUNCATE", "frozen")
    op.execute(_MEND_PATHS)


def _refuse(table: str, changes: str, name: str) -> None:
    op.execute(
        f"CREATE TRIGGER {table}_{name} BEFORE {changes} ON {table} "
        "FOR EACH STATEMENT EXECUTE FUNCTION yinyom_refuse_change()"
    )
    op.execute(f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER {table}_{name}")


def _guard_sqlite() -> None:
    keys = {
        "audit_cosignature": "size = NEW.size AND witness = NEW.witness",
        "audit_anchor": "size = NEW.size AND sink = NEW.sink",
        "audit_origin": "origin = NEW.origin",
    }
    for table, key in keys.items():
        if table != "audit_cosignature":  # a witness may sign a head again, and then later counts
            _forbid(f"{table}_no_update", "UPDATE", table)
        _forbid(f"{table}_no_delete", "DELETE", table)
        # An insert that brings another's row id along would push that row out (REPLACE); the
        # same key twice is not told apart here, because anchors are offered again.
        pushed = f"EXISTS (SELECT 1 FROM {table} WHERE rowid = NEW.rowid AND NOT ({key}))"
        _forbid(f"{table}_no_replace", "INSERT", table, pushed)


def _forbid(name: str, change: str, table: str, when: str = "1") -> None:
    op.execute(
        f"CREATE TRIGGER {name} BEFORE {change} ON {table} WHEN {when} "
        f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
    )
