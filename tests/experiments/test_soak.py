"""The soak's own judgement, and a short one."""

import importlib.util
import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

BENCHMARKS = Path(__file__).parent
SHA256 = "ab" * 32


@pytest.fixture(scope="module")
def soak():
    """The benchmark as a module; it shares the stand-in's log with another."""
    sys.path.insert(0, str(BENCHMARKS))
    try:
        spec = importlib.util.spec_from_file_location("soak", BENCHMARKS / "soak.py")
        module = sys.modules["soak"] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(BENCHMARKS))
    return module


class Phone:
    name, serial = "soak-1", "127.0.0.1:6100"


@pytest.mark.parametrize(
    ("said", "wrong"),
    [
        ({}, ""),
        ({"phone": "soak-2"}, "phone is soak-2, not soak-1"),
        ({"graph": "cd" * 32}, f"graph is {'cd' * 32}, not {SHA256}"),
        ({"threads": "2"}, "threads is 2, not 1"),
        ({"xnnpack": "false"}, "xnnpack is false, not true"),
        ({"number": "8"}, "number is 8, not 7"),
    ],
)
def test_a_row_that_is_not_the_result_of_its_process_is_found(soak, tmp_path, monkeypatch, said, wrong):
    monkeypatch.setattr(soak, "knobs", lambda phone: [])
    (tmp_path / "results").mkdir()
    judge = soak.Soak([Phone()], tmp_path, 5, random.Random(1))
    told = {"phone": "soak-1", "graph": SHA256, "threads": "1", "xnnpack": "true", "number": "7"} | said
    witness = soak.WITNESS.search("witness " + " ".join(f"{name}={value}" for name, value in told.items()))
    cell = {"serial": Phone.serial, "variant_sha256": SHA256, "threads": 1, "delegate": "cpu"}
    assert judge._mixed({"latency_avg_us": 7.0}, cell, witness) == wrong
    assert judge._mixed({"latency_avg_us": 7.0}, cell, None) == "its log names no process"


@pytest.mark.virtual_phone
def test_a_short_soak_loses_mixes_and_leaks_nothing(phone_ready, adb):
    finished = subprocess.run(
        [sys.executable, str(BENCHMARKS / "soak.py"), "--quick", "--phones", "2", "--seed", "3"],
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    figures = json.loads(finished.stdout.splitlines()[-1])["figures"]
    assert figures["invocations"] + figures["crashed"] == 2 * 4 * 5
    assert figures["faults"]
