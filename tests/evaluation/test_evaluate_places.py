"""`harness evaluate` through a phone's delegate, with a second data set, and as a page; images are those of a test."""

import base64
import json
import zlib
from pathlib import Path

import numpy as np
import pytest

from harness.benchmark.invocation import Delegation
from harness.evaluation.occlusion import _squares
from harness.evaluation.through_delegate import DelegateChange, fell_back
from harness.report.html.evaluation_page import heat_map, picture

MODELS = Path(__file__).parents[1] / "accuracy/data"
MODEL = """
name = {name}
[source]
kind = "tflite"
path = "{models}/pooled-float.tflite"
[data]
path = "{models}/samples.npz"
licence = "MIT"
origin = "test"
[[evaluation.data]]
name = {second}
path = "second.npz"
licence = "MIT"
origin = "the same, upside down"
[preprocessing]
scale = 0.00784313725490196
offset = -1.0
"""


@pytest.fixture
def model(tmp_path):
    """A described model whose second data set holds the same images upside down."""

    def write(name="pooled", second="upside down"):
        with np.load(MODELS / "samples.npz") as archive:
            arrays = dict(archive)
        np.savez(tmp_path / "second.npz", **(arrays | {"test_images": arrays["test_images"][:, ::-1]}))
        text = MODEL.format(models=MODELS, name=json.dumps(name), second=json.dumps(second))
        (tmp_path / "model.toml").write_text(text)
        return "model.toml"

    return write


def test_a_second_data_set_stands_beside_the_first(harness_cli, model):
    finished = harness_cli("evaluate", model(), str(MODELS / "pooled-int8.tflite"), "--json")
    assert finished.returncode == 0, finished.stderr
    (one,) = json.loads(finished.stdout)["evaluations"]
    first, second = one["compared"]
    assert (first["data"], second["data"]) == ("data", "upside down")
    assert first["samples"] == second["samples"] == 200
    drop = [found["comparison"]["fidelity"]["float_top1"]["value"] for found in (first, second)]
    assert drop[1] < drop[0] - 0.2  # a shoe upside down is no shoe


def test_two_data_sets_of_one_name(harness_cli, model):
    refused = harness_cli("evaluate", model(second="data"))
    assert refused.returncode == 2
    assert "two data sets are called 'data'" in refused.stderr


def test_a_task_from_the_model_file(harness_cli, model, tmp_path):
    name = model()
    text = (tmp_path / name).read_text().replace("[preprocessing]", '[evaluation]\ntask = "tensors"\n[preprocessing]')
    (tmp_path / name).write_text(text.replace("[[evaluation.data]]", "[ignored]").replace("[ignored]", "[data2]"))
    assert "data2" in harness_cli("evaluate", name).stderr  # unknown keys are refused
    start, end = text.index("[[evaluation.data]]"), text.index("[evaluation]\n")
    (tmp_path / name).write_text(text[:start] + text[end:])
    finished = harness_cli("evaluate", name, str(MODELS / "pooled-int8.tflite"), "--json")
    assert json.loads(finished.stdout)["task"] == "tensors"


@pytest.mark.virtual_phone
@pytest.mark.official_tool
def test_what_a_delegate_changes(harness_cli, registered_tools, phone_ready, adb):
    options = ["--device", "virtual", "--delegate", "cpu", "--delegate", "gpu", "--json"]
    pair = [str(MODELS / "flatten-float.tflite"), str(MODELS / "pooled-float.tflite")]
    finished = harness_cli("evaluate", *pair, "--task", "tensors", *options)
    assert finished.returncode == 0, finished.stderr
    host, cpu, gpu = json.loads(finished.stdout)["evaluations"]
    assert [one["delegate"] for one in (host, cpu, gpu)] == ["host", "cpu", "gpu"]
    assert host["layers"]
    assert host["change"] is None
    for one in (cpu, gpu):
        change = one["change"]
        assert change["delegation"]["delegated_nodes"] == change["delegation"]["total_nodes"] > 0
        assert change["delegation"]["achieved"] == one["delegate"]
        assert change["signal_to_noise_db"] > 60
        assert change["wrong"] == ""
        assert one["failure"] is None
        assert one["compared"][0]["samples"] == 64


