"""Consent: guardians, objections."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Say who decided for a minor, and keep the addresses whose holders objected, by tag."""
    op.add_column("consent_event", sa.Column("guardian_id", sa.Text(), nullable=True))
    op.add_column("consent_event", sa.Column("joint_with", sa.Text(), nullable=True))
    op.add_column("consent_state", sa.Column("guardian_id", sa.Text(), nullable=True))
    op.create_table(
        "guardian",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("member_id", sa.Text(), nullable=False),
        sa.Column("relation", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("guardian_member_id", sa.Text(), nullable=True),
        sa.Column("contact_point_id", sa.Text(), nullable=True),
        sa.Column("cells", sa.LargeBinary(), nullable=True),
        sa.Column("code_mac", sa.LargeBinary(), nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("expires_us", sa.BigInteger(), nullable=False),
        sa.Column("proven_us", sa.BigInteger(), nullable=True),
        sa.Column("ended_us", sa.BigInteger(), nullable=True),
        sa.Column("recorded_by", sa.Text(), nullable=False),
        sa.Column("created_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_guardian")),
    )
    op.create_index("ix_guardian_member", "guardian", ["member_id"], unique=False)
    op.create_index("ix_guardian_guardian_member", "guardian", ["guardian_member_id"], unique=False)
    op.create_table(
        "suppression",
        sa.Column("tag", sa.LargeBinary(), nullable=False),
        sa.Column("purpose", sa.Text(), nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("since_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("tag", "purpose", "channel", name=op.f("pk_suppression")),
        sqlite_with_rowid=False,
    )
