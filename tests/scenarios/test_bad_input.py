"""Whatever is wrong: one clear sentence, the right exit code, and nothing that is done is lost."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from stored_tables import frame

from harness.benchmark.registry import ToolRegistry
from harness.paths import cache_folder, shipped
from harness.store.store import Store

pytestmark = pytest.mark.training

QUICK_SPEC = Path(__file__).parents[1] / "quick.toml"
ONE_CELL = ["--recipe", "fp32", "--delegate", "cpu"]
QUICK = [str(QUICK_SPEC), *ONE_CELL]


@pytest.fixture(scope="module")
def float_model(tmp_path_factory):
    """A real `.tflite` file: the default model's float variant."""
    from harness.compression.make import make_variant
    from harness.compression.recipes import find_recipe
    from harness.progress import SilentObserver
    from harness.spec.model import find_model

    variant = make_variant(
        find_model("fashion-dscnn"), find_recipe("fp32"), cache=cache_folder(), observer=SilentObserver()
    )
    return variant.path


def one_sentence(finished, exit_code, *parts):
    """Check that a command ended as it should and said what is wrong, without a traceback."""
    said = finished.stdout + finished.stderr
    assert finished.returncode == exit_code, said
    assert "Traceback" not in said
    for part in parts:
        assert part in said, said


def failures_of(finished):
    return {row["failure_class"] for row in json.loads(finished.stdout)["rows"]}


# -- models --


