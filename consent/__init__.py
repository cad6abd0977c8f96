"""Consent (being laid)."""
