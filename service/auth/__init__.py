"""Authentication: internal apps by client credentials, members by one-time code."""
