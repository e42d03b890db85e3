"""The public Python interface, its example, and the commands beside it."""

import json
import runpy
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from published_schemas import validate
from results_examples import SWEEP, accuracy_outcome, begin, card, cell, facts, measure

import harness
from harness.analysis.result_row import COLUMNS, INVOCATION_COLUMNS, kind_of, unit_of
from harness.cli.main import app
from harness.errors import Failure, FailureClass, MissingPrerequisiteError, UsageError
from harness.export.text_formats import PAPER_COLUMNS
from harness.store import schema
from harness.store.records import SweepStatus
from harness.store.store import Store

ROOT = Path(__file__).parents[2]
OLDER = "20261123-083000-ab12"


@pytest.fixture
def folder(tmp_path):
    """Two nights: fp32 and int8 on two phones; prune50 failed."""
    results = tmp_path / "results"
    with Store.open(results) as store:
        for night, factor in ((OLDER, 1.2), (SWEEP, 1.0)):
            begin(store, night, variants=("fp32", "int8"), devices=[facts(), facts("1A2B", "Pixel 9")])
            store.add_variant(night, card("int8", 30_000))
            for serial in ("R58M", "1A2B"):
                for variant, latency_us in (("fp32", 200.0), ("int8", 100.0)):
                    latencies = [factor * (latency_us + step) for step in (0.0, 1.0, 2.0, 1.5, 0.5)]
                    measured = cell(variant, serial=serial)
                    measure(store, measured, latencies, outcome=accuracy_outcome(), sweep_id=night)
            store.add_variant_failure(night, "prune50", Failure(FailureClass.CONVERSION_FAILED, "No."))
            store.finish_sweep(night, SweepStatus.FINISHED)
    return results


def test_importing_harness_loads_nothing_heavy():
    program = "import sys, harness; print([name for name in ('pandas', 'numpy', 'sqlalchemy') if name in sys.modules])"
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert finished.stdout == "[]\n"


def types(table):
    return {name: str(kind) for name, kind in table.dtypes.items()}


def test_a_summary_has_the_documented_columns_and_types(folder):
    table = harness.load_results(folder)
    assert types(table) == {name: kind for name, (kind, _) in COLUMNS.items()}
    assert set(table["sweep_id"]) == {SWEEP}
    assert table.set_index(["serial", "variant"])["latency_median_us"]["R58M", "int8"] == 101.0


def test_invocations_have_the_documented_columns_and_types(folder):
    table = harness.load_results(folder, rows="invocations")
    assert types(table) == {name: kind for name, (kind, _) in INVOCATION_COLUMNS.items()}
    of_int8 = table[(table.variant == "int8") & (table.serial == "1A2B") & (table.purpose == "latency")]
    assert list(of_int8["latency_avg_us"]) == [100.0, 101.0, 102.0, 101.5, 100.5]
    assert set(of_int8["device"]) == {"Google Pixel 9"}
    assert (folder / of_int8["log_path"].iloc[0]).is_file()


def test_every_attempt_is_there_and_the_last_is_marked(tmp_path):
    from results_examples import add, failed, succeeded

    with Store.open(tmp_path) as store:
        begin(store)
        store.add_cell(SWEEP, cell())
        add(store, cell(), 0, failed(Failure(FailureClass.DEVICE_LOST, "Gone.")))
        add(store, cell(), 0, succeeded())
    table = harness.load_results(tmp_path, rows="invocations")
    assert list(table["attempt"]) == [1, 2]
    assert list(table["is_last_attempt"]) == [False, True]


def test_several_sweeps_stand_below_each_other(folder):
    assert list(harness.load_results(folder, sweep="all")["sweep_id"].unique()) == [OLDER, SWEEP]
    assert len(harness.load_results(folder, sweep=["latest", SWEEP])) == len(harness.load_results(folder))
    assert set(harness.load_results(folder, sweep="latest~1")["sweep_id"]) == {OLDER}


@pytest.mark.parametrize("rows", ["summary", "invocations"])
def test_a_store_without_sweeps_gives_an_empty_table_of_the_same_columns(tmp_path, rows):
    Store.open(tmp_path).close()
    empty = harness.load_results(tmp_path, sweep="all", rows=rows)
    assert len(empty) == 0
    assert types(empty) == {name: kind_of(name) for name in empty.columns}


def test_a_sweep_that_measured_nothing_has_no_invocations(tmp_path):
    with Store.open(tmp_path) as store:
        begin(store)
    table = harness.load_results(tmp_path, SWEEP, rows="invocations")
    assert types(table) == {name: kind for name, (kind, _) in INVOCATION_COLUMNS.items()}
    assert len(table) == 0


def test_what_is_not_there_is_told(folder, tmp_path):
    with pytest.raises(MissingPrerequisiteError):
        harness.load_results(tmp_path / "nosuch")
    with pytest.raises(UsageError, match="fits no sweep"):
        harness.load_results(folder, sweep="nosuch")
    with pytest.raises(UsageError, match="rows"):
        harness.load_results(folder, rows="nosuch")


