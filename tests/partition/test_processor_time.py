"""Processor time as shells tell it, and of a real process."""

from pathlib import Path

import pytest

from harness.benchmark.registry import ToolRegistry
from harness.devices.host import HostDevice
from harness.partition.costs import children_us, processor_us

MKSH = "INFO: done\nharness-processor-time:\n    0m00.01s     0m00.02s \n    1m02.50s     0m00.25s \n"
DASH = "harness-processor-time:\n0m0.000000s 0m0.000000s\n0m2.500000s 0m0.250000s\n"


@pytest.mark.parametrize(("log", "expected_us"), [(MKSH, 62_750_000), (DASH, 2_750_000), ("INFO: done\n", None)])
def test_the_childrens_time_is_read(log, expected_us):
    assert children_us(log) == expected_us


@pytest.mark.official_tool
def test_a_real_process_tells_its_time_and_a_failed_one_none(registered_tools):
    device = HostDevice()
    tool = ToolRegistry().choose(device.facts())
    model = device.push(Path(__file__).parents[1] / "accuracy/data/pooled-float.tflite")
    used_us = processor_us(device, tool, model, "cpu-builtin", threads=1, latency_us=100.0, core_mask=None)
    assert used_us is not None
    assert 0 < used_us < 10_000  # a very small network
    assert processor_us(device, tool, model + ".gone", "cpu", threads=1, latency_us=1e6, core_mask=None) is None
