"""The plugin registry against real distributions on disk: metadata, entry points, modules, found by a new process."""

import inspect
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pollux import hookspec, registry

Run = Callable[..., "subprocess.CompletedProcess[str]"]

HEADER = "from pollux.backend import Backend\nfrom pollux.hookspec import hookimpl\n\ndef create(): raise OSError\n\n"
HOOK = f"{HEADER}@hookimpl\ndef pollux_backends():\n    "  # the `def` is line 7


def install(site: Path, name: str, plugin: str, source: str | None, module: str | None = None) -> Path:
    """Write a distribution as an installer leaves it; return its module's path."""
    module = module or name.replace("-", "_")
    info = site / f"{name.replace('-', '_')}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[console_scripts]\nx = {module}:main\n[pollux]\n{plugin} = {module}\n")
    if source is not None:
        (site / f"{module}.py").write_text(source)
    return site / f"{module}.py"


def environment(site: Path, **more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("POLLUX_")}
    path = os.pathsep.join(filter(None, [str(site), os.environ.get("PYTHONPATH")]))
    return {**kept, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1", **more}


@pytest.fixture
def site(tmp_path: Path) -> Path:
    path = tmp_path / "site"
    path.mkdir()
    return path


@pytest.fixture
def run(site: Path, tmp_path: Path) -> Run:
    """Run `pollux` in a new process that sees the distributions in `site`."""

    def pollux(*argv: str, **variables: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "pollux", *argv],
            env=environment(site, **variables),
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )

    return pollux


# What is installed here


def test_the_best_come_first_then_by_name() -> None:
    keys = [(-backend.priority, backend.name) for backend in registry.backends()]
    assert keys == sorted(keys)
    assert {"select", "poll", "epoll", "kqueue"} <= {name for _, name in keys}, "listed also where they cannot run"


def test_found_once_per_process() -> None:
    assert all(a is b for a, b in zip(registry.backends(), registry.backends(), strict=True))


def test_our_own_backends_are_plugins_like_any_other() -> None:
    for backend in registry.backends():
        plugin = registry.provider(backend)
        assert plugin is not None
        assert plugin.target
        assert re.fullmatch(r"\S+ \S+", plugin.distribution)


def test_each_hook_is_typed_documented_and_in_the_manual() -> None:
    hooks = {name: hook for name, hook in vars(hookspec).items() if name.startswith("pollux_")}
    assert set(hooks) == {"pollux_backends", "pollux_commands", "pollux_settings"}
    manual = (Path(__file__).parents[2] / "docs" / "plugins.md").read_text()
    for name, hook in hooks.items():
        signature = inspect.signature(hook)
        assert signature.return_annotation is not signature.empty, name
        assert all(p.annotation is not p.empty for p in signature.parameters.values()), name
        assert len(inspect.getdoc(hook) or "") > 100, name
        assert f"`{name}({', '.join(signature.parameters)})`" in manual, name


def test_listing_backends_creates_nothing(run: Run, site: Path) -> None:
    # `create` of this one raises: that the list is printed shows it was not called.
    install(site, "acme", "acme", HOOK + "return [Backend('acme', 'a poller', create, 1000)]\n")
    listed = run("backends")
    assert listed.returncode == 0
    assert re.search(r"^\*  acme +yes +a poller$", listed.stdout, re.MULTILINE)


SETTINGS_HOOK = """\
from pollux import hookimpl
from pollux.config import Option

@hookimpl
def pollux_settings():
    """


def test_a_third_party_setting_is_shown_with_its_origin_and_checked(run: Run, site: Path) -> None:
    install(site, "acme", "acme", SETTINGS_HOOK + "yield Option('acme_depth', int, 3, 'how deep', 'a number')\n")
    assert re.search(r"^acme_depth +3 +default +how deep$", run("config").stdout, re.MULTILINE)
    shown = run("config", POLLUX_ACME_DEPTH="4").stdout
    assert re.search(r"^acme_depth +4 +environment POLLUX_ACME_DEPTH +how deep$", shown, re.MULTILINE)
    wrong = run("config", POLLUX_ACME_DEPTH="deep")
    assert (wrong.returncode, "acme_depth is 'deep', expected a number" in wrong.stderr) == (2, True)


