"""A daily budget of distinct members for each client."""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("client", sa.Column("members_a_day", sa.BigInteger(), nullable=True))
    op.create_table(
        "member_budget",
        sa.Column("client_id", sa.Text(), nullable=False),
        sa.Column("day", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("mark", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("client_id", "day", "mark", name=op.f("pk_member_budget")),
    )
