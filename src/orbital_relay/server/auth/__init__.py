"""Who a request speaks for: credentials, tokens, keys, tickets, revocations and passwords."""
