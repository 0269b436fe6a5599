"""The server: HTTP, the WebSocket edge, authentication, limits, and operations."""
