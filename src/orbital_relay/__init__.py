"""Orbital: a self-hosted real-time relay for small groups whose messages are end-to-end encrypted."""

__version__ = "0.1.0"
