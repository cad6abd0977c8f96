"""A fresh code opens one thing in one browser: sessions remember what it was answered for."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("portal_session", sa.Column("proven_for", sa.Text(), nullable=True))
    op.add_column("portal_session", sa.Column("proven_us", sa.BigInteger(), nullable=True))
