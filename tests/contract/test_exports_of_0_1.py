"""What harness 0.1 exported is exported again, byte for byte, and can be read back."""

from __future__ import annotations

import csv
import io

import pyarrow.parquet
import pytest
from stored import differences, validate, without_prose

import harness

ROWS = ("summary", "invocations")
PROSE_COLUMNS = ("failure_message", "failure_advice")
"""Summary columns that may hold harness's own sentences; `summary-without-prose` leaves them out."""


def export(stored, tmp_path, *arguments):
    """Export all sweeps into a file; return its bytes."""
    path = tmp_path / "export"
    finished = stored.run("results", "export", "all", *arguments, "-o", str(path))
    assert finished.code == 0, finished.err
    return path.read_bytes()


def exported(stored, name):
    """Return the bytes that harness 0.1 exported."""
    return (stored.folder / "exports" / name).read_bytes()


@pytest.mark.parametrize("form", ["csv", "json", "markdown", "latex"])
def test_invocations_are_equal_byte_for_byte(stored, tmp_path, form):
    new = export(stored, tmp_path, "--rows", "invocations", "--format", form)
    assert new == exported(stored, f"invocations.{form}")


def test_latex_of_a_summary_is_equal_byte_for_byte(stored, tmp_path):
    assert export(stored, tmp_path, "--format", "latex") == exported(stored, "summary.latex")


@pytest.mark.parametrize("form", ["csv", "markdown"])
def test_all_but_prose_of_a_summary_is_equal_byte_for_byte(stored, tmp_path, form):
    columns = stored.read_json("exports/summary.json")["columns"]
    chosen = ",".join(name for name in columns if name not in PROSE_COLUMNS)
    new = export(stored, tmp_path, "--columns", chosen, "--format", form)
    assert new == exported(stored, f"summary-without-prose.{form}")


@pytest.mark.parametrize("form", ["csv", "markdown"])
def test_a_whole_summary_has_the_same_columns_and_rows(stored, tmp_path, form):
    old, new = exported(stored, f"summary.{form}"), export(stored, tmp_path, "--format", form)
    assert new.splitlines()[0].startswith(old.splitlines()[0].rstrip(b" |"))  # columns are appended
    if form == "csv":
        tables = [list(csv.DictReader(io.StringIO(data.decode(), newline=""))) for data in (old, new)]
        assert differences(*map(without_prose, tables)) == []
    else:
        assert len(new.splitlines()) == len(old.splitlines())


@pytest.mark.parametrize("rows", ROWS)
def test_json_old_and_new_is_equal_and_fits_its_schema(stored, tmp_path, rows):
    export(stored, tmp_path, "--rows", rows, "--format", "json")
    old, new = (type(stored)(folder).read_json(name) for folder, name in (
        (stored.folder, f"exports/{rows}.json"), (tmp_path, "export")))  # fmt: skip
    for document in (old, new):
        validate(f"export-{rows}", document)
    new["columns"] = new["columns"][: len(old["columns"])]  # columns are appended
    assert differences(without_prose(old), without_prose(new)) == []


@pytest.mark.parametrize("rows", ROWS)
def test_parquet_has_the_same_columns_types_units_and_values(stored, tmp_path, rows):
    export(stored, tmp_path, "--rows", rows, "--format", "parquet")
    old, new = (pyarrow.parquet.read_table(path) for path in (
        stored.folder / f"exports/{rows}.parquet", tmp_path / "export"))  # fmt: skip
    assert new.schema.metadata == old.schema.metadata
    assert new.column_names[: len(old.column_names)] == old.column_names
    new = new.select(old.column_names)
    assert new.schema.equals(old.schema)
    assert _units(new) == _units(old)
    assert differences(without_prose(old.to_pylist()), without_prose(new.to_pylist())) == []


def _units(table):
    return {field.name: (field.metadata or {}).get(b"unit") for field in table.schema}


@pytest.mark.parametrize("form", ["csv", "json", "parquet"])
@pytest.mark.parametrize("rows", ROWS)
def test_an_old_export_is_read_back_as_the_store_is_read(stored, rows, form, monkeypatch):
    monkeypatch.chdir(stored.folder)
    old = harness.read_export(f"exports/{rows}.{form}")
    new = harness.load_results("results", "all", rows)
    assert old.dtypes.to_dict() == new[list(old.columns)].dtypes.to_dict()
    names = [name for name in old.columns if rows == "invocations" or name not in PROSE_COLUMNS]
    tables = [_values(table[names]) for table in (old, new)]
    assert differences(*tables) == []


def _values(table):
    return table.astype(object).where(table.notna(), None).to_dict("records")
