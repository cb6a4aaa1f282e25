"""Echo by socketify. python socketify_echo.py PORT"""
# mypy: disable-error-code="import-not-found, import-untyped"

import sys
from typing import Any

from socketify import App, CompressOptions, OpCode

app = App()
app.ws(
    "/*",
    {
        "compression": CompressOptions.DISABLED,
        "max_payload_length": 16 * 1024 * 1024,
        "max_backpressure": 64 * 1024 * 1024,
        "idle_timeout": 0,
        "message": lambda ws, message, opcode: _echo(ws, message, opcode),
    },
)


def _echo(ws: Any, message: Any, opcode: Any) -> None:
    ws.send(message, OpCode(opcode))


app.listen({"port": int(sys.argv[1]), "host": "127.0.0.1"}, lambda config: None)
app.run()
