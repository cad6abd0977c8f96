"""Tickets: the proof that a disclosure is on record, without which no cell opens.

The audit room makes one after the event has committed; the vault checks that it speaks of this
owner and covers these fields. So a code path that forgets to audit cannot read.
"""

from typing import NamedTuple


class AccessTicket(NamedTuple):
    """Says: the event `event_id` is durable and allows these fields of this owner."""

    event_id: str
    owner_id: str
    fields: frozenset[str]
