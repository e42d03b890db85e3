"""The layout rules that a newcomer relies on: small folders, small files, one name for one thing."""

import ast
from collections import Counter
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "harness"
FILES = sorted(PACKAGE.rglob("*.py"))
PLUG_IN_FOLDERS = {"cli/commands", "compression/techniques"}
MOST_FILES, MOST_LINES, MOST_ANY = 15, 500, 10


def test_no_folder_holds_more_than_fifteen_files():
    counts = Counter(file.parent.relative_to(PACKAGE).as_posix() for file in FILES)
    assert {folder: n for folder, n in counts.items() if n > MOST_FILES and folder not in PLUG_IN_FOLDERS} == {}


def test_no_file_is_longer_than_five_hundred_lines():
    lengths = {file.relative_to(PACKAGE).as_posix(): len(file.read_text().splitlines()) for file in FILES}
    assert {file: n for file, n in lengths.items() if n > MOST_LINES} == {}


def test_no_line_is_left_out_of_formatting():
    assert [file.name for file in FILES if "fmt: skip" in file.read_text()] == []


def test_few_values_are_of_any_type():
    assert sum(file.read_text().count("noqa: ANN401") for file in FILES) <= MOST_ANY


def test_a_class_name_stands_for_one_class():
    names = Counter(
        node.name for file in FILES for node in ast.parse(file.read_text()).body if isinstance(node, ast.ClassDef)
    )
    assert {name for name, n in names.items() if n > 1} == set()
