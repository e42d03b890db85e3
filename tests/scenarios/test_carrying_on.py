"""A sweep is carried on under other settings, as a user does it: what is alike is reused, the rest told.

The tool is a script that counts its processes on the phone, so that a repeated one cannot hide.
"""

import json
from pathlib import Path

import pytest
from scripted_tool import COUNT, SHORT, forget_tools, register_scripted_tool

from harness.devices.adb.discovery import open_device
from harness.store.store import Store

pytestmark = pytest.mark.virtual_phone

MODEL = Path(__file__).parents[1] / "accuracy" / "data" / "pooled-float.tflite"
RECIPE = """
name = "pruned"
[[steps]]
technique = "pruning"
settings = {{ sparsity = {sparsity}, epochs = 0 }}
"""


class CarriedOn:
    """One results folder, one phone, and the program."""

    def __init__(self, phone, cli, folder):
        self.phone = phone
        self.folder = folder
        self._cli = cli
        self.spec = folder / "sweep.toml"
        self.spec.write_text(f'model = "{MODEL}"\nrecipes = ["as-is"]\ndelegates = ["cpu"]\n{SHORT}')

    def sweep(self, *arguments):
        """Run `harness sweep` to its end on the phone; return what it printed."""
        finished = self._cli(
            "sweep", *arguments, "--results", str(self.folder), "--json", ANDROID_SERIAL=self.phone.serial
        )
        assert finished.returncode == 0, finished.stderr
        return json.loads(finished.stdout), finished.stderr

    def refused(self, *arguments):
        """Run it with what it refuses; return the sentences."""
        finished = self._cli("sweep", *arguments, "--results", str(self.folder), ANDROID_SERIAL=self.phone.serial)
        assert finished.returncode != 0
        return finished

    @property
    def processes(self):
        """How often the tool ran on the phone."""
        return open_device(self.phone.serial).run(["cat", COUNT], timeout_s=20).stdout.count("process")

    @property
    def invocations(self):
        """Every stored process, as plain values."""
        with Store.open(self.folder) as store:
            (sweep,) = store.sweeps()
            return [vars(row) for row in store.invocations(sweep.id)]


@pytest.fixture
def carried_on(start_phone, harness_cli, tmp_path):
    register_scripted_tool(tmp_path / "tool")
    yield CarriedOn(start_phone(), harness_cli, tmp_path)
    forget_tools()


def names(document):
    return {(row["variant"], row["delegate_requested"]): row["verdict"] for row in document["rows"]}


def test_what_is_added_is_measured_and_what_is_there_is_kept(carried_on):
    carried_on.sweep(str(carried_on.spec))
    before = carried_on.invocations
    assert len(before) == carried_on.processes == 5

    more = ["--resume", "latest", "--recipe", "as-is", "--recipe", "prune50-untrained", "--invocations", "6"]
    ahead, _ = carried_on.sweep(*more, "--dry-run")
    (device,) = ahead["devices"]
    assert (device["cells"], device["cells_complete"]) == (2, 0)
    assert (device["processes"], device["processes_left"]) == (12, 7)
    assert carried_on.processes == 5

    document, told = carried_on.sweep(*more)
    assert "recipes as-is -> as-is, prune50-untrained; measurement.invocations 5 -> 6" in told
    assert "0 of 2 cells are complete, 5 of 12 processes done; 2 cells with 7 processes remain" in told
    after = carried_on.invocations
    assert after[:5] == before
    assert len(after) == carried_on.processes == 12
    assert {row["block"] for row in after[:5]}.isdisjoint(row["block"] for row in after[5:])
    rows = {row["variant"]: row for row in document["rows"]}
    assert {name: (row["invocations_ok"], row["sittings"]) for name, row in rows.items()} == {
        "as-is": (6, "1, 2"),
        "prune50-untrained": (6, "2"),
    }
    (sitting,) = document["sweep"]["host"]["carried_on"]
    assert sitting["changes"]["measurement.invocations"] == [5, 6]
    assert document["sweep"]["spec"]["recipes"] == ["as-is", "prune50-untrained"]

    _, told = carried_on.sweep("--resume", "latest")
    assert "2 of 2 cells are complete, 12 of 12 processes done; nothing remains." in told
    assert carried_on.processes == 12


