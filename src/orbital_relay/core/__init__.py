"""What decides and never waits: plain functions of their inputs, time included."""
