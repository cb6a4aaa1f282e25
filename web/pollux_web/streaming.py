"""Request bodies that are taken as they come: `stream_request_body`, and the loop that hands them to the handler.

Nothing more is read than the handler has taken, save one buffer: it sets the pace, and so the client's.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from pollux_web.handler import RequestHandler

Handler = TypeVar("Handler", bound="RequestHandler")


def stream_request_body(cls: type[Handler]) -> type[Handler]:
    """Decorate a handler class: it takes request bodies as they come, by `data_received(chunk)`, which may be a
    coroutine.

    `prepare` is called when the head has come, the method when the whole body has. `request.body` is empty, and forms
    are not parsed.

    :raises TypeError: it is no class.
    """
    if not isinstance(cls, type):
        raise TypeError(f"stream_request_body decorates a RequestHandler class, got {cls!r}")
    cls._stream_request_body = True
    return cls


class BodyLostError(Exception):
    """The client went away within the body."""


async def receive_body(handler: RequestHandler) -> None:
    """Hand the body of a request to its handler's `data_received`, to its end or until the handler has answered.

    :raises BodyLostError: the client went away.
    """
    request = handler.request
    connection = request.connection
    if request.body:  # it had come with the head
        result = handler.data_received(request.body)
        if result is not None:
            await result
        return
    while not handler._finished:
        data = connection.take_body()
        if data:
            result = handler.data_received(data)
            if result is not None:
                await result
        elif request.complete:
            return
        elif connection.gone:
            raise BodyLostError
        else:
            came: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            connection.wait_for_body(lambda came=came: came.done() or came.set_result(None))  # type: ignore[misc]
            await came
