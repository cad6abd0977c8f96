"""Kernel (being laid)."""
