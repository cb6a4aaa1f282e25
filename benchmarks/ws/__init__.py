"""WebSocket echo: CPU time of servers per message."""
