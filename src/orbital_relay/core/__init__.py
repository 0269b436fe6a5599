"""Pure decisions without I/O: plain functions of their inputs, time included."""
