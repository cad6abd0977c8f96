"""Accounts, the points ledger and its open lots, purchases, coupons, and what merges moved.

Plain and pseudonymous: a row leads to a person only by `member_id`, and an erasure cuts that.
"""

from sqlalchemy import BigInteger, Column, Index, Integer, LargeBinary, Table, Text

from kernel import GOVERNED, metadata

loyalty_account = Table(
    "loyalty_account",
    metadata,
    Column("member_id", Text, primary_key=True),
    Column("tier", Text, nullable=False),
    Column("points_balance", BigInteger, nullable=False),
    Column("activity_class", Text),
    Column("branch", Text),
    Column("tags", Text, nullable=False),
    Column("coupons", Integer, nullable=False),
    Column("purchases", Integer, nullable=False),
    Column("last_purchase_us", BigInteger),
    Column("review_us", BigInteger),
    Column("updated_us", BigInteger, nullable=False),
    sqlite_with_rowid=False,
    info=GOVERNED,
)
Index("ix_loyalty_account_review", loyalty_account.c.review_us)

points_entry = Table(
    "points_entry",
    metadata,
    Column("id", Text, primary_key=True),
    Column("member_id", Text),
    Column("kind", Text, nullable=False),
    Column("points", BigInteger, nullable=False),
    Column("at_us", BigInteger, nullable=False),
    Column("expires_us", BigInteger),
    Column("client_id", Text, nullable=False),
    Column("reference", Text),
    info=GOVERNED,
)
Index("ix_points_entry_member", points_entry.c.member_id, points_entry.c.at_us)
Index("uq_points_entry_reference", points_entry.c.client_id, points_entry.c.reference, unique=True)

points_lot = Table(
    "points_lot",
    metadata,
    Column("entry_id", Text, primary_key=True),
    Column("member_id", Text, nullable=False),
    Column("remaining", BigInteger, nullable=False),
    Column("expires_us", BigInteger, nullable=False),
    sqlite_with_rowid=False,
    info=GOVERNED,
)
Index("ix_points_lot_member", points_lot.c.member_id, points_lot.c.expires_us)
Index("ix_points_lot_expires", points_lot.c.expires_us)

purchase = Table(
    "purchase",
    metadata,
    Column("id", Text, primary_key=True),
    Column("member_id", Text),
    Column("client_id", Text, nullable=False),
    Column("reference", Text),
    Column("at_us", BigInteger, nullable=False),
    Column("amount_milli", BigInteger, nullable=False),
    Column("currency", Text, nullable=False),
    Column("items", Integer),
    Column("branch", Text),
    Column("points", BigInteger, nullable=False),
    Column("recorded_us", BigInteger, nullable=False),
    info=GOVERNED,
)
Index("ix_purchase_member", purchase.c.member_id, purchase.c.at_us)
Index("uq_purchase_reference", purchase.c.client_id, purchase.c.reference, unique=True)

coupon = Table(
    "coupon",
    metadata,
    Column("id", Text, primary_key=True),
    Column("member_id", Text, nullable=False),
    Column("offer", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("issued_us", BigInteger, nullable=False),
    Column("expires_us", BigInteger, nullable=False),
    Column("used_us", BigInteger),
    info=GOVERNED,
)
Index("ix_coupon_member", coupon.c.member_id)
Index("ix_coupon_expires", coupon.c.state, coupon.c.expires_us)

loyalty_merge = Table(
    "loyalty_merge",
    metadata,
    Column("merge_id", Text, primary_key=True),
    Column("into_id", Text, nullable=False),
    Column("merged_id", Text, nullable=False),
    Column("moved", LargeBinary, nullable=False),
    Column("at_us", BigInteger, nullable=False),
    sqlite_with_rowid=False,
    info=GOVERNED,
)
Index("ix_loyalty_merge_into", loyalty_merge.c.into_id)
Index("ix_loyalty_merge_merged", loyalty_merge.c.merged_id)
