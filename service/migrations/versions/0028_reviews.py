"""Reviews of emergency reads: which event tells of a second person's look, written once for good.

Whoever would take a review back, or put another in its place, is refused by the database itself.
"""

import sqlalchemy as sa
from alembic import op

revision = "0028"
down_revision = "0027"
branch_labels = None
depends_on = None

_TAKEN = (
    "EXISTS (SELECT 1 FROM audit_review "
    "WHERE event_id = NEW.event_id OR reviewed_by = NEW.reviewed_by)"
)


def upgrade() -> None:
    op.create_table(
        "audit_review",
        sa.Column("event_id", sa.Text(), nullable=False),
        sa.Column("reviewed_by", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("event_id", name=op.f("pk_audit_review")),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_audit_review_reviewed_by", "audit_review", ["reviewed_by"], unique=True)
    if op.get_bind().dialect.name == "postgresql":
        _guard_postgres()
    else:
        _guard_sqlite()


def _guard_postgres() -> None:
    for kind, name, event, each, function in (
        ("", "frozen", "BEFORE UPDATE OR DELETE OR TRUNCATE", "STATEMENT", "yinyom_refuse_change"),
        ("CONSTRAINT", "recorded", "AFTER INSERT OR UPDATE OR DELETE", "ROW",
         "yinyom_require_event"),
    ):  # fmt: skip
        deferred = "DEFERRABLE INITIALLY DEFERRED" if kind else ""
        op.execute(
            f"CREATE {kind} TRIGGER audit_review_{name} {event} ON audit_review {deferred} "
            f"FOR EACH {each} EXECUTE FUNCTION {function}()"
        )
        op.execute(f"ALTER TABLE audit_review ENABLE ALWAYS TRIGGER audit_review_{name}")


def _guard_sqlite() -> None:
    for name, change, when in (
        ("update", "UPDATE", "1"),
        ("delete", "DELETE", "1"),
        # As in the first migration: REPLACE must not push a row out where no trigger fires.
        ("replace", "INSERT", _TAKEN),
    ):
        op.execute(
            f"CREATE TRIGGER audit_review_no_{name} BEFORE {change} ON audit_review "
            f"WHEN {when} BEGIN SELECT RAISE(ABORT, 'audit_review is append-only'); END"
        )
