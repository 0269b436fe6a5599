"""Cryptographic primitives, all from the `cryptography` library or the standard library."""
