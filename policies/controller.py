"""Who decides why and how data is used: what the installation says about itself.

Facts of the customer, not of the pack: they stand on receipts and in the record of processing
(GDPR art. 30(1)(a), PDPA s.39(3)). What was not configured is said to be so, never invented.
"""

from dataclasses import dataclass

NOT_CONFIGURED = "not configured"


@dataclass(frozen=True, slots=True)
class Controller:
    """The controller and how it is reached; empty where nobody configured it."""

    tenant: str
    name: str = ""
    contact: str = ""
    dpo_contact: str = ""
    address: str = ""
    storage_location: str = ""

    def said(self, fact: str) -> str:
        """Give one fact, or the words that say it was not configured."""
        value: str = getattr(self, fact)
        return value or NOT_CONFIGURED
