"""Web Push: notify devices whose page is closed (RFC 8030, RFC 8291, RFC 8292)."""
