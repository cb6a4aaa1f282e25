"""The loggers, by Tornado's division, and Tornado's way to set up logging (names of tornado.log).

`access_log`: one line a request. `app_log`: errors of the user's code. `gen_log`: what Pollux itself has to say,
such as bad input from the network. They are ordinary loggers beneath "pollux": configure them as any other. Nothing is
set up by itself: `enable_pretty_logging` does that, and `pollux.options.parse_command_line` calls it.

A message may hold what a client chose. A line break in it is followed by four spaces, so that nobody can write a line
of the log that looks like another's.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from pollux.options import OptionParser

access_log = logging.getLogger("pollux.access")
app_log = logging.getLogger("pollux.application")
gen_log = logging.getLogger("pollux.general")

FORMAT = "%(color)s[%(levelname)1.1s %(asctime)s %(module)s:%(lineno)d]%(end_color)s %(message)s"
DATE_FORMAT = "%y%m%d %H:%M:%S"
# Numbers of ANSI colors (ECMA-48, SGR 30 to 37): blue, green, yellow, red, magenta.
COLORS = {logging.DEBUG: 4, logging.INFO: 2, logging.WARNING: 3, logging.ERROR: 1, logging.CRITICAL: 5}


class LogFormatter(logging.Formatter):
    """Formats records as Tornado's programs show them: level, time and place in brackets, then the message.

    :param fmt: as of `logging.Formatter`; what is between `color` and `end_color` is colored by level.
    :param datefmt: as of `time.strftime`.
    :param style: "%", "{" or "$": of `fmt`.
    :param color: False for none; else only if standard error is a terminal that has them.
    :param colors: ANSI color numbers, 0 to 7, by level; levels that are absent have none.
    """

    def __init__(
        self,
        fmt: str = FORMAT,
        datefmt: str = DATE_FORMAT,
        style: Literal["%", "{", "$"] = "%",
        color: bool = True,
        colors: Mapping[int, int] = COLORS,
    ) -> None:
        super().__init__(fmt, datefmt, style)
        self._colors = {}
        if color and _shows_color():
            self._colors = {level: f"\x1b[3{number}m" for level, number in colors.items()}

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as text; of one whose arguments do not fit its message, what it was given."""
        color = self._colors.get(record.levelno, "")
        shown = logging.makeLogRecord({**vars(record), "color": color, "end_color": "\x1b[0m" if color else ""})
        try:
            record.getMessage()
        except Exception as error:  # a line of the log must not be lost to a slip in it
            shown.msg, shown.args = f"Bad message ({error!r}): {record.msg!r} {record.args!r}", ()
        return super().format(shown).replace("\n", "\n    ")


def _shows_color() -> bool:
    return sys.stderr is not None and sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb"


def enable_pretty_logging(options: OptionParser | None = None, logger: logging.Logger | None = None) -> None:
    """Log to standard error or to files, as the options say that `define_logging_options` defines.

    :param options: None for `pollux.options.options`. If its `logging` is None or "none", nothing is done.
    :param logger: None for the root logger.
    :raises ValueError: `logging` is no level, or `log_rotate_mode` neither "size" nor "time".
    """
    options = options or _shared()
    if options.logging is None or options.logging.lower() == "none":
        return
    if logger is None:
        logger = logging.getLogger()
    logger.setLevel(options.logging.upper())
    if options.log_file_prefix:
        handler = _file_handler(options)
        handler.setFormatter(LogFormatter(color=False))
        logger.addHandler(handler)
    if options.log_to_stderr or (options.log_to_stderr is None and not logger.handlers):
        to_terminal = logging.StreamHandler()
        to_terminal.setFormatter(LogFormatter())
        logger.addHandler(to_terminal)


def _file_handler(options: OptionParser) -> logging.Handler:
    from logging.handlers import RotatingFileHandler, TimedRotatingFileHandler

    path, backups = options.log_file_prefix, options.log_file_num_backups
    if options.log_rotate_mode == "size":
        return RotatingFileHandler(path, "a", options.log_file_max_size, backups, encoding="utf-8")
    if options.log_rotate_mode == "time":
        return TimedRotatingFileHandler(
            path, options.log_rotate_when, options.log_rotate_interval, backups, encoding="utf-8"
        )
    raise ValueError(f"log_rotate_mode is 'size' or 'time', got {options.log_rotate_mode!r}")


def define_logging_options(options: OptionParser | None = None) -> None:
    """Define the options of logging, and have `enable_pretty_logging` called when they are parsed.

    :param options: None for `pollux.options.options`, which has them already.
    """
    here = options or _shared()
    define: Any = here.define
    define("logging", "info", help="least severe messages to log; none: leave logging alone",
           metavar="debug|info|warning|error|none")  # fmt: skip
    define("log_to_stderr", type=bool, help="log to standard error; by default if nothing else is logged to")
    define("log_file_prefix", metavar="PATH", help="log to this file; with several processes, give each its own")
    define("log_file_max_size", 100_000_000, help="bytes of a file before it is rotated")
    define("log_file_num_backups", 10, help="rotated files to keep")
    define("log_rotate_when", "midnight", help="unit of time of rotation: S, M, H, D, W0 to W6 or midnight")
    define("log_rotate_interval", 1, help="units of time between rotations")
    define("log_rotate_mode", "size", help="what files are rotated by: size or time")
    here.add_parse_callback(lambda: enable_pretty_logging(here))


def _shared() -> OptionParser:
    from pollux.options import options  # here, as it imports this module

    return options
