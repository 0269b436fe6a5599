"""Drafts of one tick become numbered, sealed, chained events: what is one for both databases, and the two of them."""
