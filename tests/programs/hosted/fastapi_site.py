"""FastAPI: validation, dependencies in threads, uploads, background tasks."""

import threading
from typing import Annotated

from fastapi import BackgroundTasks, Depends, FastAPI, File, Form, UploadFile
from pydantic import BaseModel

app = FastAPI()
done = threading.Event()


class Item(BaseModel):
    """A body that is checked."""

    name: str
    price: float


def blocking() -> str:
    """Run in a thread, as FastAPI does with plain functions."""
    return threading.current_thread().name


@app.get("/")
def hello(name: str, thread: Annotated[str, Depends(blocking)]) -> dict[str, str | bool]:
    """Answer from a thread."""
    return {"hello": name, "main": thread == threading.main_thread().name}


@app.post("/item")
async def item(item: Item) -> Item:
    """Give back what was checked."""
    return item


@app.post("/upload")
async def upload(file: Annotated[UploadFile, File()], text: Annotated[str, Form()]) -> dict[str, str | int | None]:
    """Take a form with a file."""
    return {"name": file.filename, "size": len(await file.read()), "text": text}


@app.get("/background")
def background(tasks: BackgroundTasks) -> str:
    """Work on behind the response."""
    tasks.add_task(done.set)
    return "early"


@app.get("/done")
def is_done() -> bool:
    """Wait for the work behind a response."""
    return done.wait(30)
