"""Rate limits: the counters, and the policy that says what is counted for whom."""
