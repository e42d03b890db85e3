"""What is exported comes back as it was: values, types, what is missing, and text that others would run."""

import csv
import io
import json
import math
import re

import pandas as pd
import pytest
from export_examples import HOSTILE, tables
from hypothesis import given, settings

from harness import read_export
from harness.analysis.result_row import COLUMNS, INVOCATION_COLUMNS
from harness.errors import UsageError
from harness.export.parquet import to_parquet
from harness.export.tables import typed_frame
from harness.export.text_formats import to_csv, to_json, to_latex, to_markdown


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("exports")


def read_again(folder, name, content):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_export(path)


@settings(max_examples=50)
@given(table=tables())
def test_csv_comes_back_as_it_was(folder, table):
    pd.testing.assert_frame_equal(read_again(folder, "a.csv", to_csv(table)), table)


@settings(max_examples=50)
@given(table=tables())
def test_parquet_comes_back_as_it_was(folder, table):
    pd.testing.assert_frame_equal(read_again(folder, "a.parquet", to_parquet(table)), table)


@settings(max_examples=50)
@given(table=tables(infinite=False))
def test_json_comes_back_as_it_was(folder, table):
    pd.testing.assert_frame_equal(read_again(folder, "a.json", to_json(table)), table)


def test_json_has_no_infinity(folder):
    table = typed_frame({"latency_median_us": [math.inf, 1.5]})
    assert read_again(folder, "a.json", to_json(table))["latency_median_us"].isna().tolist() == [True, False]


def test_columns_that_stand_in_both_tables_have_one_type():
    for name in COLUMNS.keys() & INVOCATION_COLUMNS.keys():
        assert COLUMNS[name][0] == INVOCATION_COLUMNS[name][0], name


@settings(max_examples=50)
@given(table=tables())
def test_other_readers_of_csv_find_no_formula(table):
    for row in csv.reader(io.StringIO(to_csv(table), newline="")):
        for value in row:
            assert not re.match(r"[=@\t\r\n\uff0b\uff0d\uff1d\uff20]|[+-](?![\d.]|inf)", value)


def test_pandas_alone_reads_what_is_in_a_csv(folder):
    table = typed_frame({"latency_median_us": [1.5, None, math.inf], "variant": ["a", None, "b"]})
    (folder / "plain.csv").write_text(to_csv(table))
    read = pd.read_csv(folder / "plain.csv")
    assert read["latency_median_us"].tolist()[::2] == [1.5, math.inf]
    assert read["variant"].tolist()[::2] == ["a", "b"]


def test_parquet_says_what_each_column_is(folder):
    import pyarrow.parquet

    (folder / "b.parquet").write_bytes(to_parquet(typed_frame({"latency_median_us": [1.5], "labels": [["hot"]]})))
    schema = pyarrow.parquet.read_schema(folder / "b.parquet")
    about = schema.field("latency_median_us").metadata
    assert about[b"unit"] == b"microseconds"
    assert about[b"description"].decode() == COLUMNS["latency_median_us"][1]
    assert str(schema.field("labels").type) == "list<element: string>"


@settings(max_examples=50)
@given(table=tables())
def test_markdown_has_one_line_a_row(table):
    lines = to_markdown(table).splitlines()
    assert len(lines) == len(table) + 2
    for line in lines[2:]:
        assert line.replace("\\\\", "").replace("\\|", "").count("|") == len(table.columns) + 1


LATEX_COMMANDS = {
    "begin",
    "end",
    "toprule",
    "midrule",
    "bottomrule",
    "textbackslash",
    "textasciitilde",
    "textasciicircum",
    "space",
}


def test_latex_runs_nothing_from_outside():
    text = to_latex(typed_frame({"variant": HOSTILE, "latency_median_us": [1234.5] * len(HOSTILE)}))
    assert set(re.findall(r"\\([a-zA-Z]+)", text)) <= LATEX_COMMANDS
    body = text.split("\\midrule\n")[1].split("\\bottomrule")[0]
    assert body.count("\\\\\n") == len(HOSTILE)
    for line in body.splitlines():
        assert len(re.findall(r"(?<!\\)&", line)) == 1
        assert not re.search(r"(?<!\\)[%$#]", line)


def test_latex_aligns_numbers_to_the_right():
    text = to_latex(typed_frame({"variant": ["int8"], "latency_median_us": [1234.5678], "top1": [None]}))
    assert text.splitlines() == [
        r"\begin{tabular}{lrr}",
        r"\toprule",
        r"variant & latency\_median\_us & top1 \\",
        r"\midrule",
        r"int8 & 1234.57 &  \\",
        r"\bottomrule",
        r"\end{tabular}",
    ]


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"[]", b"\xff\xfe", b"PAR1", json.dumps({"schema_version": 9}).encode()]
)
@pytest.mark.parametrize("ending", ["csv", "json", "parquet", "xlsx"])
def test_what_is_no_export_is_refused_in_one_sentence(tmp_path, ending, content):
    path = tmp_path / f"a.{ending}"
    path.write_bytes(content)
    with pytest.raises(UsageError) as caught:
        read_export(path)
    assert str(path) in str(caught.value)


def test_a_missing_export_is_refused(tmp_path):
    with pytest.raises(UsageError, match="cannot be read: No such file"):
        read_export(tmp_path / "nosuch.csv")


@settings(max_examples=50)
@given(table=tables())
def test_json_is_strict_and_has_a_version(table):
    document = json.loads(to_json(table), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert document["schema_version"] == 1
    assert document["columns"] == list(table.columns)
