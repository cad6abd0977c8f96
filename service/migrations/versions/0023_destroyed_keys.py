"""How many keys of a bucket were destroyed since the last seal, beside the note that some were."""

import sqlalchemy as sa
from alembic import op

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "vault_destroyed", sa.Column("keys", sa.Integer(), nullable=False, server_default="1")
    )
    with op.batch_alter_table("vault_destroyed") as table:
        table.alter_column("keys", server_default=None)
