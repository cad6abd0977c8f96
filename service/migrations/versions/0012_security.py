"""Sessions remember what a fresh code was answered for; clients, whose secret is theirs."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("portal_session", sa.Column("proven_for", sa.Text(), nullable=True))
    op.add_column("portal_session", sa.Column("proven_us", sa.BigInteger(), nullable=True))
    op.add_column("client", sa.Column("person", sa.Text(), nullable=True))