@pytest.mark.virtual_phone
@pytest.mark.official_tool
def test_a_row_of_a_virtual_phone_that_fell_back_says_so(harness_cli, registered_tools, phone_ready, adb):
    pair = [str(MODELS / "pooled-float.tflite")] * 2
    finished = harness_cli("evaluate", *pair, "--device", "virtual", "--delegate", "nnapi")
    assert finished.returncode == 0, finished.stderr
    assert "pooled-float on nnapi (fell back)" in " ".join(finished.stdout.split())  # a virtual phone has no NNAPI
    assert "pooled-float on nnapi: All ran on cpu, so this row tells nothing of nnapi." in finished.stderr


@pytest.mark.virtual_phone
@pytest.mark.official_tool
def test_a_file_that_a_delegate_refuses_is_a_row(harness_cli, registered_tools, phone_ready, adb):
    pair = [str(MODELS / "two-inputs.tflite")] * 2
    finished = harness_cli("evaluate", *pair, "--device", "virtual", "--delegate", "external:/no/such.so", "--json")
    assert finished.returncode == 1, finished.stderr  # done, but a row failed
    host, other = json.loads(finished.stdout)["evaluations"]
    assert len(host["compared"]) == 1
    assert other["compared"] == []
    assert other["failure"]["failure_class"]
    assert other["failure"]["message"]


def test_an_unknown_delegate(harness_cli):
    pair = [str(MODELS / "pooled-float.tflite")] * 2
    refused = harness_cli("evaluate", *pair, "--device", "virtual", "--delegate", "tpu")
    assert refused.returncode == 2
    assert "'tpu'" in refused.stderr


def change_of(delegation):
    return DelegateChange(delegation, 8, None, 40.0, 0.1, "", "")


def test_a_row_that_fell_back_says_so():
    assert fell_back(change_of(Delegation("gpu", "gpu", 5, 5, 1, fell_back=False))) is None
    part = fell_back(change_of(Delegation("gpu", "gpu", 3, 5, 1, fell_back=True, reason="why")))
    assert (part.failure_class.value, part.evidence) == ("fell_back", "why")
    assert part.message == "Only 3 of 5 nodes ran on gpu."
    whole = fell_back(change_of(Delegation("gpu", "cpu", 5, 5, 1, fell_back=True)))
    assert whole.message == "All ran on cpu, so this row tells nothing of gpu."


# -- the page --

HOSTILE = "<img src=x onerror=alert(1)>"


def test_the_page_shows_flipped_images_and_nothing_unquoted(harness_cli, model, tmp_path):
    name = model(name=HOSTILE, second="<script>alert(2)</script>")
    finished = harness_cli("evaluate", name, str(MODELS / "pooled-int8.tflite"), "--report", "out/page.html")
    assert finished.returncode == 0, finished.stderr
    page = (tmp_path / "out/page.html").read_text()
    assert HOSTILE not in page
    assert "<script>alert" not in page
    assert "&lt;img src=x onerror=alert(1)&gt;" in page
    assert page.count('<figure><img src="data:image/png;base64,') >= 3
    assert "data:image/svg+xml;base64," in page
    assert "Zeiler and Fergus 2014" in page
    assert "Content-Security-Policy" in page
    assert "Written: out/page.html" in finished.stdout


def test_squares_hide_every_pixel():
    for height, width in ((28, 28), (14, 20), (1, 5), (224, 224)):
        seen = np.zeros((height, width), int)
        for square in _squares(height, width):
            seen[square] += 1
        assert seen.min() >= 1
        assert len(_squares(height, width)) < 400


def pixels(address):
    data = base64.b64decode(address.removeprefix("data:image/png;base64,"))
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = (int.from_bytes(data[start : start + 4], "big") for start in (16, 20))
    start = data.index(b"IDAT")
    size = int.from_bytes(data[start - 4 : start], "big")
    lines = np.frombuffer(zlib.decompress(data[start + 4 : start + 4 + size]), np.uint8).reshape(height, -1)
    return lines[:, 1:].reshape(height, width, 3)


def test_pictures_are_what_they_show():
    image = np.random.default_rng(1).integers(0, 256, (7, 5, 3), np.uint8)
    shown = pixels(picture(image))
    assert shown.shape == (7 * 24, 5 * 24, 3)
    assert (shown[::24, ::24] == image).all()
    assert (pixels(picture(image[:, :, :1]))[::24, ::24, 2] == image[:, :, 0]).all()
    colours = pixels(heat_map(np.array([[-2.0, 0.0, 2.0]]), 2.0))[0, [0, 60, -1]]
    assert [list(map(int, colour)) for colour in colours] == [[33, 102, 172], [247, 247, 247], [178, 24, 43]]
    assert (pixels(heat_map(np.zeros((2, 2)), 0.0)) == 247).all()
