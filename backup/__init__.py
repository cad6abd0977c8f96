"""Backup: encrypted copies that the host cannot read, and restores that forget no right."""
