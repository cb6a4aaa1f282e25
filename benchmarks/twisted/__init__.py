"""Twisted's echo server: CPU time of reactors per message."""
