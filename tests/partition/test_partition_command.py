"""`harness partition` as a user runs it: cut, proved, measured, placed and run at the same time on a virtual phone."""

import json
from pathlib import Path

import pytest

MODELS = Path(__file__).parents[1] / "accuracy/data"


def test_stages_are_written_and_proved(harness_cli, tmp_path):
    finished = harness_cli("partition", str(MODELS / "pooled-int8.tflite"), "--stages", "3", "-o", "stages")
    assert finished.returncode == 0, finished.stderr
    assert "cpu: every bit of the whole" in finished.stderr
    assert len(list((tmp_path / "stages").glob("*.tflite"))) == 3


def test_cuts_by_name_and_bad_ones(harness_cli):
    model = str(MODELS / "pooled-float.tflite")
    refused = harness_cli("partition", model, "--at", "nothing of the kind")
    assert refused.returncode == 2
    assert "No operator of the graph writes 'nothing of the kind'" in refused.stderr
    assert harness_cli("partition", model, "--by", "magic").returncode == 2
    assert harness_cli("partition", model, "--stages", "60").returncode == 2
    assert harness_cli("partition", "no-such.tflite").returncode == 2


@pytest.mark.virtual_phone
@pytest.mark.official_tool
def test_pieces_are_measured_placed_and_run_together(harness_cli, registered_tools, phone_ready, adb):
    options = ["--stages", "3", "-o", "stages", "--device", "virtual", "--delegate", "cpu", "--seconds", "1"]
    finished = harness_cli("partition", str(MODELS / "pooled-float.tflite"), *options, "--most", "2", "--json")
    assert finished.returncode == 0, finished.stderr
    document = json.loads(finished.stdout)
    assert document["exact"] is True
    found = document["experiment"]
    assert all(time_us > 0 for time_us in found["measured"]["pieces_us"]["cpu"])
    assert found["measured"]["whole_us"]["cpu"] > 0
    assert found["crossing_us"][0] == 0
    assert all(cost_us > 0 for cost_us in found["crossing_us"][1:])
    assert {unit["delegate"] for unit in found["units"]} == {"cpu"}
    ways = {outcome["way"]: outcome for outcome in found["outcomes"]}
    assert ways["whole"]["measured_per_s"] > 0
    for outcome in found["outcomes"]:
        assert outcome["failure"] is None, outcome
    if len(found["units"]) > 1:  # a machine of one core has no pipeline
        assert len(set(ways["pipeline"]["units"])) == 2
        assert ways["pipeline"]["measured_per_s"] > 0
        assert ways["pipeline"]["predicted_per_s"] > 0
        assert ways["copies"]["contention"] > 0
