"""`LoopSuite`: the behaviour of the loop in both dialects, over one backend."""

from pollux.testing.loop_callbacks import LoopCallbacks
from pollux.testing.loop_current import LoopCurrent
from pollux.testing.loop_debug import LoopDebug
from pollux.testing.loop_futures import LoopFutures
from pollux.testing.loop_handlers import LoopHandlers
from pollux.testing.loop_handles import LoopHandles
from pollux.testing.loop_hangups import LoopHangUps
from pollux.testing.loop_life import LoopLife
from pollux.testing.loop_network import LoopNetwork
from pollux.testing.loop_periodic import LoopPeriodic
from pollux.testing.loop_system import LoopSystem
from pollux.testing.loop_tasks import LoopTasks
from pollux.testing.loop_timeouts import LoopTimeouts


class TornadoDialect(LoopCallbacks, LoopTimeouts, LoopHandlers, LoopHangUps):
    """What Tornado's loop does too. Override the fixture `make_loop` to see it."""


class AsyncioDialect(LoopHandles, LoopDebug, LoopTasks, LoopNetwork, LoopSystem):
    """What asyncio's loop does too. Override the fixture `make_loop` to see it."""


class LoopSuite(TornadoDialect, AsyncioDialect, LoopLife, LoopFutures, LoopCurrent, LoopPeriodic):
    """Subclass, name it `Test...`, and set `backend` to a name in the registry. Needs no other line."""
