"""txMySQL's names over a maintained asyncio driver: Deferreds that can be awaited as well."""

__all__: list[str] = []