def test_models_that_are_no_models(harness_cli, tmp_path, float_model):
    whole = float_model.read_bytes()
    bad = {
        "empty": b"",
        "noise": os.urandom(5000),
        "cut short": whole[: len(whole) // 2],
        "text": b"<html>not found</html>",
    }
    for name, content in bad.items():
        file = tmp_path / f"{name}.tflite"
        file.write_bytes(content)
        one_sentence(harness_cli("bench", str(file), "--device", "host"), 3, name)
    one_sentence(harness_cli("bench", str(tmp_path / "missing.tflite"), "--device", "host"), 2, "missing.tflite")
    (tmp_path / "huge.tflite").touch()
    os.truncate(tmp_path / "huge.tflite", 3 * 1024**3)
    one_sentence(harness_cli("bench", str(tmp_path / "huge.tflite"), "--device", "host"), 3, "huge.tflite")


def test_a_keras_file_that_is_none(harness_cli, tmp_path):
    file = tmp_path / "broken.keras"
    file.write_bytes(b"PK\x03\x04 no archive")
    one_sentence(harness_cli("sweep", "--model", str(file), "--device", "host", "--recipe", "fp32"), 3, "broken.keras")


def test_a_model_with_a_custom_operator(harness_cli, tmp_path):
    import tensorflow as tf

    @tf.function(input_signature=[tf.TensorSpec([1, 3, 3], tf.float32)])
    def determinant(matrix):
        return tf.linalg.det(matrix)

    converter = tf.lite.TFLiteConverter.from_concrete_functions([determinant.get_concrete_function()])
    converter.allow_custom_ops = True
    file = tmp_path / "custom.tflite"
    file.write_bytes(converter.convert())
    finished = harness_cli("bench", str(file), "--device", "host", "--json")
    one_sentence(finished, 1, "MatrixDeterminant")
    assert failures_of(finished) == {"unsupported_op"}


# -- specs --


def test_a_typo_in_a_spec(harness_cli, tmp_path):
    spec = tmp_path / "sweep.toml"
    spec.write_text('recipies = ["int8"]\n')
    one_sentence(harness_cli("sweep", str(spec)), 2, "sweep.toml", "unknown key 'recipies'", "Did you mean 'recipes'?")
    assert not (tmp_path / "results").exists()


def test_data_that_does_not_fit(harness_cli, tmp_path):
    import numpy as np

    np.savez(
        tmp_path / "data.npz",
        test_images=np.zeros((3, 8, 8), np.uint8),
        test_labels=np.zeros(2, np.int64),
        calibration_images=np.zeros((1, 8, 8), np.uint8),
    )
    source = shipped("models") / "fashion-dscnn" / "model.keras"
    (tmp_path / "m.toml").write_text(
        f'name = "m"\n[source]\nkind = "keras"\npath = "{source}"\n'
        '[data]\npath = "data.npz"\nlicence = "none"\norigin = "made here"\n'
    )
    one_sentence(harness_cli("sweep", "--model", str(tmp_path / "m.toml"), "--device", "host"), 2, "3 test images")


def test_images_and_labels_that_do_not_fit_the_model(harness_cli, tmp_path):
    import numpy as np

    source = shipped("models") / "fashion-dscnn" / "model.keras"
    (tmp_path / "m.toml").write_text(
        f'name = "m"\n[source]\nkind = "keras"\npath = "{source}"\n'
        '[data]\npath = "data.npz"\nlicence = "none"\norigin = "made here"\n'
    )
    for size, label, sentence in ((14, 1, "samples of shape (14, 14)"), (28, 500, "labels go up to 500")):
        images, labels = np.zeros((30, size, size), np.uint8), np.full(30, label)
        np.savez(tmp_path / "data.npz", test_images=images, test_labels=labels, calibration_images=images)
        finished = harness_cli("sweep", "--model", str(tmp_path / "m.toml"), "--device", "host", "--recipe", "fp32")
        one_sentence(finished, 2, sentence)


# -- adb and devices --


def test_no_adb_is_said_and_the_host_is_measured(harness_cli, tmp_path):
    finished = harness_cli(
        "sweep", *QUICK, ADBUTILS_ADB_PATH=str(tmp_path / "nosuch"), PATH="/nonexistent", ANDROID_ADB_SERVER_PORT="1"
    )
    one_sentence(finished, 0, "measuring on this host", "fp32")


def test_a_dead_remote_server(harness_cli):
    environment = {"ANDROID_ADB_SERVER_ADDRESS": "127.0.0.9", "ANDROID_ADB_SERVER_PORT": "9"}
    one_sentence(harness_cli("devices", **environment), 3, "No adb server answers at 127.0.0.9:9.")
    one_sentence(harness_cli("sweep", "--device", "S1", *QUICK, **environment), 3, "No adb server answers")


def test_a_phone_that_is_not_there(harness_cli, adb):
    one_sentence(harness_cli("sweep", "--device", "R58N123", *QUICK), 3, "R58N123 is not attached")


@pytest.mark.virtual_phone
def test_an_unauthorized_phone(harness_cli, start_phone):
    from harness.devices.adb.discovery import connect
    from harness.errors import DeviceError

    phone = start_phone(connect=False, authorize=True)
    with pytest.raises(DeviceError):
        connect(phone.serial)
    one_sentence(harness_cli("sweep", *QUICK), 3, "No attached phone can be used", "unauthorized", "harness devices")
    named = harness_cli("sweep", "--device", phone.serial, *QUICK)
    one_sentence(named, 3, "its state is unauthorized", "Allow USB debugging?")


@pytest.mark.virtual_phone
def test_no_tool_for_the_phone(harness_cli, start_phone):
    phone = start_phone()
    one_sentence(
        harness_cli("sweep", "--device", phone.serial, *QUICK),
        3,
        "No registered tool runs on Google Pixel 8",
        "harness tools add",
    )
    one_sentence(harness_cli("sweep", "--device", "virtual", *QUICK), 3, "No tool for virtual phones is registered")


@pytest.mark.virtual_phone
@pytest.mark.official_tool
def test_a_tool_of_another_processor_and_one_that_cannot_run(
    harness_cli, start_phone, official_tools, registered_tools
):
    phone = start_phone(vendor=official_tools)
    registry = ToolRegistry()
    tool = next(tool for tool in registry.tools() if tool.vendor_folder)
    content = bytearray(tool.path.read_bytes())
    content[18:20] = (183).to_bytes(2, "little")  # an arm64 binary, as its header says
    wrong = registry.folder / "wrong"
    wrong.write_bytes(content)
    registry._write([tool.model_copy(update={"path": wrong})])
    finished = harness_cli("sweep", "--device", phone.serial, *QUICK, "--json")
    one_sentence(finished, 3, "another kind of processor")
    assert failures_of(finished) == {"wrong_abi"}


# -- full disks --


@pytest.mark.virtual_phone
@pytest.mark.official_tool
def test_a_full_phone(harness_cli, start_phone, official_tools, registered_tools):
    phone = start_phone(vendor=official_tools, data_size="2m")
    finished = harness_cli("sweep", "--device", phone.serial, *QUICK, "--json")
    one_sentence(finished, 3, "do not fit")
    assert failures_of(finished) == {"storage_full"}


def test_a_full_host_disk(harness_cli, tmp_path):
    if os.geteuid() != 0:
        pytest.skip("a small file system needs root to mount")
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(small)], check=False)
    if mounted.returncode:
        pytest.skip("this machine does not let tests mount a small file system")
    try:
        (small / "filler").write_bytes(b"x" * 250_000)
        finished = harness_cli("sweep", "--device", "host", "--results", str(small), *QUICK)
        assert finished.returncode not in (0, 4)
        assert "Traceback" not in finished.stderr
        assert "full" in finished.stderr or "No space left" in finished.stderr
    finally:
        subprocess.run(["umount", str(small)], check=True)


