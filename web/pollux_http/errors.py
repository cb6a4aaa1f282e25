"""Errors of the HTTP layer. This module imports nothing of the room."""


class HTTPInputError(Exception):
    """The peer's message is malformed or past a limit.

    :param status: what a server answers: 400 unless something more exact fits.
    """

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status
