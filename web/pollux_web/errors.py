"""`HTTPError`, `MissingArgumentError`, `Finish`: what a handler raises to end a request."""

from __future__ import annotations

from typing import Any

from pollux_http.response import check_reason, reason_phrase


class HTTPError(Exception):
    """End the request with an error status; `RequestHandler.write_error` makes the page.

    :param status_code: 400 to 599 as a rule.
    :param log_message: for the log, never for the client; `%`-formatted with `args` if there are any.
    :param reason: the reason phrase, for the client; None for the usual one.
    :raises ValueError: the reason contains CR, LF or another control character.
    """

    def __init__(
        self, status_code: int = 500, log_message: str | None = None, *args: object, reason: str | None = None
    ) -> None:
        super().__init__(status_code, log_message, *args)
        self.status_code = status_code
        self.log_message = log_message
        self.args = args
        self.reason = check_reason(reason) if reason is not None else None

    def get_message(self) -> str | None:
        """Return the message for the log, formatted; None if there is none."""
        if self.log_message is None or not self.args:
            return self.log_message
        return self.log_message % self.args

    def __str__(self) -> str:
        message = f"HTTP {self.status_code}: {self.reason or reason_phrase(self.status_code)}"
        if self.log_message is None:
            return message
        return f"{message} ({self.get_message()})"


class MissingArgumentError(HTTPError):
    """A required argument is missing: 400. `arg_name` says which."""

    def __init__(self, arg_name: str) -> None:
        super().__init__(400, "Missing argument %s", arg_name)
        self.arg_name = arg_name


class Finish(Exception):  # noqa: N818  # Tornado's name
    """End the request without an error: what was written and set is sent, unless it is finished already.

    :param args: for `RequestHandler.finish`: `raise Finish("done")`.
    """

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
