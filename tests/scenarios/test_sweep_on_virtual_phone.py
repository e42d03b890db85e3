"""The main job as a user runs it: `harness sweep` on virtual phones with the real adbd and the official binary."""

import json
from pathlib import Path

import pytest

pytestmark = [pytest.mark.virtual_phone, pytest.mark.official_tool, pytest.mark.training]

FOUR_RECIPES = ("fp32", "fp16", "dynamic-int8", "int8")


def rows_of(finished):
    """Return the summary's rows of a sweep that printed JSON."""
    assert finished.returncode in (0, 1), finished.stderr
    return json.loads(finished.stdout)["rows"]


@pytest.fixture(scope="module")
def quick():
    """The spec that keeps a real sweep short."""
    return [str(Path(__file__).parents[1] / "quick.toml")]


def test_four_recipes_on_cpu_gpu_and_nnapi(harness_cli, registered_tools, phone_ready, adb, quick):
    delegates = ["--delegate", "cpu", "--delegate", "gpu", "--delegate", "nnapi"]
    rows = rows_of(harness_cli("sweep", "--device", "virtual", *delegates, *quick, "--json"))

    assert {(row["variant"], row["delegate_requested"]) for row in rows} == {
        (recipe, delegate) for recipe in FOUR_RECIPES for delegate in ("cpu", "gpu", "nnapi")
    }
    for row in rows:
        assert "virtual phone" in row["labels"]
        if row["delegate_requested"] == "nnapi":
            assert row["fell_back"] is True
            assert row["rank"] is None
            assert row["failure_class"] == "fell_back"
        else:
            assert row["failure_class"] is None, row
            assert row["invocations_ok"] == 5
            assert row["latency_median_us"] > 0
            assert row["latency_low_us"] <= row["latency_median_us"] <= row["latency_high_us"]
            assert row["memory_overall_mb"] > 0
            assert 0 <= row["delegate_time_share"] <= 1  # of dynamic-int8, XNNPACK takes next to nothing
            assert row["rank"] is not None
            assert row["accuracy_drop_points"] <= 1.0
            assert row["top1"] > 0.88


def test_an_explained_row_tells_where_its_time_went(harness_cli, registered_tools, phone_ready, adb, quick):
    options = ["--recipe", "fp32", "--delegate", "cpu", "--delegate", "cpu-builtin", *quick]
    assert harness_cli("sweep", "--device", "virtual", *options).returncode == 0
    told = {
        delegate: " ".join(harness_cli("explain", "fp32", delegate).stdout.split())
        for delegate in ("cpu", "cpu-builtin")
    }
    assert "(delegate)" in told["cpu"]
    assert "(cpu-builtin)" not in told["cpu"]
    assert "DEPTHWISE_CONV_2D" in told["cpu-builtin"]
    assert "(cpu-builtin)" in told["cpu-builtin"]


def test_the_broken_gpu_driver_is_caught(harness_cli, registered_tools, phone_ready, adb, quick):
    options = ["--recipe", "fp32", "--recipe", "int8", "--delegate", "cpu", "--delegate", "gpu", "--broken-gpu"]
    finished = harness_cli("sweep", "--device", "virtual", *options, *quick, "--json")
    rows = rows_of(finished)

    assert finished.returncode == 1
    for row in rows:
        if row["delegate_requested"] == "gpu":
            assert row["failure_class"] == "wrong_output", row
            assert row["rank"] is None
        else:
            assert row["failure_class"] is None, row
            assert row["rank"] is not None


def test_two_phones_dressed_as_different_models_in_one_table(harness_cli, registered_tools, phone_ready, adb, quick):
    options = ["--recipe", "fp32", "--recipe", "int8", "--delegate", "cpu"]
    devices = ["--device", "virtual:pixel-8", "--device", "virtual:galaxy-s9-us"]
    finished = harness_cli("sweep", *devices, *options, *quick)

    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert "Pixel 8" in finished.stdout
    assert "SM-G960U" in finished.stdout

    stored = harness_cli("results", "show", "latest", "--json")
    titles = {row["device"] for row in json.loads(stored.stdout)["rows"]}
    assert len(titles) == 2
