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


def test_an_absent_phone_is_not_answered_with_an_option_of_another_verb(harness_cli):
    refused = harness_cli("partition", str(MODELS / "pooled-float.tflite"), "-o", "stages", "--device", "not-attached")
    assert refused.returncode != 0
    assert "not-attached" in refused.stderr
    assert "start the same sweep" not in refused.stderr


@pytest.mark.parametrize("columns", ["80", "40"])
def test_the_stages_fit_a_narrow_terminal(harness_cli, columns):
    finished = harness_cli(
        "partition", str(MODELS / "pooled-int8.tflite"), "--stages", "3", "-o", "stages", COLUMNS=columns
    )
    table = finished.stdout.split("as-is-1of3:")[0]
    assert "takes" in table
    assert all(len(line) <= int(columns) for line in table.splitlines())
    assert ("Too narrow for:" in table) == (columns == "40")


@pytest.mark.training
def test_a_keras_file_with_residual_connections(harness_cli, tmp_path):
    """The shortcut crosses beside its branch; `--recipe` takes any that the model can be made with."""
    import keras

    image = keras.Input((16, 16, 3), batch_size=1)
    start = keras.layers.Conv2D(8, 3, padding="same", activation="relu")(image)
    branch = keras.layers.Conv2D(8, 3, padding="same", activation="relu")(start)
    joined = keras.layers.Add()([start, keras.layers.Conv2D(8, 3, padding="same")(branch)])
    keras.Model(image, keras.layers.Dense(4)(keras.layers.GlobalAveragePooling2D()(joined))).save(
        tmp_path / "residual.keras"
    )
    for recipe in ("fp32", "fp16"):
        command = ["partition", "residual.keras", "--recipe", recipe, "--stages", "6", "-o", recipe, "--json"]
        finished = harness_cli(*command)
        assert finished.returncode == 0, finished.stderr
        document = json.loads(finished.stdout)
        assert document["exact"] is True
        one = 16 * 16 * 8 * 4
        assert 2 * one in [stage["taken_bytes"] for stage in document["stages"]]


@pytest.mark.training
def test_a_shipped_model_by_its_name(harness_cli):
    finished = harness_cli("partition", "fashion-dscnn", "--recipe", "int8", "--by", "bytes", "-o", "stages", "--json")
    assert finished.returncode == 0, finished.stderr
    document = json.loads(finished.stdout)
    assert document["exact"] is True
    assert document["stages"][1]["card"]["model"] == "fashion-dscnn"


@pytest.mark.virtual_phone
@pytest.mark.official_tool
def test_pieces_are_measured_placed_and_run_together(harness_cli, registered_tools, phone_ready, adb):
    """The GPU has no REVERSE_V2: the tool leaves that to the CPU by itself, and a partition gives the GPU the rest."""
    model = str(Path(__file__).parent / "data/gpu-takes-a-part.tflite")
    options = ["--stages", "2", "-o", "stages", "--device", "virtual", "--seconds", "1", "--most", "3"]
    delegates = ["--delegate", "cpu", "--delegate", "gpu"]
    finished = harness_cli("partition", model, *options, *delegates, "--json", timeout_s=1200)
    assert finished.returncode == 0, finished.stderr
    document = json.loads(finished.stdout)
    assert document["exact"] is True
    found = document["experiment"]
    measured, outcomes = found["measured"], found["outcomes"]
    assert all(outcome["failure"] is None for outcome in outcomes), outcomes
    assert found["crossing_us"][0] == 0 < found["crossing_us"][1]

    for delegate in ("cpu", "gpu"):  # the first piece is one that a GPU runs whole
        assert measured["pieces_us"][delegate][0] > 0
        assert measured["pieces_processor_us"][delegate][0] > 0
    assert measured["whole_us"]["cpu"] > 0
    assert measured["whole_us"]["gpu"] is None
    assert any("as-is on gpu: it ran elsewhere, or in part." in reason for reason in measured["reasons"])

    ways = {outcome["way"]: outcome for outcome in outcomes}
    assert ways["whole"]["units"] == [f"cpu@{min(unit['cores'][0] for unit in found['units'])}"]
    assert ways["partial"]["units"][0].startswith("gpu ")
    assert ways["partial"]["measured_per_s"] > 0
    pipelines = [outcome for outcome in outcomes if outcome["way"] == "pipeline"]
    assert any("gpu" in outcome["units"] for outcome in pipelines)
    for outcome in pipelines:
        assert outcome["predicted_per_s"] > 0 and outcome["measured_per_s"] > 0
        assert outcome["predicted_latency_us"] > 0 and outcome["measured_latency_us"] > 0
        assert outcome["limit"]
        error = outcome["measured_per_s"] / outcome["predicted_per_s"] - 1
        assert outcome["prediction_error"] == pytest.approx(error)
    if len(found["units"]) > 2:  # more cores than one
        assert ways["copies"]["contention"] > 0
