"""The wire formats of end-to-end encryption, byte for byte as docs/reference/encryption.md states them."""
