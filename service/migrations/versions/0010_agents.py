"""Authorised agents: clients that sign what they ask with a key of their own."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("client", sa.Column("agent_key", sa.LargeBinary(), nullable=True))
