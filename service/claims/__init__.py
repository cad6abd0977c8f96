"""Claims: a contact that somebody typed, and what waits until they prove that it is theirs."""

from service.claims.repository import Claim
from service.claims.service import CLAIM_CODE_WANTED, CODE_TRIES, Claims

__all__ = ["CLAIM_CODE_WANTED", "CODE_TRIES", "Claim", "Claims"]