def test_every_stored_column_of_a_process_is_documented():
    assert {column.name for column in schema.invocations.columns} <= set(INVOCATION_COLUMNS)
    text = (ROOT / "docs" / "exports.md").read_text()
    for name, (kind, description) in INVOCATION_COLUMNS.items():
        assert f"| `{name}` | {kind} | {description} |" in text


def test_the_unit_is_in_the_name():
    assert unit_of("latency_median_us") == "microseconds"
    assert unit_of("threads") is None
    for columns in (COLUMNS, INVOCATION_COLUMNS):
        for name, (_, description) in columns.items():
            if "microseconds" in description:
                assert unit_of(name) == "microseconds", name


def test_the_example_runs(folder, monkeypatch, capsys):
    monkeypatch.setenv("HARNESS_RESULTS", str(folder))
    monkeypatch.chdir(folder.parent)
    runpy.run_path(str(ROOT / "docs" / "examples" / "read_results.py"))
    printed = capsys.readouterr().out
    assert "int8" in printed
    assert (folder.parent / "latest.parquet").is_file()


@pytest.mark.parametrize("rows", ["summary", "invocations"])
@pytest.mark.parametrize("form", ["csv", "json", "parquet"])
def test_what_the_command_writes_is_what_python_loads(folder, tmp_path, form, rows, capsys):
    file = tmp_path / f"out.{form}"
    export(folder, "all", "--format", form, "--rows", rows, "-o", str(file))
    assert capsys.readouterr().err == f"Written: {file}\n"
    pd.testing.assert_frame_equal(harness.read_export(file), harness.load_results(folder, sweep="all", rows=rows))


def export(folder, *arguments):
    """Run the command in this process."""
    app(["results", "export", "--results", str(folder), *arguments], standalone_mode=False)


def test_columns_can_be_chosen(folder, capsys):
    export(folder, "--columns", "variant,latency_median_us")
    assert capsys.readouterr().out.splitlines()[0] == "variant,latency_median_us"
    export(folder, "--columns", "latency_median_us", "--format", "latex")
    assert "latency\\_median\\_us" in capsys.readouterr().out
    export(folder, "--columns", "latency_median_us", "--format", "json")
    validate("export-summary", json.loads(capsys.readouterr().out))
    with pytest.raises(UsageError, match="There is no column 'nosuch'"):
        export(folder, "--columns", "nosuch")


def test_columns_of_a_page_are_those_of_paper_in_any_format(folder, capsys):
    export(folder, "--format", "markdown", "--columns", "page")
    heading = capsys.readouterr().out.splitlines()[0]
    assert [name.strip().replace("\\", "") for name in heading.strip("|").split("|")] == list(PAPER_COLUMNS)


def test_a_table_for_paper_has_few_columns(folder, capsys):
    export(folder, "--format", "latex")
    latex = capsys.readouterr().out
    assert latex.startswith("\\begin{tabular}{lllrrrrrrrrl}\n")
    assert "int8" in latex


@pytest.mark.parametrize(
    "arguments",
    [
        ["--format", "nosuch"],
        ["--rows", "nosuch"],
        ["--format", "parquet"],
        ["--format", "tensorboard"],
        ["--format", "tensorboard", "--rows", "invocations", "-o", "x"],
        ["-o", "/nosuch/x.csv"],
        ["nosuch"],
    ],
)
def test_bad_exports_are_bad_usage(folder, arguments, capsys):
    with pytest.raises(UsageError):
        export(folder, *arguments)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("ending", ["csv", "json", "parquet", "md", "tex"])
def test_python_writes_what_the_command_writes(folder, tmp_path, ending):
    form = {"md": "markdown", "tex": "latex"}.get(ending, ending)
    chosen = ["variant", "latency_median_us"]
    export(folder, "--format", form, "--columns", ",".join(chosen), "-o", str(tmp_path / "a"))
    harness.write_export(harness.load_results(folder)[chosen], tmp_path / f"b.{ending}")
    assert (tmp_path / "a").read_bytes() == (tmp_path / f"b.{ending}").read_bytes()


def test_python_refuses_other_files(folder, tmp_path):
    table = harness.load_results(folder)
    with pytest.raises(UsageError, match="names no format"):
        harness.write_export(table, tmp_path / "a.xlsx")
    with pytest.raises(UsageError, match="cannot be written"):
        harness.write_export(table, tmp_path / "nosuch" / "a.csv")


@pytest.mark.parametrize(
    "arguments",
    [
        ["list", "--json"],
        ["show", "--json"],
        ["export", "--format", "json"],
        ["export", "--format", "json", "--rows", "invocations"],
        ["prune", "--keep", "1", "--dry-run", "--json"],
        ["prune", "--keep", "1", "--yes", "--json"],
    ],
)
def test_every_json_is_what_its_schema_says(harness_cli, folder, arguments):
    finished = harness_cli("results", *arguments, "--results", str(folder))  # the fixture validates
    assert finished.returncode == 0
    assert finished.stdout.startswith('{\n  "schema_version": 1,')
