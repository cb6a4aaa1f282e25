"""Tables, JSON and plots of measured series; knows nothing of how they were measured.

Results are three files of one stem: `.md` to read, `.json` with every round for whoever doubts the table, `.png` to
look at (needs matplotlib, and is left out with a word without it).
"""

import importlib
import importlib.metadata
import importlib.util
import json
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.measure import Summary, ratio, summary

OURS = "pollux"


@dataclass(slots=True)
class Series:
    """One contestant's measurements, one a round, and what else is told of it (column -> text)."""

    name: str
    values: list[float] = field(default_factory=list)
    notes: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Table:
    """One question put to several contestants.

    :param title: the question.
    :param unit: of all values, such as `us/request`; less is better.
    :param reference: the name of the series that ratios are taken to; without that series there are none.
    """

    title: str
    unit: str
    reference: str
    series: list[Series]

    def ratios(self) -> dict[str, Summary]:
        """Return each series' ratio to the reference, round by round; none if that is absent or nothing (no bytes)."""
        to = next((s.values for s in self.series if s.name == self.reference), [])
        if not to or min(to) <= 0:
            return {}
        return {s.name: ratio(s.values, to) for s in self.series}


def number(value: float) -> str:
    """Format to three significant digits without an exponent: 0.853, 11.3, 1,793."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}" if abs(value) >= 1 else f"{value:.3f}"


def markdown(table: Table) -> str:
    """Return a table with a row for each series, least first."""
    ratios = table.ratios()
    columns = list(dict.fromkeys(column for s in table.series for column in s.notes))
    head = ["", f"{table.unit}, median", "min .. max"]
    if ratios:
        head += [f"/ {table.reference}", "min .. max"]
    rows = []
    for s in sorted(table.series, key=lambda s: summary(s.values).median):
        own = summary(s.values)
        row = [f"**{s.name}**" if s.name.startswith(OURS) else s.name, number(own.median), _spread(own)]
        if ratios:
            row += [f"{ratios[s.name].median:.2f}x", _spread(ratios[s.name])]
        rows.append(row + [s.notes.get(column, "") for column in columns])
    return f"### {table.title}\n\n" + _grid(head + columns, rows)


def matrix(tables: Sequence[Table]) -> str:
    """Return one table of medians for many: a row for each question, a column for each contestant, then our ratio.

    Our ratio is to the tables' reference, as `median (min .. max)`.
    """
    names = list(dict.fromkeys(s.name for table in tables for s in table.series))
    reference = tables[0].reference
    ours = [name for name in names if name.startswith(OURS)]
    compared = bool(ours) and reference in names
    rows = []
    for table in tables:
        medians = {s.name: number(summary(s.values).median) for s in table.series}
        row = [table.title, *(medians.get(name, "") for name in names)]
        if compared:
            to = table.ratios()
            row += [f"{to[n].median:.2f}x ({_spread(to[n])})" if n in to else "" for n in ours]
        rows.append(row)
    head = [f"{tables[0].unit}, median", *names, *([f"{name} / {reference}" for name in ours] if compared else [])]
    return _grid(head, rows)


def _spread(s: Summary) -> str:
    return f"{number(s.low)} .. {number(s.high)}"


def _grid(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def version(distribution: str) -> str:
    """Return an installed distribution's version, or an empty text."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return ""


def environment() -> dict[str, str]:
    """Return what the numbers depend on: interpreter, kernel, processor, date (UTC)."""
    processor = platform.processor() or platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                processor = line.partition(":")[2].strip()
                break
    except OSError:
        pass
    return {
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "kernel": f"{platform.system()} {platform.release()}",
        "processor": processor,
        "date": datetime.now(UTC).isoformat(timespec="minutes"),
    }


@dataclass(slots=True)
class Report:
    """Everything one run found out.

    :param stem: name of the result files, without suffix.
    :param title: the heading.
    :param method: how it was measured, in a sentence or two.
    :param notes: who was left out and why, and what to beware of.
    :param as_matrix: print one matrix of all tables instead of a table each.
    """

    stem: str
    title: str
    method: str
    tables: list[Table]
    notes: list[str] = field(default_factory=list)
    as_matrix: bool = False

    def text(self) -> str:
        """Return the report as markdown."""
        facts = ", ".join(f"{key} {value}" for key, value in environment().items())
        body = matrix(self.tables) if self.as_matrix else "\n".join(markdown(table) for table in self.tables)
        notes = "".join(f"- {note}\n" for note in self.notes)
        return f"# {self.title}\n\n{self.method}\n\nMeasured with: {facts}.\n\n{body}\n{notes}"

    def write(self, directory: Path) -> list[Path]:
        """Write the files into `directory`, which is made if need be; return them. A missing plot becomes a note."""
        directory.mkdir(parents=True, exist_ok=True)
        written = []
        if importlib.util.find_spec("matplotlib") is None:
            self.notes.append("no plot: matplotlib is not installed (pip install matplotlib)")
        else:
            written.append(directory / f"{self.stem}.png")
            plot(self.tables, written[-1])
        data: dict[str, Any] = {
            "title": self.title,
            "method": self.method,
            "environment": environment(),
            "tables": [asdict(table) for table in self.tables],
            "notes": self.notes,
        }
        for suffix, text in ((".md", self.text()), (".json", json.dumps(data, indent=1) + "\n")):
            written.insert(0, directory / f"{self.stem}{suffix}")
            written[0].write_text(text)
        return written


def plot(tables: Sequence[Table], path: Path) -> None:
    """Draw horizontal bars of the medians with min..max whiskers, one panel for each table.

    :raises ImportError: matplotlib is missing.
    """
    figures = importlib.import_module("matplotlib.figure")
    height = sum(1.2 + 0.32 * len(table.series) for table in tables)
    figure = figures.Figure(figsize=(8, height), layout="constrained")
    panels = figure.subplots(
        len(tables), squeeze=False, gridspec_kw={"height_ratios": [len(t.series) + 2 for t in tables]}
    )
    for panel, table in zip(panels[:, 0], tables, strict=True):
        ordered = sorted(table.series, key=lambda s: summary(s.values).median, reverse=True)
        stats = [summary(s.values) for s in ordered]
        medians = [s.median for s in stats]
        panel.barh(
            [s.name for s in ordered],
            medians,
            xerr=[[s.median - s.low for s in stats], [s.high - s.median for s in stats]],
            color=["#c4473a" if s.name.startswith(OURS) else "#7d93a8" for s in ordered],
            error_kw={"elinewidth": 1, "ecolor": "#333333"},
        )
        for row, s in enumerate(stats):
            panel.text(s.high, row, f"  {number(s.median)}", va="center", fontsize=8)
        panel.set_title(table.title, fontsize=10, loc="left")
        panel.set_xlabel(f"{table.unit} (less is better)", fontsize=8)
        panel.margins(x=0.12)
        panel.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120)
