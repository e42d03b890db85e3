"""`harness history` as a person and a program see it."""

import io
import json
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console
from stored_nights import add_night, made_cell, made_night, processes, sweep_id
from typer.testing import CliRunner

from harness.analysis.history.steps import find_shifts, group_by_cause
from harness.cli.main import app
from harness.errors import UsageError
from harness.report.terminal.history import cell_screen, overview_screen
from harness.store.store import Store

NIGHTS = 24
UPDATED_AT = 12


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Two variants; the phone was updated in the middle, and both became slower."""
    folder = tmp_path_factory.mktemp("history") / "results"
    generator = np.random.default_rng(5)
    with Store.open(folder) as store:
        for night in range(NIGHTS):
            updated = night >= UPDATED_AT
            levels = {"fp32": 2200 if updated else 2000, "int8": 1100 if updated else 1000}
            add_night(
                store,
                night,
                {name: processes(generator, level, noise=0.01) for name, level in levels.items()},
                os="build-2" if updated else "build-1",
            )
    return str(folder)


@pytest.fixture
def history(results):
    """Run the verb in this process: what a table says needs no new interpreter."""

    def run(*arguments, columns="160"):
        return CliRunner().invoke(app, ["history", *arguments, "--results", results], env={"COLUMNS": columns})

    return run


def test_one_cell_as_json_tells_nights_stretches_and_steps(history):
    document = json.loads(history("int8", "cpu", "--json").stdout)
    assert document["schema_version"] == 1
    (cell,) = document["cells"]
    assert (cell["variant"], cell["delegate"], cell["serial"]) == ("int8", "cpu", "R58M")
    assert len(cell["nights"]) == NIGHTS
    assert [len(part) for part in cell["stretches"]] == [UPDATED_AT, NIGHTS - UPDATED_AT]
    (step,) = cell["steps"]
    assert step["sweep"] == sweep_id(UPDATED_AT)
    assert step["alike"] is False
    assert step["causes"] == [{"what": "os", "before": "build-1", "after": "build-2"}]


def test_one_cell_on_the_screen_says_that_it_is_not_like_with_like(history):
    finished = history("int8", "cpu")
    assert finished.exit_code == 0
    assert "os: build-1 -> build-2" in finished.stdout
    assert "Not like with like: os changed there" in finished.stdout
    assert finished.stdout.count("●") == NIGHTS


def test_all_cells_are_grouped_by_what_they_share(history):
    stdout = history().stdout
    assert "2 steps where os: build-1 -> build-2 (nights before and after are not alike)" in stdout
    assert "int8" in stdout
    assert "fp32" in stdout


def test_markdown_has_one_row_a_night(history):
    stdout = history("int8", "cpu", "--format", "markdown").stdout
    assert sum(line.startswith("| 2026-") for line in stdout.splitlines()) == NIGHTS


def test_the_screen_fits_a_narrow_terminal(history):
    stdout = history("int8", "cpu", columns="80").stdout
    assert max(map(len, stdout.splitlines())) <= 80


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nosuch", "cpu"], "No sweep holds nosuch cpu."),
        (["int8"], "Invalid cell 'int8'."),
        (["--format", "xml"], "Invalid value 'xml' for --format."),
    ],
)
def test_what_cannot_be_shown_is_said(history, arguments, sentence):
    error = history(*arguments).exception
    assert isinstance(error, UsageError)
    assert str(error) == sentence


def test_without_results_there_is_nothing_to_show(harness_cli, tmp_path):
    assert harness_cli("history", "--results", str(tmp_path / "none")).returncode == 3


def test_names_from_outside_do_not_reach_the_terminal_as_they_are():
    hostile = "[red]x[/red]\x1b[31m\x00\n"
    cell = made_cell(made_night(number, [1000.0 + number] * 5, os=hostile * (number // 4)) for number in range(12))
    cell = replace(cell, device=hostile, name=replace(cell.name, variant=hostile, serial=hostile))
    history = find_shifts(cell)
    screen = Console(width=100, file=(written := io.StringIO()))
    screen.print(cell_screen(history, width=100))
    screen.print(overview_screen([history], group_by_cause(history.steps)))
    assert "[red]x[/red]" in written.getvalue()
    assert not {"\x1b", "\x00"} & set(written.getvalue())
