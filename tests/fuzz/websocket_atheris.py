"""The WebSocket protocol under atheris (libFuzzer for Python, on PyPI), which watches what each input reaches.

    python -m tests.fuzz.websocket_atheris [-runs=1000000] [-max_len=400] [DIRECTORY OF INPUTS]

The invariant is that of `test_websocket_protocol.py`. The arguments are libFuzzer's.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

if __name__ == "__main__":
    atheris: Any = importlib.import_module("atheris")
    with atheris.instrument_imports(include=["pollux_websocket"]):  # before they are imported for the first time
        from tests.fuzz.test_websocket_protocol import one_input
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
