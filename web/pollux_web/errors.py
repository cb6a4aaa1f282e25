"""`HTTPError`: what a handler raises to end a request with a status."""

from __future__ import annotations

from pollux_http.response import check_reason, reason_phrase


class HTTPError(Exception):
    """End the request with an error status; `RequestHandler.write_error` makes the page.

    :param status_code: 400 to 599 as a rule.
    :param log_message: for the log, never for the client; `%`-formatted with `args` if there are any.
    :param reason: the reason phrase, for the client; None for the usual one.
    """

    def __init__(
        self, status_code: int = 500, log_message: str | None = None, *args: object, reason: str | None = None
    ) -> None:
        super().__init__(status_code, log_message, *args)
        self.status_code = status_code
        self.log_message = log_message
        self.args = args
        self.reason = check_reason(reason) if reason is not None else None

    def __str__(self) -> str:
        message = f"HTTP {self.status_code}: {self.reason or reason_phrase(self.status_code)}"
        if self.log_message is None:
            return message
        return f"{message} ({self.log_message % self.args if self.args else self.log_message})"


class MissingArgumentError(HTTPError):
    """A required argument is missing: 400. `arg_name` says which."""

    def __init__(self, arg_name: str) -> None:
        super().__init__(400, f"Missing argument {arg_name}")
        self.arg_name = arg_name
