# The first programs of treq's documentation: a GET, a POST of JSON, a streamed body; the server is an argument.
# mypy: disable-error-code="no-untyped-call, no-untyped-def"
import sys

import treq
from twisted.internet.task import react


async def main(reactor, url):
    response = await treq.get(url)
    print(response.code, await treq.text_content(response))
    response = await treq.get(f"{url}user/bob")
    print(response.code, await response.text())
    response = await treq.post(f"{url}echo", json={"msg": "Hello!"})
    print(await response.json())
    pieces: list[bytes] = []
    response = await treq.post(f"{url}echo", data=b"x" * 1_000_000)
    await treq.collect(response, pieces.append)
    print(len(b"".join(pieces)))
    print(type(reactor).__name__)


react(main, sys.argv[1:])
