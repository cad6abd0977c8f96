"""Indexes of the trail: by actor, by request, and over what was denied."""

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_audit_event_actor", "audit_event", ["actor", "id"], unique=False)
    op.create_index("ix_audit_event_request", "audit_event", ["request_id"], unique=False)
    op.create_index(
        "ix_audit_event_denied",
        "audit_event",
        ["id"],
        unique=False,
        postgresql_where=sa.text("decision = 'deny'"),
        sqlite_where=sa.text("decision = 'deny'"),
    )
