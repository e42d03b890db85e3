"""Tables at every width: nothing is cut, the least important columns go first, and it is said which."""

import io
import re

import pytest
from results_examples import accuracy_outcome, begin, cell, facts, measure
from rich.console import Console

from harness.analysis.cell_comparison import Subject, compare_cells, pair_cells
from harness.analysis.comparable_cell import read_comparable_cells
from harness.analysis.device_noise import read_noise
from harness.analysis.summary import summarize
from harness.report.terminal.comparison import comparison_table
from harness.report.terminal.fitting import FittedTable, FittingColumn, FittingRow, Section
from harness.report.terminal.sweep_table import COLUMNS, sweep_table
from harness.store.store import Store

COLUMNS_OF_TEST = (
    FittingColumn("name", 3, may_fold=True),
    FittingColumn("size\nkB", 1, is_numeric=True),
    FittingColumn("rank", 2),
)
ROWS = Section([FittingRow(["a name of words", "123456", "first"]), FittingRow(["b", "7", "second"])], "Phone [x]")


def drawn(renderable, width):
    console = Console(width=width, file=io.StringIO(), color_system=None, force_terminal=True)
    console.print(renderable)
    return console.file.getvalue()


@pytest.mark.parametrize(
    ("width", "shown", "told"),
    [(60, {"123456", "second"}, None), (20, {"second"}, "Too narrow for: size kB"), (10, set(), "size kB, rank")],
)
def test_columns_go_by_their_worth_and_are_named(width, shown, told):
    table = FittedTable(COLUMNS_OF_TEST, [ROWS])
    text = drawn(table, width)
    words = " ".join(text.split())
    assert {text for text in ("123456", "second") if text in words} == shown
    assert (told in words) if told else ("Too narrow" not in words)
    assert all(word in words for word in ("a", "name", "words", "Phone", "[x]"))
    assert max(map(len, text.splitlines())) <= width


def test_sections_share_their_columns():
    wide = Section([FittingRow(["x" * 30, "1", "first"])], "Other")
    lines = drawn(FittedTable(COLUMNS_OF_TEST, [ROWS, wide]), 36).splitlines()
    assert sum("name" in line and "rank" in line for line in lines) == 0
    assert "Too narrow for: size kB, rank" in " ".join(lines)


def test_the_last_column_breaks_its_words_rather_than_be_cut():
    text = drawn(FittedTable(COLUMNS_OF_TEST, [Section([FittingRow(["abcdefghijklmnop", "1", "2"])])]), 8)
    assert "abcdefghijklmnop" in re.sub(r"\s", "", text)


@pytest.fixture
def store(tmp_path):
    with Store.open(tmp_path) as opened:
        for sweep, factor in (("20261124-083000-aaaa", 1.0), ("20261124-093000-bbbb", 1.3)):
            begin(opened, sweep, variants=("prune50-distilled-int8",), devices=[facts()])
            for delegate in ("cpu", "nnapi:google-edgetpu"):
                latencies_us = [factor * value for value in (1000.0, 1010.0, 1020.0, 1015.0, 1005.0)]
                of_sweep = cell("prune50-distilled-int8", delegate)
                measure(opened, of_sweep, latencies_us, outcome=accuracy_outcome(), sweep_id=sweep)
        yield opened


@pytest.mark.parametrize("width", [40, 60, 80, 120, 200])
def test_the_table_of_a_sweep_cuts_nothing(store, width):
    text = drawn(sweep_table(summarize(store, "20261124-083000-aaaa")), width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    told = re.search(r"Too narrow for: (.*) \(see", " ".join(text.split()))
    left_out = told[1].split(", ") if told else []
    headings = [" ".join(column.fitting.heading.split()) for column in COLUMNS]
    worth = {heading: column.fitting.worth for heading, column in zip(headings, COLUMNS, strict=True)}
    assert sorted(worth[heading] for heading in left_out) == list(range(1, len(left_out) + 1))
    assert bool(left_out) is (width < 200)


def test_80_columns_show_what_decides(store):
    text = " ".join(drawn(sweep_table(summarize(store, "20261124-083000-aaaa")), 80).split("Too narrow")[0].split())
    for shown in ("variant", "prune50-distilled-int8", "rank", "ms", "interval", "MB", "top-1", "91.0", "1.00..1.02"):
        assert shown in text


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_the_table_of_a_comparison_cuts_nothing(store, width):
    before, after = (
        read_comparable_cells(store, sweep.id) for sweep in sorted(store.sweeps(), key=lambda sweep: sweep.id)
    )
    compared = compare_cells(pair_cells(before, after, Subject.SWEEP), read_noise(store, before))
    text = drawn(comparison_table(compared), width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    assert "inconclusive" in text
    told = text.partition("Too narrow for:")[2]
    assert ("noise floor %" in " ".join(told.split())) is (width < 80)


@pytest.mark.parametrize("command", [("recipes",), ("doctor",), ("sweep", "--dry-run")])
def test_other_tables_break_words_rather_than_cut_them(harness_cli, command):
    done = harness_cli(*command, COLUMNS="60")
    assert done.stdout
    assert "…" not in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 60
