"""Event loops: nanoseconds per operation of ours, asyncio, uvloop and rloop."""
