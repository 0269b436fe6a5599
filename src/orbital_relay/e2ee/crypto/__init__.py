"""Cryptography of end-to-end encryption; every primitive is the `cryptography` library's or the standard library's."""
