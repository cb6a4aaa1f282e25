"""`HTTPHeaders`: a mapping of header names, in any case, to values; a name may have several.

RFC 9110 5.2 and 5.3: several fields of one name mean the same as one field with their values joined by ", ", save for
Set-Cookie, which is never joined.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from functools import lru_cache

from pollux_http.errors import HTTPInputError

# RFC 9110 5.6.2 token; RFC 9110 5.5 field-value: no control character save HTAB.
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_FORBIDDEN_IN_VALUE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


@lru_cache(1024)  # names repeat: a process sees a few dozen; the bound is for clients that invent them
def normalize(name: str) -> str:
    """Return a header name in its usual form: `content-TYPE` becomes `Content-Type`."""
    return "-".join([part.capitalize() for part in name.split("-")])


class HTTPHeaders(MutableMapping[str, str]):
    """Header fields. `h[name]` is all values of a name joined by ","; `get_list` keeps them apart.

    Takes what `dict` takes. Setting a value replaces all of that name; `add` adds one.
    """

    __slots__ = ("_fields",)

    def __init__(self, fields: Mapping[str, str] | Iterable[tuple[str, str]] | None = None, /, **kwargs: str) -> None:
        self._fields: dict[str, list[str]] = {}
        if isinstance(fields, HTTPHeaders):
            self._fields = {name: values.copy() for name, values in fields._fields.items()}
        elif fields is not None:
            self.update(fields)
        self.update(kwargs)

    @classmethod
    def from_raw(cls, fields: Iterable[tuple[bytes, bytes]]) -> HTTPHeaders:
        """Make one of what the parser found: bytes that are known to be well-formed (decoded as ISO-8859-1)."""
        self = cls.__new__(cls)
        result: dict[str, list[str]] = {}
        self._fields = result
        for raw_name, raw_value in fields:
            name = normalize(raw_name.decode("latin-1"))
            value = raw_value.decode("latin-1")
            if name in result:
                result[name].append(value)
            else:
                result[name] = [value]
        return self

    def add(self, name: str, value: str) -> None:
        """Add a field, beside those that are there.

        :raises HTTPInputError: the name is no token, or the value contains a control character (RFC 9110 5.5).
        """
        if not _TOKEN.fullmatch(name):
            raise HTTPInputError(f"a header name is made of token characters, got {name!r}")
        if _FORBIDDEN_IN_VALUE.search(value):
            raise HTTPInputError(f"a header value holds no CR, LF or other control character, got {name}: {value!r}")
        self._fields.setdefault(normalize(name), []).append(value)

    def get_list(self, name: str) -> list[str]:
        """Return all values of `name`, an empty list if there is none."""
        return self._fields.get(normalize(name), []).copy()

    def get_all(self) -> Iterator[tuple[str, str]]:
        """Yield every (name, value); a name with several values comes several times."""
        for name, values in self._fields.items():
            for value in values:
                yield name, value

    def copy(self) -> HTTPHeaders:
        """Return a copy that can be changed alone."""
        return HTTPHeaders(self)

    def __getitem__(self, name: str) -> str:
        return ",".join(self._fields[normalize(name)])

    def __setitem__(self, name: str, value: str) -> None:
        key = normalize(name)
        before = self._fields.pop(key, None)
        try:
            self.add(name, value)
        except BaseException:
            if before is not None:
                self._fields[key] = before
            raise

    def __delitem__(self, name: str) -> None:
        del self._fields[normalize(name)]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and normalize(name) in self._fields

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({list(self.get_all())!r})"

    def __str__(self) -> str:
        return "".join(f"{name}: {value}\n" for name, value in self.get_all())
