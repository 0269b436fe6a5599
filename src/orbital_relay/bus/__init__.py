"""The bus (pub/sub between servers): how servers notify each other of new events."""
