"""Members: identity, contact points, validation, deduplication, import and merge."""
