"""Coroutines made of generators, and what they yield: Tornado's names, also those it has dropped since.

All public names are exported from here. Each file is one noun; `convert.py` knows what may be waited for, `runner.py`
drives a generator.
"""

from pollux.concurrent import ReturnValueIgnoredError
from pollux.gen.convert import convert_yielded, maybe_future, moment, multi_future
from pollux.gen.coroutine import coroutine, is_coroutine_function
from pollux.gen.engine import engine
from pollux.gen.errors import (
    BadYieldError,
    KeyReuseError,
    LeakedCallbackError,
    Return,
    TimeoutError,
    UnknownKeyError,
)
from pollux.gen.keys import Arguments, Keys, YieldPoint
from pollux.gen.points import Callback, Multi, Task, Wait, WaitAll, WaitMany, multi
from pollux.gen.runner import Runner
from pollux.gen.waiting import WaitIterator, sleep, with_timeout

__all__ = [
    "Arguments",
    "BadYieldError",
    "Callback",
    "KeyReuseError",
    "Keys",
    "LeakedCallbackError",
    "Multi",
    "Return",
    "ReturnValueIgnoredError",
    "Runner",
    "Task",
    "TimeoutError",
    "UnknownKeyError",
    "Wait",
    "WaitAll",
    "WaitIterator",
    "WaitMany",
    "YieldPoint",
    "convert_yielded",
    "coroutine",
    "engine",
    "is_coroutine_function",
    "maybe_future",
    "moment",
    "multi",
    "multi_future",
    "sleep",
    "with_timeout",
]
