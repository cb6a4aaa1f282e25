"""Django in one file, over ASGI (`asgi`) and over WSGI (`wsgi`)."""
# mypy: disable-error-code="import-untyped, unused-ignore"

from collections.abc import AsyncIterator, Iterator

import django
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse, StreamingHttpResponse
from django.urls import path

settings.configure(
    ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__, SECRET_KEY="tests", DEBUG=False, USE_TZ=True,
    MIDDLEWARE=["django.middleware.common.CommonMiddleware"],
    FORCE_SCRIPT_NAME=None, SECURE_PROXY_SSL_HEADER=None,
)  # fmt: skip
django.setup()


def hello(request: HttpRequest) -> HttpResponse:
    """Answer."""
    return HttpResponse(f"hello {request.GET['name']} {request.scheme} {request.get_host()}", content_type="text/plain")


async def later(request: HttpRequest) -> HttpResponse:
    """Answer from a coroutine."""
    return HttpResponse("later")


def upload(request: HttpRequest) -> HttpResponse:
    """Take a form with a file."""
    file = request.FILES["file"]
    return JsonResponse({"name": file.name, "size": file.size, "text": request.POST["text"]})


def count(request: HttpRequest) -> HttpResponse:
    """Count a body."""
    size = 0
    while part := request.read(65536):
        size += len(part)
    return HttpResponse(str(size))


async def stream(request: HttpRequest) -> HttpResponseBase:
    """Send parts from a coroutine."""

    async def parts() -> AsyncIterator[bytes]:
        for number in range(100):
            yield b"%07d\n" % number * 128

    return StreamingHttpResponse(parts())


def plain_stream(request: HttpRequest) -> HttpResponseBase:
    """Send parts."""

    def parts() -> Iterator[bytes]:
        for number in range(100):
            yield b"%07d\n" % number * 128

    return StreamingHttpResponse(parts())


def fail(request: HttpRequest) -> HttpResponse:
    """Raise."""
    raise ZeroDivisionError


urlpatterns = [
    path("", hello), path("later", later), path("upload", upload), path("count", count), path("stream", stream),
    path("plain-stream", plain_stream), path("fail", fail),
]  # fmt: skip

asgi = get_asgi_application()
wsgi = get_wsgi_application()
