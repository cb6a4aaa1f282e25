"""TCP echo: CPU time of servers per message."""
