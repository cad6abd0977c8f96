"""Tables that belong to no single room: epochs, the outbox, jobs and idempotency keys."""

from sqlalchemy import BigInteger, Column, Index, Integer, LargeBinary, Table, Text

from kernel.db import metadata
from kernel.governance import GOVERNED

registry_fact = Table(
    "registry_fact",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", Text, nullable=False),
    info=GOVERNED,
)

epoch = Table(
    "epoch",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", BigInteger, nullable=False),
)

outbox = Table(
    "outbox",
    metadata,
    Column("id", Text, primary_key=True),
    Column("topic", Text, nullable=False),
    Column("payload", LargeBinary, nullable=False),
    Column("created_us", BigInteger, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("due_us", BigInteger, nullable=False),
    Column("delivered_us", BigInteger),
)
Index(
    "ix_outbox_waiting",
    outbox.c.id,
    postgresql_where=outbox.c.delivered_us.is_(None),
    sqlite_where=outbox.c.delivered_us.is_(None),
)

job = Table(
    "job",
    metadata,
    Column("id", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("payload", LargeBinary, nullable=False),
    Column("urgency", Integer, nullable=False),
    Column("run_at_us", BigInteger, nullable=False),
    Column("state", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("lease_until_us", BigInteger, nullable=False),
    Column("failure", Text),
    Column("ended_us", BigInteger),
)
Index(
    "ix_job_open",
    job.c.urgency,
    job.c.run_at_us,
    postgresql_where=job.c.ended_us.is_(None),
    sqlite_where=job.c.ended_us.is_(None),
)

idempotency = Table(
    "idempotency",
    metadata,
    Column("caller", Text, primary_key=True),
    Column("route", Text, primary_key=True),
    Column("key_hash", LargeBinary, primary_key=True),
    Column("request_hash", LargeBinary, nullable=False),
    Column("status", Integer),
    Column("result", LargeBinary),
    Column("created_us", BigInteger, nullable=False),
)
Index("ix_idempotency_created", idempotency.c.created_us)
