"""The bus: how servers notify each other of new events."""
