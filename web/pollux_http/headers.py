"""`HTTPHeaders`: a mapping of header names, in any case, to values; a name may have several.

RFC 9110 5.2 and 5.3: several fields of one name mean the same as one field with their values joined by ", ", save for
Set-Cookie, which is never joined.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from functools import lru_cache

from pollux_http.errors import HTTPInputError

# RFC 9110 5.6.2 token; RFC 9110 5.5 field-value: ISO-8859-1 without control characters save HTAB. C1 controls are
# obs-text and allowed: what a peer sent may hold them.
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_FORBIDDEN_IN_VALUE = re.compile(r"[^\t\x20-\x7e\x80-\xff]")


OPTIONAL_SPACE = " \t"  # RFC 9110 5.6.3: what may surround a value; other white space is part of it


@lru_cache(1024)  # names repeat: a process sees a few dozen; the bound is for clients that invent them
def normalize(name: str) -> str:
    """Return a header name in its usual form: `content-TYPE` becomes `Content-Type`."""
    return "-".join([part.capitalize() for part in name.split("-")])


def problem_of(name: str, value: str) -> str | None:
    """Return what is wrong with a header field, None if nothing: the only rule for names and values there is."""
    if not _TOKEN.fullmatch(name):
        return f"a header name is made of token characters, got {name!r}"
    if not (value.isascii() and value.isprintable()) and _FORBIDDEN_IN_VALUE.search(value):
        return f"a header value is ISO-8859-1 without CR, LF or other control characters, got {name}: {value!r}"
    return None


class HTTPHeaders(MutableMapping[str, str]):
    """Header fields. `h[name]` is all values of a name joined by ","; `get_list` keeps them apart.

    Takes what `dict` takes. Setting a value replaces all of that name; `add` adds one.
    """

    __slots__ = ("_fields", "_last_name")

    def __init__(self, fields: Mapping[str, str] | Iterable[tuple[str, str]] | None = None, /, **kwargs: str) -> None:
        self._fields: dict[str, list[str]] = {}
        self._last_name = ""  # of the line that `parse_line` took last
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
        self._last_name = ""
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

        :raises HTTPInputError: the name is no token, or the value contains a control character or one above ISO-8859-1
            (RFC 9110 5.5).
        """
        if (problem := problem_of(name, value)) is not None:
            raise HTTPInputError(problem)
        self._fields.setdefault(normalize(name), []).append(value)

    @classmethod
    def parse(cls, text: str) -> HTTPHeaders:
        """Make one of a block of header lines, as in `"A: 1\\r\\nB: 2\\r\\n"`.

        :raises HTTPInputError: a line is malformed.
        """
        headers = cls()
        for line in text.split("\n"):
            if line.removesuffix("\r"):
                headers.parse_line(line)
        return headers

    def parse_line(self, line: str) -> None:
        """Add the field of one header line; one that begins with white space goes on with the value before it.

        :raises HTTPInputError: the line is malformed.
        """
        line = line.removesuffix("\n").removesuffix("\r")
        if line[:1] in (" ", "\t"):  # obs-fold, RFC 9112 5.2
            name = self._last_name
            values = self._fields.get(name)
            if values is None:
                raise HTTPInputError(f"the first header line is no continuation, got {line!r}")
            joined = f"{values[-1]} {line.strip(OPTIONAL_SPACE)}"
            if (problem := problem_of(name, joined)) is not None:
                raise HTTPInputError(problem)
            values[-1] = joined
        else:
            name, colon, value = line.partition(":")
            if not colon:
                raise HTTPInputError(f"a header line is 'name: value', got {line!r}")
            self.add(name, value.strip(OPTIONAL_SPACE))
            self._last_name = normalize(name)

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
