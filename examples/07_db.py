"""A small database module: SQLite, or MySQL by its URL. Not asynchronous, and its twin that is.

python examples/07_db.py
python examples/07_db.py notes.db
python examples/07_db.py mysql://USER:PASSWORD@localhost/DATABASE      needs pip install 'pollux[mysql]'
"""

import asyncio
import sys
import tempfile

from pollux import IOLoop
from pollux_database import AsyncConnection, Connection, IntegrityError


def synchronous(url: str) -> None:
    """Fine in a script, and in a server for what takes a millisecond: the loop waits meanwhile."""
    with Connection(url) as db:
        db.execute("DROP TABLE IF EXISTS talk")
        key = "INTEGER PRIMARY KEY" + (" AUTO_INCREMENT" if url.startswith("mysql") else "")
        db.execute(f"CREATE TABLE talk (id {key}, title VARCHAR(100) UNIQUE, minutes INTEGER)")
        # %s for each parameter, never a value in the text of a statement.
        first = db.execute("INSERT INTO talk (title, minutes) VALUES (%s, %s)", "IOLoop", 20)
        db.executemany("INSERT INTO talk (title, minutes) VALUES (%s, %s)", [("IOStream", 15), ("gen", 25)])
        talk = db.get("SELECT * FROM talk WHERE id = %s", first)
        assert talk is not None
        print(f"{talk.title} takes {talk['minutes']} minutes")
        for row in db.query("SELECT title FROM talk ORDER BY minutes"):
            print("-", row.title)
        try:
            db.execute("INSERT INTO talk (title) VALUES (%s)", "gen")
        except IntegrityError as error:
            print("refused:", type(error).__name__)


async def asynchronous(url: str) -> None:
    """The same methods, awaited: the statements run in a thread, in order, and the loop goes on."""
    async with AsyncConnection(url) as db:
        total, longest = await asyncio.gather(
            db.get("SELECT SUM(minutes) AS minutes FROM talk"),
            db.get("SELECT title FROM talk ORDER BY minutes DESC LIMIT 1"),
        )
        assert total is not None
        assert longest is not None
        print(f"{total.minutes} minutes in all, the longest is {longest.title}")
        async for row in db.iter("SELECT title FROM talk ORDER BY id"):
            print("*", row.title)
        await db.execute("DROP TABLE talk")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        url = sys.argv[1] if len(sys.argv) > 1 else f"{folder}/talks.db"
        synchronous(url)
        IOLoop.current().run_sync(lambda: asynchronous(url))
    IOLoop.current().close()


if __name__ == "__main__":
    main()
