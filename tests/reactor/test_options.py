"""Options and the set-up of logging: the same program on Tornado and on us, and what goes wrong."""

from __future__ import annotations

import datetime
import io
import logging
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import pytest
import tornado.log
import tornado.options

import pollux.log
import pollux.options
from pollux import PolluxError

BOTH = pytest.mark.parametrize("module", [pollux.options, tornado.options], ids=["pollux", "tornado"])

# What a program of Tornado's era does with the three modules, as its user guide has it.
PROGRAM = """
import sys, logging
from FROM.options import define, options, parse_command_line, parse_config_file
from FROM.log import access_log, app_log, gen_log, enable_pretty_logging, LogFormatter
import FROM.options

define("port", default=8888, help="port to listen on", type=int)
define("debug", default=False, help="debug mode")
define("memcache_hosts", default=["127.0.0.1:11011"], multiple=True, group="db")
define("since", type=__import__("datetime").datetime)
define("shards", type=int, multiple=True)
define("config", type=str, callback=lambda path: parse_config_file(path, final=False))
rest = parse_command_line()
print(rest, options.port, options.debug, options.memcache_hosts, options["memcache-hosts"], options.since)
print(options.shards, options.group_dict("db"), sorted(options.as_dict()), "port" in options, len(list(options)))
options.port = 5
print(options.port, FROM.options.options is options)
for log in access_log, app_log, gen_log, logging.getLogger("own"):
    log.info("info %d", 1)
    log.warning("two\\nlines")
    log.debug("hidden")
try:
    1 / 0
except ZeroDivisionError:
    app_log.error("caught", exc_info=True)
print([type(handler).__name__ for handler in logging.getLogger().handlers])
"""
ARGUMENTS = [
    [], ["--port=80", "--debug", "a", "--b"], ["-port=80", "--debug=false", "--memcache-hosts=a,b", "--", "--x"],
    ["--since=2026-01-02 03:04", "--shards=1,3:5,9", "--logging=warning"], ["--logging=none"], ["--config=CONFIG"],
    ["--log_file_prefix=FILE"], ["--log-file-prefix=FILE", "--log-to-stderr", "--log_rotate_mode=time"],
]  # fmt: skip


def _ran(tmp_path: Path, name: str, arguments: list[str]) -> tuple[str, str, str, int]:
    """Return what the program prints, logs, and leaves in its log file."""
    home = tmp_path / name
    home.mkdir()
    (home / "program.py").write_text(PROGRAM.replace("FROM", name))
    (home / "CONFIG").write_text("port = 81\nshards = '4:5'\nmemcache_hosts = ['c']\nother = 7\n")
    done = subprocess.run([sys.executable, "program.py", *arguments], cwd=home, capture_output=True, text=True)
    logged = (home / "FILE").read_text() if (home / "FILE").exists() else ""
    texts = [re.sub(r"\d{6} \d\d:\d\d:\d\d", "TIME", text.replace(name, "NAME")) for text in (done.stderr, logged)]
    return done.stdout, texts[0], texts[1], done.returncode


@pytest.mark.parametrize("arguments", ARGUMENTS, ids=str)
def test_a_program_says_the_same_on_both(tmp_path: Path, arguments: list[str]) -> None:
    ours = _ran(tmp_path, "pollux", arguments)
    assert ours == _ran(tmp_path, "tornado", arguments)
    assert ours[3] == 0, ours[1]
    assert ("[I TIME" in ours[1] + ours[2]) is all(
        word not in arguments for word in ("--logging=none", "--logging=warning")
    )


def test_the_help_names_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    for module in (pollux.options, tornado.options):
        parser = module.OptionParser()
        parser.define("port", 80, help="50% of it", group="net")
        parser.define("hosts", multiple=True, metavar="A,B", group="net")
        with pytest.raises(SystemExit) as ended:
            parser.parse_command_line(["program", "--help"])
        assert ended.value.code == 0
        said = capsys.readouterr()
        assert said.out == ""
        for part in ("--port", "50% of it", "80", "--hosts=A,B", "--help", "net options:"):
            assert part in said.err
    out = io.StringIO()
    pollux.options.print_help(out)
    assert "--log_file_prefix=PATH" in out.getvalue()


VALUES: list[tuple[type, str]] = [
    (int, "-5"), (float, "1.5"), (str, ""), (str, "a=b"), (bool, "0"), (bool, "F"), (bool, "no"), (bool, ""),
    (datetime.timedelta, "1h 30m"), (datetime.timedelta, "2.5"), (datetime.timedelta, "1d 2 hours 3ms"),
    (datetime.timedelta, "250ms"), (datetime.timedelta, "-1w"), (datetime.timedelta, "5 min 3us"),
    (datetime.timedelta, ""), (datetime.datetime, "20260102 03:04:05"), (datetime.datetime, "2026-01-02T03:04"),
    (datetime.datetime, "03:04"), (datetime.datetime, "Fri Jan  2 03:04:05 2026"), (datetime.datetime, "20260102"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "text"), VALUES)
def test_values_are_read_as_tornado_reads_them(kind: type, text: str) -> None:
    def read(module: ModuleType) -> Any:
        parser = module.OptionParser()
        parser.define("x", type=kind)
        assert parser.parse_command_line(["program", f"--x={text}"]) == []
        return parser.x

    assert read(pollux.options) == read(tornado.options)


