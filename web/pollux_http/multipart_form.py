r"""Forms of type multipart/form-data (RFC 7578): fields and uploaded files, from a body that is there in whole.

The parser is `multipart` (2.x): it pushes parts as they are parsed, has limits of its own, is strict when asked to be,
and has the larger half of its tests in hostile input. Decided against python-multipart, which calls back for each piece
of each header and leaves all limits to its callers, after a run of reports of quadratic time.

RFC 7578 4.2 forbids `filename*`, and it is ignored. A filename of the form C:\dir\file loses its directories.

Limits hold for the whole form, not for a part: what one part may hold the body may hold (`max_body_size`), but each
part costs an object, each of its headers a line.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import Any

from pollux.errors import MissingExtraError
from pollux_http.errors import HTTPInputError

MAX_PARTS = 100  # in one form, Tornado's limit
MAX_PART_HEADERS = 10 * 1024  # bytes in one line of a part's headers, Tornado's limit

_BOUNDARY = re.compile(r';\s*boundary\s*=\s*(?:"([^"]{1,70})"|([^\s;"]{1,70}))', re.IGNORECASE)  # RFC 2046 5.1.1: 70


@dataclass(frozen=True, slots=True)
class HTTPFile:
    """A file that was uploaded in a form. Its attributes are also its items: `file["body"]`, as in Tornado.

    :ivar filename: as the client sent it: never a path to write to.
    :ivar body: bytes.
    :ivar content_type: as the client sent it, "application/unknown" if it did not.
    """

    filename: str
    body: bytes
    content_type: str

    def __getitem__(self, name: str) -> Any:
        if name not in self.__slots__:
            raise KeyError(name)
        return getattr(self, name)


@dataclass(slots=True)
class MultipartForm:
    """What a form contained: the values of its fields, and its files, by name."""

    arguments: dict[str, list[bytes]]
    files: dict[str, list[HTTPFile]]


def boundary_of(content_type: str) -> str | None:
    """Return the boundary that a content type names; None if it is not multipart/form-data."""
    if content_type.partition(";")[0].strip().lower() != "multipart/form-data":
        return None
    found = _BOUNDARY.search(content_type)
    if found is None:
        raise HTTPInputError("multipart/form-data without a boundary (RFC 7578 4.1)")
    return found[1] or found[2]


def parse_multipart(
    boundary: str, body: bytes, *, max_parts: int = MAX_PARTS, max_part_headers: int = MAX_PART_HEADERS
) -> MultipartForm:
    """Take a form apart.

    :param max_parts: fields and files together.
    :param max_part_headers: bytes of one header line of a part.
    :raises HTTPInputError: it is malformed or past a limit; what was read by then is dropped.
    :raises MissingExtraError: the parser is not installed.
    """
    parser_class, error_class = _parser()
    form = MultipartForm({}, {})
    segment: Any = None
    pieces: list[bytes] = []
    try:
        with parser_class(
            boundary,
            content_length=len(body),
            max_segment_count=max_parts,
            max_header_size=max_part_headers,
            strict=True,
        ) as parser:
            for event in parser.parse(body) if body else ():
                if event is None:
                    _add(form, segment, b"".join(pieces))
                    pieces.clear()
                elif isinstance(event, (bytes, bytearray, memoryview)):
                    pieces.append(bytes(event))
                else:
                    segment = event
    except error_class as error:
        raise HTTPInputError(f"malformed multipart/form-data: {error}") from None
    return form


def _add(form: MultipartForm, segment: Any, content: bytes) -> None:
    if segment.filename:  # a field for a file that was left empty has the name ""
        kind = segment.header("Content-Type", "application/unknown")
        form.files.setdefault(segment.name, []).append(HTTPFile(segment.filename, content, kind))
    else:
        form.arguments.setdefault(segment.name, []).append(content)


@cache
def _parser() -> tuple[Any, type[Exception]]:
    """Import the parser when a form comes: most servers never see one."""
    try:
        from multipart import MultipartError, PushMultipartParser  # type: ignore[import-untyped, unused-ignore]
    except ImportError as error:
        raise MissingExtraError("multipart forms need multipart: pip install 'pollux[web]'") from error
    return PushMultipartParser, MultipartError
