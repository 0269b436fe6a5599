"""
End-to-end encryption for Orbital: Signal's Sender Keys with a signed roster.

docs/reference/encryption.md states the formats, the state machines, and what each failure looks like. It needs the
extra `e2ee`: `pip install orbital-relay[e2ee]`.
"""
