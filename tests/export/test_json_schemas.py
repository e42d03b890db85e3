"""The published schemas are those of the program, are valid themselves, and refuse what is not theirs."""

import json

import jsonschema
import pytest
from export_examples import values_of
from hypothesis import given, settings
from hypothesis import strategies as st
from published_schemas import FOLDER, published, validate

from harness.analysis.result_row import COLUMNS, INVOCATION_COLUMNS
from harness.export.json_schema import schemas
from harness.export.tables import typed_frame
from harness.export.text_formats import to_json

NAMES = sorted(schemas())


def test_every_schema_is_published_as_it_is():
    assert sorted(path.name for path in FOLDER.iterdir()) == [f"{name}.v1.json" for name in NAMES]
    for name in NAMES:
        assert published(name) == schemas()[name], f"harness results schema {name} > docs/schemas/{name}.v1.json"


@pytest.mark.parametrize("name", NAMES)
def test_every_schema_is_one(name):
    jsonschema.Draft202012Validator.check_schema(published(name))


def test_the_command_prints_them_and_knows_no_others(harness_cli):
    assert json.loads(harness_cli("results", "schema", "export-summary").stdout) == published("export-summary")
    assert sorted(harness_cli("results", "schema").stdout.split()) == NAMES
    assert harness_cli("results", "schema", "nosuch").returncode == 2


def whole_rows(columns):
    return st.fixed_dictionaries({name: values_of(name, kind) for name, (kind, _) in columns.items()})


@settings(max_examples=20)
@given(row=whole_rows(COLUMNS))
def test_every_summary_is_valid(row):
    table = typed_frame({name: [value] for name, value in row.items()})
    validate("export-summary", json.loads(to_json(table, rows_are="summary")))


@settings(max_examples=20)
@given(row=whole_rows(INVOCATION_COLUMNS))
def test_every_table_of_invocations_is_valid(row):
    table = typed_frame({name: [value] for name, value in row.items()})
    validate("export-invocations", json.loads(to_json(table, rows_are="invocations")))


GOOD = {"schema_version": 1, "rows_are": "summary", "columns": ["threads"], "rows": [{"threads": 1}]}


@pytest.mark.parametrize(
    "changes",
    [
        {"schema_version": 2},
        {"rows_are": "invocations"},
        {"columns": ["nosuch"]},
        {"rows": [{"threads": "1"}]},
        {"rows": [{"nosuch": 1}]},
        {"rows": None},
        {"more": 1},
    ],
)
def test_what_is_none_is_refused(changes):
    validate("export-summary", GOOD)
    with pytest.raises(jsonschema.ValidationError):
        validate("export-summary", GOOD | changes)
