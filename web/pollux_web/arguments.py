"""`Arguments`: the part of a handler that reads the arguments of a request, in its query and its form."""

from __future__ import annotations

import re
from typing import Any

from pollux_web.errors import HTTPError, MissingArgumentError
from pollux_web.responder import Responder

_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f]")  # become spaces, as in Tornado: no text has them

_REQUIRED: Any = object()  # the default of get_argument: there is none


class Arguments(Responder):
    """What a handler is asked. See `RequestHandler`."""

    def get_argument(self, name: str, default: Any = _REQUIRED, strip: bool = True) -> Any:
        """Return the last value of an argument of query or body, as str.

        :param default: returned if there is none.
        :param strip: without white space at its ends.
        :raises MissingArgumentError: (400) there is none, and no default.
        """
        return self._last(self.request.arguments, name, default, strip)

    def get_arguments(self, name: str, strip: bool = True) -> list[str]:
        """Return all values of an argument of query and body, [] if there is none."""
        return self._decode(self.request.arguments.get(name, []), name, strip)

    def get_query_argument(self, name: str, default: Any = _REQUIRED, strip: bool = True) -> Any:
        """As `get_argument`, of the query only."""
        return self._last(self.request.query_arguments, name, default, strip)

    def get_query_arguments(self, name: str, strip: bool = True) -> list[str]:
        """As `get_arguments`, of the query only."""
        return self._decode(self.request.query_arguments.get(name, []), name, strip)

    def get_body_argument(self, name: str, default: Any = _REQUIRED, strip: bool = True) -> Any:
        """As `get_argument`, of the body only: a form, urlencoded or multipart."""
        return self._last(self.request.body_arguments, name, default, strip)

    def get_body_arguments(self, name: str, strip: bool = True) -> list[str]:
        """As `get_arguments`, of the body only."""
        return self._decode(self.request.body_arguments.get(name, []), name, strip)

    def _last(self, source: dict[str, list[bytes]], name: str, default: Any, strip: bool) -> Any:
        values = source.get(name)
        if values:
            return self._decode(values[-1:], name, strip)[0]
        if default is _REQUIRED:
            raise MissingArgumentError(name)
        return default

    def _decode(self, values: list[bytes], name: str, strip: bool) -> list[str]:
        texts = [_CONTROL.sub(" ", self.decode_argument(value, name)) for value in values]
        return [text.strip() for text in texts] if strip else texts

    def decode_argument(self, value: bytes, name: str | None = None) -> str:
        """Decode an argument of the query, the form or the path; override it for other encodings than UTF-8.

        :param name: None for a group of the path that has none.
        :raises HTTPError: (400) it is not UTF-8.
        """
        try:
            return value.decode()
        except UnicodeDecodeError:
            raise HTTPError(400, "Invalid unicode in %s: %r", name or "url", value[:40]) from None
