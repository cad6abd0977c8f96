"""The keys of a bucket in the order in which they are rewrapped, whole in the index."""

from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.drop_index("ix_vault_key_bucket", "vault_key")
    op.create_index("ix_vault_key_bucket", "vault_key", ["bucket", "owner_id", "kind", "version"])
