"""The server: HTTP, the WebSocket edge, and who may come in."""