# -- lost phones --


def sweep_in_background(tmp_path, serial, spec=QUICK_SPEC):
    command = [
        sys.executable,
        "-m",
        "harness",
        "sweep",
        str(spec),
        "--device",
        serial,
        *ONE_CELL,
        "--invocations",
        "12",
        "--json",
    ]
    return subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for_invocations(count, timeout_s=90):
    """Wait until the newest sweep has stored that many of its latency pass."""
    folder = Path(os.environ["HARNESS_RESULTS"])
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if (folder / "results.sqlite3").exists():
            with Store.open(folder) as store:
                sweeps = store.sweeps()
                if sweeps and sum(row.purpose == "latency" for row in store.invocations(sweeps[-1].id)) >= count:
                    return
        time.sleep(0.2)
    raise AssertionError("the sweep did not get that far")


@pytest.fixture
def own_results(tmp_path, monkeypatch):
    monkeypatch.setenv("HARNESS_RESULTS", str(tmp_path / "own-results"))
    return tmp_path / "own-results"


@pytest.mark.virtual_phone
@pytest.mark.official_tool
def test_unplugged_and_plugged_in_again(start_phone, official_tools, registered_tools, own_results, tmp_path):
    phone = start_phone(vendor=official_tools, cable=True)
    with sweep_in_background(tmp_path, phone.serial) as sweep:
        wait_for_invocations(3)
        phone.faults.cut_cable()
        threading.Timer(3, phone.faults.plug_cable).start()
        stdout, stderr = sweep.communicate(timeout=120)
    assert sweep.returncode == 0, stderr
    (row,) = json.loads(stdout)["rows"]
    assert row["invocations_ok"] == 12
    assert "Waiting for it." in stderr


@pytest.mark.virtual_phone
@pytest.mark.official_tool
def test_unplugged_for_good_keeps_what_is_done_and_resumes(
    start_phone, official_tools, registered_tools, own_results, tmp_path, harness_cli
):
    phone = start_phone(vendor=official_tools)
    spec = tmp_path / "sweep.toml"
    spec.write_text(f"reconnect_wait_s = 2\n{QUICK_SPEC.read_text()}")
    with sweep_in_background(tmp_path, phone.serial, spec=spec) as sweep:
        wait_for_invocations(3)
        phone.faults.switch_off()
        stdout, stderr = sweep.communicate(timeout=120)
    assert sweep.returncode == 1, stdout + stderr
    (row,) = json.loads(stdout)["rows"]
    assert row["failure_class"] in ("device_lost", "device_offline")
    done = row["invocations_ok"]
    assert 3 <= done < 12
    assert "Traceback" not in stderr

    phone.faults.switch_on()
    from harness.devices.adb.discovery import connect

    connect(phone.serial)
    resumed = harness_cli("sweep", "--resume", "latest", "--json")
    assert resumed.returncode == 0, resumed.stderr
    (row,) = json.loads(resumed.stdout)["rows"]
    assert row["invocations_ok"] == 12
    with Store.open(own_results) as store:
        stored = frame(store.invocations(store.sweeps()[-1].id))
    good = stored[(stored.purpose == "latency") & stored.failure_class.isna()]
    assert len(good) == 12  # nothing was measured twice


