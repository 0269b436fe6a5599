"""Client sessions: admission, one session per connection, the registry of all of them, and presence."""
