"""A small synchronous database module: SQLite, and MySQL by a URL."""

__all__: list[str] = []