def test_what_is_no_more_asked_for_stays(carried_on):
    carried_on.sweep(str(carried_on.spec))
    document, told = carried_on.sweep("--resume", "latest", "--recipe", "prune50-untrained")
    assert "no longer in the spec, results kept: as-is cpu." in told
    assert names(document) == {("as-is", "cpu"): "unchecked", ("prune50-untrained", "cpu"): "unchecked"}
    assert carried_on.processes == 10


def test_another_tool_reuses_nothing_until_the_first_is_back(carried_on, tmp_path):
    carried_on.sweep(str(carried_on.spec))
    before = carried_on.invocations
    register_scripted_tool(tmp_path / "other-tool", "true")
    document, told = carried_on.sweep("--resume", "latest")
    assert "measuring again because tool_sha256: " in told
    assert carried_on.invocations[:5] == before
    assert carried_on.processes == 10
    verdicts = {row["tool_sha256"]: (row["verdict"], row["set_aside"]) for row in document["rows"]}
    old = before[0]["cell_key"]
    assert [row["cell_key"] for row in document["rows"] if row["verdict"] == "set_aside"] == [old]
    assert len(verdicts) == 2

    register_scripted_tool(tmp_path / "tool")
    document, told = carried_on.sweep("--resume", "latest")
    assert "1 of 1 cells are complete" in told
    assert carried_on.processes == 10
    assert [row["cell_key"] for row in document["rows"] if row["verdict"] != "set_aside"] == [old]


def test_a_changed_recipe_costs_its_own_cell_alone(carried_on, tmp_path):
    recipe = tmp_path / "pruned.toml"
    recipe.write_text(RECIPE.format(sparsity=0.5))
    both = ["--recipe", "as-is", "--recipe", str(recipe)]
    first, _ = carried_on.sweep(str(carried_on.spec), *both)
    recipe.write_text(RECIPE.format(sparsity=0.9))
    document, told = carried_on.sweep("--resume", "latest")
    assert "measuring again because variant_sha256: " in told
    assert "1 of 2 cells are complete" in told
    assert carried_on.processes == 15
    old = {row["variant"]: row for row in first["rows"]}["pruned"]
    aside = next(row for row in document["rows"] if row["verdict"] == "set_aside")
    assert {name: aside[name] for name in ("variant_sha256", "gzip_size_bytes", "latency_median_us")} == {
        name: old[name] for name in ("variant_sha256", "gzip_size_bytes", "latency_median_us")
    }
    assert {row["gzip_size_bytes"] for row in document["rows"]} == {row["gzip_size_bytes"] for row in first["rows"]} | {
        row["gzip_size_bytes"] for row in document["rows"] if row["variant"] == "pruned" and row is not aside
    }


def test_other_runs_in_a_process_are_another_measurement(carried_on):
    carried_on.sweep(str(carried_on.spec))
    ahead, _ = carried_on.sweep("--resume", "latest", "--runs", "12", "--dry-run")
    (device,) = ahead["devices"]
    assert device["set_aside"] == [{"cell": "as-is cpu", "why": "mode: runs 10 against 12"}]
    assert device["processes_left"] == 5


def test_what_decides_every_row_is_refused_before_any_work(carried_on):
    carried_on.sweep(str(carried_on.spec))
    refused = carried_on.refused("--resume", "latest", "--require-full-delegation")
    assert refused.returncode == 2
    assert "can be reused with require_full_delegation False -> True" in refused.stderr
    assert "Start a new sweep without --resume" in refused.stderr
    assert carried_on.processes == 5


def test_a_phone_with_another_system_is_not_mixed_with_what_it_was(carried_on):
    carried_on.sweep(str(carried_on.spec))
    carried_on.phone.controls.set_property("ro.build.fingerprint", "google/shiba/shiba:16/NEW/1:user/release-keys")
    told = carried_on.refused("--resume", "latest", "--invocations", "6").stdout
    assert "device_changed" in told
    assert carried_on.processes == 5
