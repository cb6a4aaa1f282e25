"""Tables as text, and the files."""

import importlib.util
import json
from pathlib import Path

import pytest

from benchmarks.report import Report, Series, Table, markdown, matrix, number


def table() -> Table:
    return Table(
        "a question",
        "us",
        "peer",
        [
            Series("peer", [10.0, 20.0, 12.0], {"version": "1.2"}),
            Series("pollux", [5.0, 10.0, 9.0]),
        ],
    )


@pytest.mark.parametrize(
    ("value", "text"), [(0.8531, "0.853"), (4.704, "4.70"), (11.34, "11.3"), (1793.4, "1,793"), (0.0, "0.000")]
)
def test_three_digits(value: float, text: str) -> None:
    assert number(value) == text


def test_least_first_with_ratios_of_each_round() -> None:
    assert markdown(table()).splitlines() == [
        "### a question",
        "",
        "|  | us, median | min .. max | / peer | min .. max | version |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
        "| **pollux** | 9.00 | 5.00 .. 10.0 | 0.50x | 0.500 .. 0.750 |  |",
        "| peer | 12.0 | 10.0 .. 20.0 | 1.00x | 1.00 .. 1.00 | 1.2 |",
    ]


@pytest.mark.parametrize("values", [None, [0.0, 1.0, 1.0]])
def test_without_a_usable_reference_there_are_no_ratios(values: list[float] | None) -> None:
    plain = table()
    plain.series = plain.series[1:] + ([Series("peer", values)] if values else [])
    assert "/ peer" not in markdown(plain)
    assert "| **pollux** | 9.00 | 5.00 .. 10.0 |" in markdown(plain)


def test_matrix_has_a_row_for_each_question() -> None:
    other = Table("another", "us", "peer", [Series("peer", [1.0])])
    assert matrix([table(), other]).splitlines() == [
        "| us, median | peer | pollux | pollux / peer |",
        "| --- | ---: | ---: | ---: |",
        "| a question | 12.0 | 9.00 | 0.50x (0.500 .. 0.750) |",
        "| another | 1.00 |  |  |",
    ]


def test_files_hold_every_round_and_the_notes(tmp_path: Path) -> None:
    report = Report("stem", "Title", "Method.", [table()], ["somebody was left out"])
    written = report.write(tmp_path / "new")
    text = (tmp_path / "new/stem.md").read_text()
    assert "# Title" in text
    assert "- somebody was left out\n" in text
    data = json.loads((tmp_path / "new/stem.json").read_text())
    assert data["tables"][0]["series"][0]["values"] == [10.0, 20.0, 12.0]
    assert data["environment"]["python"].startswith("CPython")
    assert all(path.exists() for path in written)


def test_a_missing_matplotlib_is_left_out_with_a_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    written = Report("stem", "Title", "Method.", [table()]).write(tmp_path)
    assert [path.suffix for path in written] == [".json", ".md"]
    assert "pip install matplotlib" in (tmp_path / "stem.md").read_text()


def test_the_plot_is_a_picture(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib comes with the bench extra")
    Report("stem", "Title", "Method.", [table(), table()]).write(tmp_path)
    assert (tmp_path / "stem.png").read_bytes().startswith(b"\x89PNG")
