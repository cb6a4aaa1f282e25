"""Flask: sessions, uploads, streams, files."""

from collections.abc import Iterator

from flask import Flask, Response, request, send_file, session, stream_with_context
from werkzeug.wrappers import Response as AnyResponse

app = Flask(__name__)
app.secret_key = "tests"


@app.get("/")
def hello() -> str:
    """Count the visits of a session."""
    session["visits"] = session.get("visits", 0) + 1
    return f"hello {request.args['name']} {session['visits']}"


@app.post("/upload")
def upload() -> dict[str, str | int | None]:
    """Take a form with a file."""
    file = request.files["file"]
    return {"name": file.filename, "size": len(file.read()), "text": request.form["text"]}


@app.post("/count")
def count() -> str:
    """Count a body as it comes."""
    size = 0
    while part := request.stream.read(65536):
        size += len(part)
    return str(size)


@app.get("/stream")
def stream() -> Response:
    """Send parts."""

    def parts() -> Iterator[bytes]:
        for number in range(100):
            yield b"%07d\n" % number * 128

    return Response(stream_with_context(parts()))


@app.get("/file")
def file() -> AnyResponse:
    """Send this file, by way of wsgi.file_wrapper."""
    return send_file(__file__)


@app.get("/fail")
def fail() -> str:
    """Raise."""
    raise ZeroDivisionError
