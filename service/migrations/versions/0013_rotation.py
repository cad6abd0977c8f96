"""Keys replace one another: ring roots in use, destroyed keys, buckets to re-key, what was done."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_vault_key_bucket", "vault_key", ["bucket", "owner_id"], unique=False)
    op.create_table(
        "vault_ring",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("newest", sa.Integer(), nullable=False),
        sa.Column("oldest", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_vault_ring")),
    )
    op.create_table(
        "vault_destroyed",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("bucket", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_vault_destroyed")),
    )
    op.create_table(
        "vault_rekey",
        sa.Column("bucket", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("above", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("bucket", name=op.f("pk_vault_rekey")),
    )
    op.create_table(
        "vault_rotation",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("began_us", sa.BigInteger(), nullable=False),
        sa.Column("ended_us", sa.BigInteger(), nullable=True),
        sa.Column("buckets", sa.Integer(), nullable=False),
        sa.Column("erasures", sa.Integer(), nullable=False),
        sa.Column("moved", sa.BigInteger(), nullable=False),
        sa.Column("oldest_root", sa.Integer(), nullable=False),
        sa.Column("newest_root", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_vault_rotation")),
    )
    op.create_index(
        "uq_vault_rotation_open",
        "vault_rotation",
        ["kind"],
        unique=True,
        postgresql_where=sa.text("ended_us IS NULL"),
        sqlite_where=sa.text("ended_us IS NULL"),
    )
