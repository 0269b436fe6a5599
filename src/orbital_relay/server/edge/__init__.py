"""The edge: from an accepted connection to WebSocket frames; handshake, upgrade, compression, HTTP deadlines."""