@pytest.mark.parametrize(
    ("result", "fault"),
    [
        ("pass", "returned None, expected an iterable of pollux.config.Option"),
        ("return ['depth']", "expected a pollux.config.Option, got 'depth'"),
        ("1 / 0", "raised ZeroDivisionError"),
        ("yield Option('Deep', int, 3, '', '')", "name is 'Deep', expected a lower-case word"),
        ("yield Option('deep', list, 3, '', '')", "expected str, int, float or bool"),
        ("yield Option('port', int, 3, '', '')", "setting 'port' is taken"),
        ("yield Option('backend', str, '', '', '')", "setting 'backend' is taken, by Pollux itself"),
    ],
)
def test_a_broken_settings_hook_is_told(run: Run, site: Path, result: str, fault: str) -> None:
    install(site, "acme", "acme", SETTINGS_HOOK + result + "\n")
    told = run("config")
    assert told.returncode == 2
    assert fault in told.stderr
    assert "acme" in told.stderr or "pollux_web" in told.stderr


def test_a_third_party_plugin_is_chosen_by_name(run: Run, site: Path) -> None:
    install(site, "acme", "acme", HOOK + "yield Backend('acme', 'a poller', create)\n")
    assert "backend chosen: acme, by environment POLLUX_BACKEND" in run("backends", POLLUX_BACKEND="acme").stdout
    by_itself = run("backends")
    assert "backend chosen: acme" not in by_itself.stdout, "priority 0: only by name"
    assert re.search(r"^ +acme +by name +a poller$", by_itself.stdout, re.MULTILINE)


# Broken plugins: each is one clear error, exit code 2, no traceback

