"""`Row`: what a query returns."""

from __future__ import annotations

from typing import Any


class Row(dict[str, Any]):
    """One row: a dict of its columns, which are attributes as well (`row.name`, `row["name"]`).

    A column whose name is that of a method of dict (`items`, `keys`) is reached by its key only. Of two columns with
    one name the last counts: name them apart by `AS`.
    """

    __slots__ = ()

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"no column {name!r} in this row, which has {', '.join(self)}") from None

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value
