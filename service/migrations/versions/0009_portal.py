"""The portal: claims on contacts that wait for their code."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "contact_claim",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("member_id", sa.Text),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("slot", sa.Text),
        sa.Column("sealed", sa.LargeBinary, nullable=False),
        sa.Column("contact_digest", sa.LargeBinary, nullable=False),
        sa.Column("code_mac", sa.LargeBinary),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("code_expires_us", sa.BigInteger),
        sa.Column("expires_us", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_contact_claim")),
        sa.UniqueConstraint("member_id", name=op.f("uq_contact_claim_member_id")),
    )
    op.create_index("ix_contact_claim_expires", "contact_claim", ["expires_us"])
