"""From an accepted connection to WebSocket frames: handshake, upgrade, frames, compression, and HTTP with deadlines."""
