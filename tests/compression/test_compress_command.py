"""`harness compress` and `harness recipes` as a user runs them."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from small_graphs import dense_graph

Cli = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def float_file(tmp_path: Path) -> Path:
    path = tmp_path / "my model.tflite"
    path.write_bytes(dense_graph())
    return path


def test_a_file_without_data_gets_the_recipes_that_need_none(harness_cli: Cli, float_file: Path) -> None:
    done = harness_cli("compress", str(float_file), "--output", "out")
    assert done.returncode == 0, done.stderr
    assert "has no calibration data: leaving out int8, int8-io." in done.stderr
    for name in ("fp32", "fp16", "dynamic-int8"):
        variant = float_file.parent / "out" / f"my model-{name}.tflite"
        card = json.loads(variant.with_suffix(".json").read_text())
        assert card["size_bytes"] == variant.stat().st_size
        assert f"{name}: out/my model-{name}.tflite" in done.stdout
    assert "\x1b[" not in done.stdout + done.stderr


def test_json_holds_variants_and_failures(harness_cli: Cli, float_file: Path) -> None:
    done = harness_cli("compress", str(float_file), "--recipe", "fp16", "--recipe", "int8", "--json")
    assert done.returncode == 1
    answer = json.loads(done.stdout)
    assert answer["schema_version"] == 1
    (variant,) = answer["variants"]
    assert (variant["recipe"], variant["weight_types"]["float16"]) == ("fp16", 128)
    assert Path(variant["path"]).is_file()
    (failure,) = answer["failures"]
    assert (failure["recipe"], failure["class"]) == ("int8", "conversion_failed")


def test_the_table_cuts_no_number_off_in_80_columns(harness_cli: Cli, float_file: Path) -> None:
    recipes = ["--recipe", "fp32, fp16, dynamic-int8, prune50-untrained"]
    done = harness_cli("compress", str(float_file), *recipes, COLUMNS="80")
    rows = [line for line in done.stdout.splitlines() if "/" not in line]
    assert max(map(len, rows)) <= 80
    assert "…" not in done.stdout
    card = json.loads(harness_cli("compress", str(float_file), "--recipe", "fp16", "--json").stdout)["variants"][0]
    (row,) = (row for row in rows if row.split()[:1] == ["fp16"])
    size, gzip_size, operators = row.split()[1:4]
    assert (size, operators) == (f"{card['size_bytes'] / 1000:.1f}", str(sum(card["operators"].values())))
    assert gzip_size == f"{card['gzip_size_bytes'] / 1000:.1f}"


def test_one_cause_that_stops_several_recipes_is_printed_once(harness_cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "own.tflite").write_bytes(dense_graph(custom_operator="MyOperator"))
    done = harness_cli("compress", "own.tflite", "--recipe", "fp32, fp16, int8")
    assert done.returncode == 1
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert errors[0].endswith("MyOperator. The same goes for fp16.")
    assert len(errors) == 2
    assert "no data to calibrate on" in errors[1]


@pytest.mark.parametrize(
    ("arguments", "exit_code", "says"),
    [
        (["no-such-model"], 2, "There is no model 'no-such-model'"),
        (["missing.tflite"], 2, "no such file"),
        (["my model.tflite", "--recipe", "int9"], 2, "There is no recipe 'int9'"),
        (["my model.tflite", "--recipe", "int8"], 1, "no data to calibrate on"),
        (["empty.tflite", "--recipe", "as-is"], 1, "is empty"),
        (["text.tflite", "--recipe", "as-is"], 1, "text.tflite is not a .tflite file"),
        (["my model.tflite", "--output", "my model.tflite/sub"], 2, "Cannot make folder"),
    ],
)
def test_bad_input_is_one_clear_error(
    harness_cli: Cli, float_file: Path, arguments: list[str], exit_code: int, says: str
) -> None:
    (float_file.parent / "empty.tflite").touch()
    (float_file.parent / "text.tflite").write_text("a text that is no model")
    done = harness_cli("compress", *arguments)
    assert done.returncode == exit_code
    assert says in done.stderr
    assert done.stderr.count("error:") == 1
    assert "Traceback" not in done.stderr


@pytest.mark.training
def test_a_keras_model_converts_without_a_word_from_tensorflow(harness_cli: Cli) -> None:
    done = harness_cli("compress", "fashion-dscnn", "--recipe", "fp32", HARNESS_CACHE="fresh")
    assert done.returncode == 0
    assert done.stderr == "Building fp32 of fashion-dscnn.\n"
    assert "fp32" in done.stdout


def test_recipes_are_listed(harness_cli: Cli) -> None:
    table = harness_cli("recipes")
    assert table.returncode == 0
    assert all(word in table.stdout for word in ("dynamic-int8", "quantization", "calibration_samples"))
    answer = json.loads(harness_cli("recipes", "--json").stdout)
    assert "int8-io" in [recipe["name"] for recipe in answer["recipes"]]
    settings = {technique["name"]: technique["settings"]["properties"] for technique in answer["techniques"]}
    assert "weights" in settings["quantization"]


@pytest.mark.parametrize("verb", ["compress", "recipes"])
def test_help_shows_an_example(harness_cli: Cli, verb: str) -> None:
    done = harness_cli(verb, "--help")
    assert done.returncode == 0
    assert f"Example: harness {verb}" in done.stdout
