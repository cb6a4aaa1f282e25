"""The simplest application: a handler, an application, a port, a loop.

pollux serve examples/01_getting_started.py --port 8888      any poller: --backend select, poll, epoll
python examples/01_getting_started.py                        the same, as Tornado's users write it
"""

from pollux import IOLoop
from pollux_web import Application, RequestHandler


class MainHandler(RequestHandler):
    def get(self) -> None:
        self.write("Hello, world")


application = Application([(r"/", MainHandler)])

if __name__ == "__main__":
    application.listen(8888)
    IOLoop.current().start()
