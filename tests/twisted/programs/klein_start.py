# The first program of Klein's documentation, with a route that waits; its port is an argument.
# mypy: disable-error-code="import-untyped, no-untyped-call, no-untyped-def, untyped-decorator"
import sys

from klein import Klein
from twisted.internet import reactor
from twisted.internet.task import deferLater

app = Klein()


@app.route("/")
def home(request):
    return "Hello, world!"


@app.route("/user/<username>")
def pg_user(request, username):
    return deferLater(reactor, 0.01, lambda: f"Hi {username}!")


@app.route("/echo", methods=["POST"])
async def echo(request):
    return request.content.read()


app.run("127.0.0.1", int(sys.argv[1]))
