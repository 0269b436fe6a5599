"""The append transaction: drafts become numbered, sealed, chained events, on either database."""
