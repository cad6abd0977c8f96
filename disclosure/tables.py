"""What has changed, for whoever asks; whom to tell of it, and what became of the telling.

Pseudonymous rows only: which member, what kind of change, for which purpose. No value of any
field has a column here.
"""

from sqlalchemy import BigInteger, Column, Index, Integer, LargeBinary, Table, Text

from kernel import GOVERNED, metadata

# Whom a client asked for on a day (days since the epoch, UTC): keyed digests, for that day only.
member_budget = Table(
    "member_budget",
    metadata,
    Column("client_id", Text, primary_key=True),
    Column("day", BigInteger, primary_key=True, autoincrement=False),
    Column("mark", LargeBinary, primary_key=True),
)

change_head = Table(
    "change_head",
    metadata,
    Column("name", Text, primary_key=True),
    Column("position", BigInteger, nullable=False),
    Column("dropped", BigInteger, nullable=False),
)

change = Table(
    "change",
    metadata,
    Column("position", BigInteger, primary_key=True, autoincrement=False),
    Column("message_id", Text, nullable=False),
    Column("member_id", Text, nullable=False),
    Column("type", Text, nullable=False),
    Column("purpose", Text),
    Column("channel", Text),
    Column("at_us", BigInteger, nullable=False),
    Column("noted_us", BigInteger, nullable=False),
)
Index("uq_change_message", change.c.message_id, unique=True)
Index("ix_change_member", change.c.member_id, change.c.position)
Index("ix_change_noted", change.c.noted_us)

webhook = Table(
    "webhook",
    metadata,
    Column("id", Text, primary_key=True),
    Column("client_id", Text, nullable=False),
    Column("url", Text, nullable=False),
    Column("types", Text, nullable=False),
    Column("secret", LargeBinary, nullable=False),
    Column("ring_version", Integer, nullable=False),
    Column("state", Text, nullable=False),
    Column("created_us", BigInteger, nullable=False),
    info=GOVERNED,
)
Index("ix_webhook_client", webhook.c.client_id)

webhook_delivery = Table(
    "webhook_delivery",
    metadata,
    Column("id", Text, primary_key=True),
    Column("webhook_id", Text, nullable=False),
    Column("client_id", Text, nullable=False),
    Column("message_id", Text, nullable=False),
    Column("member_id", Text, nullable=False),
    Column("pairwise_id", Text, nullable=False),
    Column("type", Text, nullable=False),
    Column("purpose", Text),
    Column("channel", Text),
    Column("at_us", BigInteger, nullable=False),
    Column("state", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("since_us", BigInteger, nullable=False),
    Column("due_us", BigInteger, nullable=False),
    Column("lease_until_us", BigInteger, nullable=False),
    Column("status", Integer),
    Column("failure", Text),
    Column("acknowledged_us", BigInteger),
)
Index(
    "uq_webhook_delivery_message",
    webhook_delivery.c.webhook_id,
    webhook_delivery.c.message_id,
    webhook_delivery.c.pairwise_id,
    unique=True,
)
Index(
    "ix_webhook_delivery_due",
    webhook_delivery.c.due_us,
    webhook_delivery.c.webhook_id,
    postgresql_where=webhook_delivery.c.state == "waiting",
    sqlite_where=webhook_delivery.c.state == "waiting",
)
Index("ix_webhook_delivery_member", webhook_delivery.c.member_id)
