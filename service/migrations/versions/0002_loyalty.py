"""Loyalty: accounts, the points ledger, purchases, coupons, merges; and the ledger's guard.

A ledger entry is never changed or taken out. Only whose it is may change: a merge moves it to
the member who stays, an erasure cuts the link and forgets the client's reference.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_FIXED = ("id", "kind", "points", "at_us", "expires_us", "client_id")


def upgrade() -> None:
    _create_tables()
    if op.get_bind().dialect.name == "postgresql":
        _guard_postgres()
    else:
        _guard_sqlite()


def _create_tables() -> None:
    op.create_table(
        "loyalty_account",
        sa.Column("member_id", sa.Text(), nullable=False),
        sa.Column("tier", sa.Text(), nullable=False),
        sa.Column("points_balance", sa.BigInteger(), nullable=False),
        sa.Column("activity_class", sa.Text()),
        sa.Column("branch", sa.Text()),
        sa.Column("tags", sa.Text(), nullable=False),
        sa.Column("coupons", sa.Integer(), nullable=False),
        sa.Column("purchases", sa.Integer(), nullable=False),
        sa.Column("last_purchase_us", sa.BigInteger()),
        sa.Column("review_us", sa.BigInteger()),
        sa.Column("updated_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("member_id", name="pk_loyalty_account"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_loyalty_account_review", "loyalty_account", ["review_us"])
    op.create_table(
        "points_entry",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("member_id", sa.Text()),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("points", sa.BigInteger(), nullable=False),
        sa.Column("at_us", sa.BigInteger(), nullable=False),
        sa.Column("expires_us", sa.BigInteger()),
        sa.Column("client_id", sa.Text(), nullable=False),
        sa.Column("reference", sa.Text()),
        sa.PrimaryKeyConstraint("id", name="pk_points_entry"),
    )
    op.create_index("ix_points_entry_member", "points_entry", ["member_id", "at_us"])
    op.create_index(
        "uq_points_entry_reference", "points_entry", ["client_id", "reference"], unique=True
    )
    op.create_table(
        "points_lot",
        sa.Column("entry_id", sa.Text(), nullable=False),
        sa.Column("member_id", sa.Text(), nullable=False),
        sa.Column("remaining", sa.BigInteger(), nullable=False),
        sa.Column("expires_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("entry_id", name="pk_points_lot"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_points_lot_member", "points_lot", ["member_id", "expires_us"])
    op.create_index("ix_points_lot_expires", "points_lot", ["expires_us"])
    op.create_table(
        "purchase",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("member_id", sa.Text()),
        sa.Column("client_id", sa.Text(), nullable=False),
        sa.Column("reference", sa.Text()),
        sa.Column("at_us", sa.BigInteger(), nullable=False),
        sa.Column("amount_milli", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("items", sa.Integer()),
        sa.Column("branch", sa.Text()),
        sa.Column("points", sa.BigInteger(), nullable=False),
        sa.Column("recorded_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_purchase"),
    )
    op.create_index("ix_purchase_member", "purchase", ["member_id", "at_us"])
    op.create_index("uq_purchase_reference", "purchase", ["client_id", "reference"], unique=True)
    op.create_table(
        "coupon",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("member_id", sa.Text(), nullable=False),
        sa.Column("offer", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("issued_us", sa.BigInteger(), nullable=False),
        sa.Column("expires_us", sa.BigInteger(), nullable=False),
        sa.Column("used_us", sa.BigInteger()),
        sa.PrimaryKeyConstraint("id", name="pk_coupon"),
    )
    op.create_index("ix_coupon_member", "coupon", ["member_id"])
    op.create_index("ix_coupon_expires", "coupon", ["state", "expires_us"])
    op.create_table(
        "loyalty_merge",
        sa.Column("merge_id", sa.Text(), nullable=False),
        sa.Column("into_id", sa.Text(), nullable=False),
        sa.Column("merged_id", sa.Text(), nullable=False),
        sa.Column("moved", sa.LargeBinary(), nullable=False),
        sa.Column("at_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("merge_id", name="pk_loyalty_merge"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_loyalty_merge_into", "loyalty_merge", ["into_id"])
    op.create_index("ix_loyalty_merge_merged", "loyalty_merge", ["merged_id"])


def _guard_postgres() -> None:
    same = " AND ".join(f"NEW.{name} IS NOT DISTINCT FROM OLD.{name}" for name in _FIXED)
    op.execute(
        f"""
        CREATE FUNCTION yinyom_keep_points_entry() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF TG_OP = 'UPDATE' AND {same}
                AND (NEW.reference IS NULL OR NEW.reference IS NOT DISTINCT FROM OLD.reference)
            THEN
                RETURN NEW;
            END IF;
            RAISE EXCEPTION 'points_entry is append-only'
                USING ERRCODE = 'integrity_constraint_violation';
        END $$
        """
    )
    op.execute(
        "CREATE TRIGGER points_entry_kept BEFORE UPDATE OR DELETE ON points_entry "
        "FOR EACH ROW EXECUTE FUNCTION yinyom_keep_points_entry()"
    )
    op.execute(
        "CREATE TRIGGER points_entry_frozen BEFORE TRUNCATE ON points_entry "
        "FOR EACH STATEMENT EXECUTE FUNCTION yinyom_refuse_change()"
    )
    for trigger in ("points_entry_kept", "points_entry_frozen"):
        op.execute(f"ALTER TABLE points_entry ENABLE ALWAYS TRIGGER {trigger}")


def _guard_sqlite() -> None:
    refuse = "BEGIN SELECT RAISE(ABORT, 'points_entry is append-only'); END"
    same = " AND ".join(f"NEW.{name} IS OLD.{name}" for name in _FIXED)
    op.execute(f"CREATE TRIGGER points_entry_no_delete BEFORE DELETE ON points_entry {refuse}")
    op.execute(
        "CREATE TRIGGER points_entry_no_update BEFORE UPDATE ON points_entry "
        f"WHEN NOT ({same} AND (NEW.reference IS NULL OR NEW.reference IS OLD.reference)) {refuse}"
    )
    taken = (
        "id = NEW.id OR rowid = NEW.rowid "
        "OR (client_id = NEW.client_id AND reference = NEW.reference)"
    )
    op.execute(
        "CREATE TRIGGER points_entry_no_replace BEFORE INSERT ON points_entry "
        f"WHEN EXISTS (SELECT 1 FROM points_entry WHERE {taken}) {refuse}"
    )
