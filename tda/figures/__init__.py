"""Pictures of results; nothing here computes a score."""