@pytest.mark.virtual_phone
@pytest.mark.official_tool
def test_kill_9_loses_at_most_the_invocation_under_way(
    start_phone, official_tools, registered_tools, own_results, tmp_path, harness_cli
):
    phone = start_phone(vendor=official_tools)
    with sweep_in_background(tmp_path, phone.serial) as sweep:
        wait_for_invocations(4)
        sweep.kill()
    with Store.open(own_results) as store:
        before = len(frame(store.invocations(store.sweeps()[-1].id)))
    assert before >= 4
    resumed = harness_cli("sweep", "--resume", "latest", "--json")
    assert resumed.returncode == 0, resumed.stderr
    with Store.open(own_results) as store:
        purposes = frame(store.invocations(store.sweeps()[-1].id))["purpose"]
        assert [(purposes == name).sum() for name in ("latency", "memory", "init_cold", "init_warm")] == [12, 1, 1, 1]


@pytest.mark.virtual_phone
@pytest.mark.official_tool
@pytest.mark.parametrize("fault", ["crash_adbd", "reboot"])
def test_a_fault_in_the_middle_is_survived(start_phone, official_tools, registered_tools, own_results, tmp_path, fault):
    phone = start_phone(vendor=official_tools)
    with sweep_in_background(tmp_path, phone.serial) as sweep:
        wait_for_invocations(2)
        getattr(phone.faults, fault)()
        stdout, stderr = sweep.communicate(timeout=120)
    assert sweep.returncode == 0, stderr
    (row,) = json.loads(stdout)["rows"]
    assert row["invocations_ok"] == 12
    assert row["rank"] == 1


@pytest.mark.virtual_phone
@pytest.mark.official_tool
def test_unplugged_while_the_tool_is_pushed(start_phone, official_tools, registered_tools, own_results, tmp_path):
    phone = start_phone(vendor=official_tools, cable=True)
    phone.faults.slow_cable(400_000)  # the tool alone has four million bytes
    with sweep_in_background(tmp_path, phone.serial) as sweep:
        deadline = time.monotonic() + 90
        while not list(Path(f"/proc/{phone.processes.init_pid()}/root/data/local/tmp/harness/blobs").glob("*.part")):
            assert time.monotonic() < deadline, "the push did not begin"
            time.sleep(0.1)
        phone.faults.cut_cable()
        stdout, stderr = sweep.communicate(timeout=120)
    assert sweep.returncode == 3, stderr
    assert {row["failure_class"] for row in json.loads(stdout)["rows"]} <= {"device_lost", "device_offline"}
    assert "Traceback" not in stderr


@pytest.mark.virtual_phone
@pytest.mark.official_tool
def test_ctrl_c_finishes_what_is_under_way_and_resumes(
    start_phone, official_tools, registered_tools, own_results, tmp_path, harness_cli
):
    phone = start_phone(vendor=official_tools)
    with sweep_in_background(tmp_path, phone.serial) as sweep:
        wait_for_invocations(3)
        sweep.send_signal(signal.SIGINT)
        stdout, stderr = sweep.communicate(timeout=60)
    assert sweep.returncode == 4, stderr
    assert "Interrupted" in stderr
    (row,) = json.loads(stdout)["rows"]
    assert 3 <= row["invocations_ok"] < 12
    with Store.open(own_results) as store:
        assert store.sweeps()[-1].status == "interrupted"
    assert harness_cli("sweep", "--resume", "latest").returncode == 0