BROKEN = {
    "raises on import": (
        "import json\n\njson.loads('{')\n",
        "importing 'acme_poll' raised JSONDecodeError: Expecting property name enclosed in double quotes.* ({file}:3)",
    ),
    "exits on import": ("raise SystemExit(3)\n", "importing 'acme_poll' raised SystemExit: 3 ({file}:1)"),
    "syntax error": ("x = 1\ndef f(:\n", "importing 'acme_poll' raised SyntaxError: invalid syntax.* ({file}:2)"),
    "missing module": (None, "importing 'acme_poll' raised ModuleNotFoundError: No module named 'acme_poll'"),
    "missing dependency": (
        "import nowhere_to_be_found\n",
        "importing 'acme_poll' raised ModuleNotFoundError: No module named 'nowhere_to_be_found' ({file}:1)",
    ),
    "hook raises": (HOOK + "raise OSError(5, 'no\\nluck')\n", "hook pollux_backends raised OSError: .* ({file}:8)"),
    "generator raises": (
        HOOK + "yield Backend('acme', 's', create)\n    1 // 0\n",
        "hook pollux_backends raised ZeroDivisionError: integer division or modulo by zero ({file}:9)",
    ),
    "forgotten return": (
        HOOK + "Backend('acme', 's', create)\n",
        "hook pollux_backends returned None, expected an iterable of pollux.Backend ({file}:6)",
    ),
    "not an iterable": (
        HOOK + "return Backend('acme', 's', create)\n",
        "hook pollux_backends returned Backend(.*, expected an iterable of pollux.Backend ({file}:6)",
    ),
    "a name": (
        HOOK + "return 'acme'\n",
        "hook pollux_backends returned 'acme', expected an iterable of pollux.Backend ({file}:6)",
    ),
    "wrong item": (
        HOOK + "return ['acme']\n",
        "hook pollux_backends: expected a pollux.Backend, got 'acme' ({file}:6)",
    ),
    "wrong name": (
        HOOK + "return [Backend('My Poller', 's', create)]\n",
        "hook pollux_backends: Backend 'My Poller': name is 'My Poller', expected a lower-case word.* ({file}:6)",
    ),
    "reserved name": (
        HOOK + "return [Backend('auto', 's', create)]\n",
        "hook pollux_backends: Backend 'auto': name is 'auto', expected a lower-case word other than 'auto' ({file}:6)",
    ),
    "wrong priority": (
        HOOK + "return [Backend('acme', 's', create, True)]\n",
        "hook pollux_backends: Backend 'acme': priority is True, expected an int >= 0 ({file}:6)",
    ),
    "wrong create": (
        HOOK + "return [Backend('acme', 's', None)]\n",
        "hook pollux_backends: Backend 'acme': create is None, expected a callable that returns a Poller ({file}:6)",
    ),
    "its own name twice": (
        HOOK + "return [Backend('acme', 's', create), Backend('acme', 't', create)]\n",
        "hook pollux_backends: backend name 'acme' is taken; registers it twice ({file}:6)",
    ),
    "unknown hook": (
        HEADER + "@hookimpl\ndef pollux_backend():\n    return []\n",
        "cannot be registered: unknown hook 'pollux_backend' in plugin .* ({file})",
    ),
    "unknown argument": (
        HEADER + "@hookimpl\ndef pollux_backends(loop):\n    return []\n",
        "cannot be registered: Plugin 'acme' for hook 'pollux_backends' .*'loop'.* ({file})",
    ),
    "wrapper": (
        HEADER + "@hookimpl(wrapper=True)\ndef pollux_backends():\n    return (yield)\n",
        "hook pollux_backends is a wrapper, expected a plain @hookimpl ({file}:6)",
    ),
    "command without run": (
        HEADER + "@hookimpl\ndef pollux_commands(subparsers):\n    subparsers.add_parser('acme')\n",
        "hook pollux_commands: command 'acme' has no `run`; expected parser.set_defaults(run=function) ({file}:6)",
    ),
    "command hook raises": (
        HEADER + "@hookimpl\ndef pollux_commands(subparsers):\n    subparsers.nonsense()\n",
        "hook pollux_commands raised AttributeError: .* ({file}:8)",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_plugin_is_one_clear_error(case: str, run: Run, site: Path) -> None:
    source, message = BROKEN[case]
    file = install(site, "acme-poll", "acme", source)
    failed = run("backends")
    first, *rest = failed.stderr.splitlines()
    expected = re.escape(f"pollux: plugin 'acme' of distribution 'acme-poll 1.0': {message}")
    assert re.fullmatch(expected.replace(r"\.\*", ".*").replace(r"\{file\}", re.escape(str(file))), first), first
    assert rest == ["  to go on: uninstall 'acme-poll', or set POLLUX_DISABLE_PLUGINS=acme"]
    assert (failed.returncode, failed.stdout) == (2, "")
    # The advice is true.
    going_on = run("backends", POLLUX_DISABLE_PLUGINS="other, acme")
    assert (going_on.returncode, going_on.stderr) == (0, "")
    assert "disabled plugins: other, acme (POLLUX_DISABLE_PLUGINS)" in going_on.stdout
    assert run("--version").returncode == 0


def test_a_backend_name_that_is_taken_names_both_plugins(run: Run, site: Path) -> None:
    file = install(site, "acme", "acme", HOOK + "return [Backend('same', 's', create)]\n")
    other = install(site, "best", "best", HOOK + "return [Backend('same', 's', create)]\n")
    failed = run("backends")
    assert failed.returncode == 2
    assert failed.stderr.splitlines()[0] == (
        "pollux: plugin 'best' of distribution 'best 1.0': hook pollux_backends: backend name 'same' is taken; "
        f"registers it too: plugin 'acme' of distribution 'acme 1.0' ({other}:6)"
    )
    assert file.exists()


def test_a_plugin_name_that_is_taken_names_both_distributions(run: Run, site: Path) -> None:
    install(site, "acme", "same", HOOK + "return []\n")
    install(site, "best", "same", HOOK + "return []\n")
    failed = run("backends")
    assert failed.returncode == 2
    first = failed.stderr.splitlines()[0]
    assert "the plugin name is taken, also registered by plugin 'same' of distribution" in first
    assert "'acme 1.0'" in first
    assert "'best 1.0'" in first


def test_a_check_that_raises_makes_it_unusable_and_names_the_plugin(run: Run, site: Path) -> None:
    source = HEADER + (
        "def check(): raise OSError('no\\nway')\n\n"
        "@hookimpl\ndef pollux_backends(): return [Backend('acme', 's', create, 1000, check)]\n"
    )
    install(site, "acme-poll", "acme", source)
    reason = "not usable: check raised OSError: no way (plugin 'acme' of distribution 'acme-poll 1.0')"
    listed = run("backends")
    assert listed.returncode == 0, "auto goes on to the next"
    assert reason in listed.stdout
    refused = run("backends", POLLUX_BACKEND="acme")
    assert refused.returncode == 2
    assert re.search(rf"^  acme +{re.escape(reason)}$", refused.stderr, re.MULTILINE)


def test_no_backend_at_all_says_what_is_missing(run: Run) -> None:
    failed = run("backends", POLLUX_DISABLE_PLUGINS="pollux_backends,pollux_twisted")
    assert (failed.returncode, failed.stdout) == (2, "")
    assert failed.stderr == (
        "pollux: no backend can be chosen automatically\n"
        "  no installed plugin registers a backend: POLLUX_DISABLE_PLUGINS=pollux_backends, pollux_twisted\n"
    )


def test_auto_never_takes_what_is_only_by_name(run: Run, site: Path) -> None:
    install(site, "acme", "acme", HOOK + "yield Backend('acme', 'a poller', create)\n")
    failed = run("backends", POLLUX_DISABLE_PLUGINS="pollux_backends,pollux_twisted")
    assert (failed.returncode, failed.stdout) == (2, "")
    assert failed.stderr == "pollux: no backend can be chosen automatically\n  acme  usable, only by name\n"


def test_a_malformed_distribution_of_somebody_else_does_not_matter(run: Run, site: Path) -> None:
    info = site / "other-1.0.dist-info"
    info.mkdir()
    (info / "entry_points.txt").write_text("[other\nnonsense")
    assert run("backends").returncode == 0


def test_our_section_malformed_names_the_distribution(run: Run, site: Path) -> None:
    install(site, "acme", "acme", "")
    (site / "acme-1.0.dist-info" / "entry_points.txt").write_text("[pollux]\nnonsense\n")
    failed = run("backends")
    assert failed.returncode == 2
    assert failed.stderr.startswith("pollux: distribution 'acme': cannot read its entry points: ")
    assert "Traceback" not in failed.stderr


def test_a_distribution_without_a_name_is_told_by_its_place(run: Run, site: Path) -> None:
    install(site, "acme", "acme", "")
    (site / "acme-1.0.dist-info" / "METADATA").unlink()
    failed = run("backends")
    assert failed.returncode == 2
    assert failed.stderr.startswith(f"pollux: a distribution in {site} registers Pollux plugins but has no name\n")


@pytest.mark.parametrize("first_is_a_plugin", [True, False])
def test_a_shadowed_copy_of_a_distribution_is_not_loaded(
    first_is_a_plugin: bool, run: Run, site: Path, tmp_path: Path
) -> None:
    old = tmp_path / "old"
    install(old, "acme", "acme", "raise RuntimeError('the shadowed copy was imported')\n", module="acme_old")
    install(site, "acme", "acme", HOOK + "return [Backend('acme', 's', create)]\n")
    if not first_is_a_plugin:
        (site / "acme-1.0.dist-info" / "entry_points.txt").unlink()
    path = os.pathsep.join(filter(None, [str(site), str(old), os.environ.get("PYTHONPATH")]))
    listed = run("backends", PYTHONPATH=path)
    assert (listed.returncode, listed.stderr) == (0, "")
    assert listed.stdout.count("acme") == first_is_a_plugin


# Commands that plugins bring

COMMAND = (
    HEADER
    + """
def greet(args):
    print("hello", args.name, flush=True)
    if args.wait:
        import signal
        signal.pause()
    return 7

@hookimpl
def pollux_commands(subparsers):
    parser = subparsers.add_parser("greet", help="say hello")
    parser.add_argument("name")
    parser.add_argument("--wait", action="store_true")
    parser.set_defaults(run=greet)
"""
)


def test_a_plugin_brings_a_command(run: Run, site: Path) -> None:
    install(site, "acme", "acme", COMMAND)
    done = run("greet", "you")
    assert (done.returncode, done.stdout, done.stderr) == (7, "hello you\n", "")
    assert re.search(r"^ +greet +say hello$", run("--help").stdout, re.MULTILINE)
    wrong = run("greet")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert wrong.stderr == ("pollux: the following arguments are required: name\n  see 'pollux greet --help'\n")


def test_two_plugins_cannot_bring_the_same_command(run: Run, site: Path) -> None:
    install(site, "acme", "acme", COMMAND)
    install(site, "best", "best", COMMAND)
    failed = run("config")
    assert failed.returncode == 2
    assert failed.stderr.startswith("pollux: plugin 'best' of distribution 'best 1.0': hook pollux_commands raised")
    assert "greet" in failed.stderr.splitlines()[0]


def test_ctrl_c_is_quiet(site: Path, tmp_path: Path) -> None:
    install(site, "acme", "acme", COMMAND)
    with subprocess.Popen(
        [sys.executable, "-m", "pollux", "greet", "you", "--wait"],
        env=environment(site),
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "hello you\n"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate()
    assert (process.returncode, out, err) == (130, "", "")
