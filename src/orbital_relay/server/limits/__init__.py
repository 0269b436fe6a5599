"""Rate limits: counters, and the policy of what is counted for which user or address."""
