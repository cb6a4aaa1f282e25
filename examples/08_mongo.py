"""Notes in MongoDB: a small JSON API, and a WebSocket that tells of every change, whoever makes it.

python examples/08_mongo.py                                   it starts a server, in memory (pip install secantusdb)
python examples/08_mongo.py 8888 mongodb://127.0.0.1/notes    yours: a replica set, as change streams need one
then, elsewhere:
    curl -d '{"text": "buy milk"}' http://127.0.0.1:8888/notes
    curl http://127.0.0.1:8888/notes
    curl -X DELETE http://127.0.0.1:8888/notes/ID
    python -m websockets ws://127.0.0.1:8888/changes
"""

import contextlib
import shutil
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from typing import Any

from bson import ObjectId, json_util
from bson.errors import InvalidId

from pollux import IOLoop
from pollux.netutil import bind_sockets
from pollux_http import HTTPServer
from pollux_mongo import Client, PoolError
from pollux_web import Application, HTTPError, RequestHandler
from pollux_websocket import WebSocketClosedError, WebSocketHandler

MOST = 100  # notes in one answer


class NotesHandler(RequestHandler):
    """All notes, or one."""

    @property
    def db(self) -> Client:
        return self.settings["db"]  # type: ignore[no-any-return]

    async def get(self, note_id: str | None = None) -> None:
        if note_id is None:
            self.answer({"notes": await self.db.notes.find().sort("_id", -1).limit(MOST)})
        else:
            self.answer(self.found(await self.db.notes.find_one(self.checked(note_id))))

    async def post(self, note_id: str | None = None) -> None:
        try:
            note = json_util.loads(self.request.body)
            text = note["text"]
        except (ValueError, KeyError, TypeError):
            text = None
        if note_id is not None or not isinstance(text, str):
            raise HTTPError(400, 'post {"text": "..."} to /notes')
        note = {"text": text}
        await self.db.notes.insert(note)
        self.set_status(201)
        self.answer(note)

    async def delete(self, note_id: str | None = None) -> None:
        if note_id is None:
            raise HTTPError(405)
        self.found(await self.db.notes.find_and_modify({"_id": self.checked(note_id)}, remove=True))
        self.set_status(204)

    def answer(self, content: Any) -> None:
        """Write JSON; what JSON does not know, in MongoDB's Extended JSON."""
        self.set_header("Content-Type", "application/json")
        self.write(json_util.dumps(content))

    def checked(self, note_id: str) -> ObjectId:
        try:
            return ObjectId(note_id)
        except InvalidId:
            raise HTTPError(404) from None

    def found(self, note: Any) -> Any:
        if note is None:
            raise HTTPError(404)
        return note


class ChangesHandler(WebSocketHandler):
    """Tells one client of all changes, until it leaves."""

    everybody: set["ChangesHandler"] = set()  # noqa: RUF012  # one stream of changes feeds all of them

    def open(self) -> None:
        self.everybody.add(self)

    def on_message(self, message: str | bytes) -> None:
        """There is nothing to say."""

    def on_close(self) -> None:
        self.everybody.discard(self)

    @classmethod
    async def tell(cls, change: dict[str, Any]) -> None:
        """Called by the stream, which waits until this is done."""
        told = {
            "what": change["operationType"],
            "id": change.get("documentKey", {}).get("_id"),
            "note": change.get("fullDocument"),
        }
        for client in list(cls.everybody):
            with contextlib.suppress(WebSocketClosedError):  # it is leaving
                client.write_message(json_util.dumps(told))


@contextlib.contextmanager
def embedded_server() -> Iterator[str]:
    """Run a MongoDB-compatible server as a process of its own, in memory; yield its URI."""
    command = shutil.which("secantusd-py", path=sysconfig.get_path("scripts")) or shutil.which("secantusd-py")
    if command is None:
        sys.exit("no server: pip install secantusdb==0.6.0b17, or name one: 08_mongo.py 8888 mongodb://127.0.0.1/notes")
    with subprocess.Popen(
        [command, "--port", "0", "--storage-path", ":memory:"], stderr=subprocess.PIPE, text=True
    ) as server:
        try:
            assert server.stderr is not None
            for line in server.stderr:
                if "listening on" in line:
                    yield f"mongodb://{line.rpartition(' ')[2].strip()}/notes"
                    break
            else:
                sys.exit(f"{command} did not start")
        finally:
            server.terminate()


def main() -> None:
    """Serve until SIGINT or SIGTERM."""
    port = int(sys.argv[1]) if sys.argv[1:] else 8888
    with contextlib.nullcontext(sys.argv[2]) if sys.argv[2:] else embedded_server() as uri:
        loop = IOLoop.current()
        db = Client("notes", uri=uri)
        application = Application([(r"/notes(?:/(\w+))?", NotesHandler), (r"/changes", ChangesHandler)], db=db)
        server = HTTPServer(application)
        sockets = bind_sockets(port, "127.0.0.1")

        async def start() -> None:
            changes = await db.notes.watch().begin()
            changes.each(ChangesHandler.tell, callback=ended)  # from now on, until the loop is closed
            server.add_sockets(sockets)
            print("listening on port", sockets[0].getsockname()[1], flush=True)

        def ended(_count: int | None, error: Exception | None) -> None:
            if not isinstance(error, PoolError):
                print("no more changes are told:", error, file=sys.stderr)
                loop.stop()

        loop.run_sync(start)
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, loop.stop)
        loop.start()
        server.stop()
        loop.close()  # and with it, the connections to MongoDB


if __name__ == "__main__":
    main()
