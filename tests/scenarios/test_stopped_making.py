"""A sweep that is stopped while its variants are made: the training ends at once, and the sweep is carried on."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from scripted_tool import SHORT, forget_tools, register_scripted_tool
from small_networks import write_model
from stored_tables import frame

from harness.store.store import Store

pytestmark = [pytest.mark.virtual_phone, pytest.mark.training, pytest.mark.slow]

HOURS = """
name = "hours"
[[steps]]
technique = "pruning"
settings = { sparsity = 0.5, epochs = 10000, batch = 16, learning_rate = 0.001 }
"""
SWEEP = f"""
model = "quarters.toml"
recipes = ["hours.toml", "fp32"]
delegates = ["cpu"]
{SHORT}"""


def workers_of(harness):
    """Return the processes that make variants for a running harness."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == harness and b"harness.compression.worker" in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
    return found


@pytest.fixture
def folder(tmp_path):
    register_scripted_tool(tmp_path / "tool")
    write_model(tmp_path)
    (tmp_path / "hours.toml").write_text(HOURS)
    (tmp_path / "sweep.toml").write_text(SWEEP)
    yield tmp_path
    forget_tools()


def test_ctrl_c_ends_a_training_and_the_sweep_is_carried_on_without_it(start_phone, harness_cli, folder):
    phone = start_phone()
    command = [sys.executable, "-m", "harness", "sweep", "sweep.toml", "--results", str(folder / "results")]
    environment = os.environ | {"ANDROID_SERIAL": phone.serial}
    sweep = subprocess.Popen(
        command, cwd=folder, env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )
    told = []
    reader = threading.Thread(target=lambda: told.extend(sweep.stderr), daemon=True)
    reader.start()
    deadline = time.monotonic() + 120
    try:
        while not (any("waiting for the remaining variants" in line for line in told) and workers_of(sweep.pid)):
            assert sweep.poll() is None, told
            assert time.monotonic() < deadline, told
            time.sleep(0.1)
        (worker,) = workers_of(sweep.pid)
        sweep.send_signal(signal.SIGINT)
        assert sweep.wait(timeout=60) == 4, told
    finally:
        sweep.kill()
    assert not Path(f"/proc/{worker}").exists()
    reader.join(10)
    assert any("Interrupted" in line for line in told)
    with Store.open(folder / "results") as store:
        (stored,) = store.sweeps()
        assert stored.status == "interrupted"
        assert list(frame(store.variants(stored.id))["name"]) == ["fp32"]
        assert list(frame(store.cells(stored.id))["variant_name"]) == ["fp32"]
        assert frame(store.invocations(stored.id)).empty

    finished = harness_cli(
        "sweep",
        "--resume",
        "latest",
        "--recipe",
        "fp32",
        "--results",
        str(folder / "results"),
        ANDROID_SERIAL=phone.serial,
    )
    assert finished.returncode == 0, finished.stderr
    with Store.open(folder / "results") as store:
        assert len(frame(store.invocations(stored.id))) == 5
