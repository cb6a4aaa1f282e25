"""A chat: a page, and a WebSocket that passes on what each says to all.

pollux serve examples/06_websocket.py --port 8888      then open http://127.0.0.1:8888/ twice
python examples/06_websocket.py                        the same, as Tornado's users write it
"""

from typing import Any, ClassVar

from pollux import IOLoop
from pollux_web import Application, RequestHandler
from pollux_web.escape import json_decode
from pollux_websocket import WebSocketHandler, broadcast

PAGE = """<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<title>Pollux chat</title>
<style>
  body { font: 16px/1.5 sans-serif; max-width: 40em; margin: 2em auto; padding: 0 1em; }
  #said { overflow-wrap: anywhere; }
  #said { border: 1px solid #bbb; border-radius: 4px; min-height: 12em; padding: .5em 1em; list-style: none; }
  #said .name { font-weight: bold; margin-right: .5em; }
  #state { color: #666; }
  input, button { font: inherit; padding: .25em .5em; }
  #text { width: 60%; }
</style>
<h1>Chat</h1>
<p id="state">connecting</p>
<ul id="said"></ul>
<form id="form">
  <input id="name" placeholder="name" size="8" required>
  <input id="text" placeholder="message" autocomplete="off" required>
  <button>Send</button>
</form>
<script>
  const at = id => document.getElementById(id);
  const socket = new WebSocket(location.origin.replace("http", "ws") + "/chat");
  socket.onclose = event => at("state").textContent = "closed: " + event.code + " " + event.reason;
  socket.onmessage = event => {
    const message = JSON.parse(event.data);
    if ("here" in message) { at("state").textContent = message.here + " here"; return; }
    const item = document.createElement("li"), name = document.createElement("span");
    name.className = "name";
    name.textContent = message.name;  // as text: what others say is never HTML
    item.append(name, message.text);
    at("said").append(item);
  };
  at("form").onsubmit = event => {
    event.preventDefault();
    socket.send(JSON.stringify({name: at("name").value, text: at("text").value}));
    at("text").value = "";
  };
</script>
"""


class Page(RequestHandler):
    def get(self) -> None:
        self.write(PAGE)


class Chat(WebSocketHandler):
    here: ClassVar[set["Chat"]] = set()
    said: ClassVar[list[dict[str, str]]] = []  # the last of it, for who comes later

    def get_compression_options(self) -> dict[str, Any]:
        return {}

    def open(self) -> None:
        self.here.add(self)
        for message in self.said:
            self.write_message(message)
        broadcast(self.here, {"here": len(self.here)})

    def on_message(self, text: str | bytes) -> None:
        try:
            message = {"name": str(json_decode(text)["name"])[:20], "text": str(json_decode(text)["text"])[:500]}
        except (ValueError, TypeError, KeyError):
            self.close(1003, "expected an object with name and text, in JSON")
            return
        self.said.append(message)
        del self.said[:-20]
        broadcast(self.here, message)

    def on_close(self) -> None:
        self.here.discard(self)
        broadcast(self.here, {"here": len(self.here)})


application = Application([("/", Page), ("/chat", Chat)])

if __name__ == "__main__":
    application.listen(8888)
    IOLoop.current().start()
