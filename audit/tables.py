"""The trail: events, the queue in front of the log, leaves, tiles and checkpoints.

Beside an event that speaks of many members lie the rows of its manifest, and an index by token.
Search columns and index only repeat what is hashed and are never trusted: the verifier reads that.
Triggers (in the migrations) fill the queue and refuse every change of what is written; a body is
deleted only where `audit_pruned` names its place and no hold covers it, and its rows go with it.
A sealed detail loses its link to a member or its ciphertext, and nothing else; a review of the
read that it belongs to is written once.
The row of the head is the sequencer's lease as well: who leads, until when, under which fencing
number; and it names the key that alone may sign the next one.
"""

from sqlalchemy import BigInteger, Column, Index, Integer, LargeBinary, Table, Text

from kernel import GOVERNED, TRAIL, metadata

audit_event = Table(
    "audit_event",
    metadata,
    Column("id", Text, primary_key=True),
    Column("recorded_us", BigInteger, nullable=False),
    Column("subject", Text),
    Column("actor", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("purpose", Text),
    Column("decision", Text),
    Column("request_id", Text),
    Column("body", LargeBinary, nullable=False),
    info=TRAIL,
)
Index("ix_audit_event_subject", audit_event.c.subject, audit_event.c.id)
Index("ix_audit_event_actor", audit_event.c.actor, audit_event.c.id)
Index("ix_audit_event_request", audit_event.c.request_id)
Index(
    "ix_audit_event_denied",
    audit_event.c.id,
    postgresql_where=audit_event.c.decision == "deny",
    sqlite_where=audit_event.c.decision == "deny",
)

audit_manifest = Table(
    "audit_manifest",
    metadata,
    Column("event_id", Text, primary_key=True),
    Column("width", Integer, nullable=False),
    Column("rows", LargeBinary, nullable=False),
)

audit_manifest_token = Table(
    "audit_manifest_token",
    metadata,
    Column("token", Text, primary_key=True),
    Column("event_id", Text, primary_key=True, index=True),
    Column("place", Integer, nullable=False),
    sqlite_with_rowid=False,
)

audit_pending = Table(
    "audit_pending",
    metadata,
    Column("event_id", Text, primary_key=True),
    sqlite_with_rowid=False,
)

audit_leaf = Table(
    "audit_leaf",
    metadata,
    Column("leaf_index", BigInteger, primary_key=True, autoincrement=False),
    Column("event_id", Text, nullable=False, unique=True),
    Column("leaf_hash", LargeBinary, nullable=False),
)

audit_tile = Table(
    "audit_tile",
    metadata,
    Column("level", Integer, primary_key=True, autoincrement=False),
    Column("n", BigInteger, primary_key=True, autoincrement=False),
    Column("data", LargeBinary, nullable=False),
    sqlite_with_rowid=False,
)

audit_checkpoint = Table(
    "audit_checkpoint",
    metadata,
    Column("size", BigInteger, primary_key=True, autoincrement=False),
    Column("root", LargeBinary, nullable=False),
    Column("note", Text, nullable=False),
    Column("created_us", BigInteger, nullable=False),
)

audit_cosignature = Table(
    "audit_cosignature",
    metadata,
    Column("size", BigInteger, primary_key=True, autoincrement=False),
    Column("witness", Text, primary_key=True),
    Column("line", Text, nullable=False),
    Column("created_us", BigInteger, nullable=False),
)

audit_head = Table(
    "audit_head",
    metadata,
    Column("origin", Text, primary_key=True),
    Column("size", BigInteger, nullable=False),
    Column("fence", BigInteger, nullable=False, server_default="0"),
    Column("holder", Text),
    Column("lease_until_us", BigInteger, nullable=False, server_default="0"),
    Column("refused", Text),
    Column("vkey", Text),
)

audit_key = Table(
    "audit_key",
    metadata,
    Column("size", BigInteger, primary_key=True, autoincrement=False),
    Column("origin", Text, nullable=False),
    Column("old_vkey", Text, nullable=False),
    Column("new_vkey", Text, nullable=False),
    Column("note", Text, nullable=False),
    Column("event_id", Text, nullable=False),
    Column("rotated_us", BigInteger, nullable=False),
)

audit_anchor = Table(
    "audit_anchor",
    metadata,
    Column("size", BigInteger, primary_key=True, autoincrement=False),
    Column("sink", Text, primary_key=True),
    Column("receipt", Text, nullable=False),
    Column("anchored_us", BigInteger, nullable=False),
)
Index("ix_audit_anchor_sink", audit_anchor.c.sink, audit_anchor.c.size)

audit_origin = Table(
    "audit_origin",
    metadata,
    Column("origin", Text, primary_key=True),
    Column("size", BigInteger, nullable=False),
    Column("note", Text, nullable=False),
    Column("vkey", Text, nullable=False),
    Column("event_id", Text, nullable=False),
    Column("closed_us", BigInteger, nullable=False),
)

rights_ledger = Table(
    "rights_ledger",
    metadata,
    Column("id", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("subject", LargeBinary, nullable=False),
    Column("at_us", BigInteger, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("position", BigInteger, unique=True),
    Column("link", LargeBinary),
)
Index(
    "ix_rights_ledger_waiting",
    rights_ledger.c.id,
    postgresql_where=rights_ledger.c.position.is_(None),
    sqlite_where=rights_ledger.c.position.is_(None),
)

audit_pruned = Table(
    "audit_pruned",
    metadata,
    Column("first_index", BigInteger, primary_key=True, autoincrement=False),
    Column("last_index", BigInteger, nullable=False),
    Column("event_id", Text, nullable=False, index=True),
    Column("from_us", BigInteger, nullable=False),
    Column("until_us", BigInteger, nullable=False),
    Column("due_us", BigInteger, nullable=False),
    info=GOVERNED,
)

audit_detail = Table(
    "audit_detail",
    metadata,
    Column("event_id", Text, primary_key=True),
    Column("member_id", Text, index=True),
    Column("ciphertext", LargeBinary),
    Column("dropped_by", Text),
    Column("due_us", BigInteger),
    info=GOVERNED,
    sqlite_with_rowid=False,
)

audit_review = Table(
    "audit_review",
    metadata,
    Column("event_id", Text, primary_key=True),
    Column("reviewed_by", Text, nullable=False),
    info=GOVERNED,
    sqlite_with_rowid=False,
)
Index("ix_audit_review_reviewed_by", audit_review.c.reviewed_by, unique=True)

audit_hold = Table(
    "audit_hold",
    metadata,
    Column("id", Text, primary_key=True),
    Column("reason", Text, nullable=False),
    Column("from_us", BigInteger),
    Column("until_us", BigInteger),
    Column("action", Text),
    Column("by_subject", Integer, nullable=False),
    Column("placed_us", BigInteger, nullable=False),
    Column("released_us", BigInteger),
    Column("brand", Text),
    info=GOVERNED,
)

audit_hold_subject = Table(
    "audit_hold_subject",
    metadata,
    Column("hold_id", Text, primary_key=True),
    Column("token", Text, primary_key=True),
    sqlite_with_rowid=False,
    info=GOVERNED,
)
Index("ix_audit_hold_subject_token", audit_hold_subject.c.token)
