"""Twisted both ways: its reactor on our pollers, our loop on its reactor."""

__all__: list[str] = []
