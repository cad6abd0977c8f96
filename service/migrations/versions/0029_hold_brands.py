"""Whose a hold is: the brand in whose name it was placed, which alone may release it.

A hold from before bears none and is, like one placed for every brand, the whole installation's.
"""

import sqlalchemy as sa
from alembic import op

revision = "0029"
down_revision = "0028"
branch_labels = None
depends_on = None

_FIXED = (
    *("rowid", "id", "reason", "from_us", "until_us"),
    *("action", "by_subject", "placed_us", "brand"),
)


def upgrade() -> None:
    op.add_column("audit_hold", sa.Column("brand", sa.Text(), nullable=True))
    if op.get_bind().dialect.name == "postgresql":
        return  # its guard compares whole rows
    same = " AND ".join(f"NEW.{name} IS OLD.{name}" for name in _FIXED)
    released = f"OLD.released_us IS NULL AND NEW.released_us IS NOT NULL AND {same}"
    op.execute("DROP TRIGGER audit_hold_no_update")
    op.execute(
        f"CREATE TRIGGER audit_hold_no_update BEFORE UPDATE ON audit_hold WHEN NOT ({released}) "
        "BEGIN SELECT RAISE(ABORT, 'audit_hold is append-only'); END"
    )
