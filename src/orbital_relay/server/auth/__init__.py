"""Authentication: credentials, tokens, keys, tickets, revocations and passwords."""
