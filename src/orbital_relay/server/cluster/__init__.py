"""State that the servers of a cluster share through Redis."""