WRONG = [
    ["--unknown"], ["--unknown=5"], ["--port"], ["--port=a"], ["--port="], ["--since=yesterday"], ["--wait=3 moons"],
    ["--shards=1:a"], ["-"],
]  # fmt: skip


@BOTH
@pytest.mark.parametrize("arguments", WRONG, ids=str)
def test_what_cannot_be_read_is_an_error(module: ModuleType, arguments: list[str]) -> None:
    parser = module.OptionParser()
    parser.define("port", 80)
    parser.define("since", type=datetime.datetime)
    parser.define("wait", type=datetime.timedelta)
    parser.define("shards", type=int, multiple=True)
    with pytest.raises(pollux.options.Error if module is pollux.options else Exception) as error:
        parser.parse_command_line(["program", *arguments])
    assert module is not pollux.options or arguments[0].strip("-").partition("=")[0] in str(error.value)


@BOTH
def test_definitions_and_attributes(module: ModuleType) -> None:
    parser = module.OptionParser()
    parser.define("one-two", 1)
    called: list[Any] = []
    parser.define("told", "", callback=called.append)
    with pytest.raises(module.Error, match=r"one.two"):
        parser.define("one_two", 2)
    with pytest.raises(AttributeError, match="three"):
        _ = parser.three
    with pytest.raises(AttributeError, match="three"):
        parser.three = 3
    with pytest.raises(module.Error, match="one"):
        parser.one_two = "text"
    parser["one_two"] = 5
    parser.told = "x"
    parser.parse_command_line(["program", "--told=y"], final=False)
    assert (parser["one-two"], parser.one_two, called) == (5, 5, ["x", "y"])
    assert sorted(parser) == ["help", "one-two", "told"]
    assert dict(parser.items()) == parser.as_dict()
    assert parser.groups() == {"", __file__}
    assert parser.group_dict(__file__) == {"one-two": 5, "told": "y"}
    with mock.patch.object(parser.mockable(), "one_two", 9):
        assert parser.one_two == 9
    assert parser.one_two == 5


@BOTH
def test_parse_callbacks_are_called_at_the_end(module: ModuleType, tmp_path: Path) -> None:
    parser = module.OptionParser()
    parser.define("list", multiple=True, type=int)
    parser.define("here", "")
    seen: list[Any] = []
    parser.add_parse_callback(lambda: seen.append(parser.list))
    path = tmp_path / "config"
    path.write_text("list = [7]\nhere = __file__")
    parser.parse_command_line(["program", "--list=1"], final=False)
    parser.parse_config_file(str(path))
    parser.run_parse_callbacks()
    assert (seen, parser.here) == ([[7], [7]], str(path))
    path.write_text("list = 7")
    with pytest.raises(module.Error, match="list"):
        parser.parse_config_file(str(path))
    assert seen == [[7], [7]]


def test_our_error_is_one_of_pollux_and_a_value_error() -> None:
    assert issubclass(pollux.options.Error, PolluxError | ValueError)
    with pytest.raises(pollux.options.Error, match=r"'port' is defined already, in .*test_options"):
        pollux.options.define("port")
        pollux.options.define("port")


@pytest.mark.parametrize("module", [pollux.log, tornado.log], ids=["pollux", "tornado"])
def test_the_formatter(module: ModuleType) -> None:
    def shown(formatter: logging.Formatter, message: str, *args: object) -> str:
        record = logging.LogRecord("n", logging.ERROR, "/a/place.py", 7, message, args, None)
        record.created = 0
        return formatter.format(record)

    plain = module.LogFormatter(color=False, datefmt="then")
    assert shown(plain, "a %s\nb", "x") == "[E then place:7] a x\n    b"
    assert "Bad message" in shown(plain, "a %d", "x")
    assert "'x'" in shown(plain, "a %d", "x")
    assert shown(module.LogFormatter("%(name)s:%(message)s", color=True), "m") == "n:m"


def test_colors_are_for_terminals(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setenv("TERM", "xterm")
    record = logging.LogRecord("n", logging.ERROR, "place.py", 7, "m", (), None)
    formatter = pollux.log.LogFormatter("%(color)sa%(end_color)s %(message)s")
    assert formatter.format(record) == "\x1b[31ma\x1b[0m m"
    record.levelno = 7
    assert formatter.format(record) == "a m"
    monkeypatch.setenv("TERM", "dumb")
    assert pollux.log.LogFormatter("%(color)sa%(end_color)s").format(record) == "a"


def test_logging_set_up_on_a_logger_of_its_own(tmp_path: Path) -> None:
    logger = logging.Logger("own")  # unknown to everybody else
    parser = pollux.options.OptionParser()
    pollux.log.define_logging_options(parser)
    parser.log_file_prefix = str(tmp_path / "log")
    pollux.log.enable_pretty_logging(parser, logger)
    logger.info("é")
    (handler,) = logger.handlers
    handler.close()
    assert re.fullmatch(r"\[I \d{6} [\d:]+ test_options:\d+\] é\n", (tmp_path / "log").read_text("utf-8"))
    parser.log_rotate_mode = "phase of the moon"
    with pytest.raises(ValueError, match="phase of the moon"):
        pollux.log.enable_pretty_logging(parser, logger)
    parser.logging = "loud"
    with pytest.raises(ValueError, match="LOUD"):
        pollux.log.enable_pretty_logging(parser, logger)
    for nothing in (None, "None"):
        parser.logging = nothing
        pollux.log.enable_pretty_logging(parser, logging.Logger("none"))
