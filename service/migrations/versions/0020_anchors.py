"""Anchors, the sequencer's lease, earlier names of the log, and the door for old checkpoints.

A checkpoint may be dropped when it is a day old, another came later, the one before it is of the
same hour, and neither a witness has signed it nor an anchor holds it. The database decides that,
not whoever asks.
"""

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None

_HOUR_US = 3_600_000_000
_DAY_US = 24 * _HOUR_US
_DROPPABLE = f"""
    OLD.created_us < {{now_us}} - {_DAY_US}
    AND EXISTS (SELECT 1 FROM audit_checkpoint WHERE size > OLD.size)
    AND (
        SELECT created_us / {_HOUR_US} FROM audit_checkpoint
        WHERE size < OLD.size ORDER BY size DESC LIMIT 1
    ) = OLD.created_us / {_HOUR_US}
    AND NOT EXISTS (SELECT 1 FROM audit_cosignature WHERE size = OLD.size)
    AND NOT EXISTS (SELECT 1 FROM audit_anchor WHERE size = OLD.size)
"""


def upgrade() -> None:
    op.add_column(
        "audit_head", sa.Column("fence", sa.BigInteger(), server_default="0", nullable=False)
    )
    op.add_column("audit_head", sa.Column("holder", sa.Text(), nullable=True))
    op.add_column(
        "audit_head",
        sa.Column("lease_until_us", sa.BigInteger(), server_default="0", nullable=False),
    )
    op.add_column("audit_head", sa.Column("refused", sa.Text(), nullable=True))
    op.create_table(
        "audit_anchor",
        sa.Column("size", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("sink", sa.Text(), nullable=False),
        sa.Column("receipt", sa.Text(), nullable=False),
        sa.Column("anchored_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("size", "sink", name=op.f("pk_audit_anchor")),
    )
    op.create_index("ix_audit_anchor_sink", "audit_anchor", ["sink", "size"], unique=False)
    op.create_table(
        "audit_origin",
        sa.Column("origin", sa.Text(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("vkey", sa.Text(), nullable=False),
        sa.Column("event_id", sa.Text(), nullable=False),
        sa.Column("closed_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("origin", name=op.f("pk_audit_origin")),
    )
    if op.get_bind().dialect.name == "postgresql":
        _open_the_door_postgres()
    else:
        _open_the_door_sqlite()


def _open_the_door_postgres() -> None:
    now_us = "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint"
    op.execute(f"""
        CREATE FUNCTION yinyom_drop_checkpoint() RETURNS trigger LANGUAGE plpgsql
        SET search_path FROM CURRENT AS $$
        BEGIN
            IF {_DROPPABLE.format(now_us=now_us)} THEN
                RETURN OLD;
            END IF;
            RAISE EXCEPTION 'audit_checkpoint is append-only'
                USING ERRCODE = 'integrity_constraint_violation';
        END $$
    """)
    op.execute("DROP TRIGGER audit_checkpoint_frozen ON audit_checkpoint")
    op.execute(
        "CREATE TRIGGER audit_checkpoint_frozen BEFORE UPDATE OR TRUNCATE ON audit_checkpoint "
        "FOR EACH STATEMENT EXECUTE FUNCTION yinyom_refuse_change()"
    )
    op.execute(
        "CREATE TRIGGER audit_checkpoint_kept BEFORE DELETE ON audit_checkpoint "
        "FOR EACH ROW EXECUTE FUNCTION yinyom_drop_checkpoint()"
    )
    for trigger in ("audit_checkpoint_frozen", "audit_checkpoint_kept"):
        op.execute(f"ALTER TABLE audit_checkpoint ENABLE ALWAYS TRIGGER {trigger}")


def _open_the_door_sqlite() -> None:
    now_us = "CAST(strftime('%s', 'now') AS INTEGER) * 1000000"
    op.execute("DROP TRIGGER audit_checkpoint_no_delete")
    op.execute(
        "CREATE TRIGGER audit_checkpoint_no_delete BEFORE DELETE ON audit_checkpoint "
        f"WHEN ({_DROPPABLE.format(now_us=now_us)}) IS NOT TRUE "
        "BEGIN SELECT RAISE(ABORT, 'audit_checkpoint is append-only'); END"
    )
