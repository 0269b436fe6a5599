"""Operations: metrics, logging, the clock, and the supervisor of worker processes."""
