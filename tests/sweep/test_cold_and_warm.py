"""Promise H17: loading is measured cold, in an empty cache folder, and warm, in the one that was just filled."""

import pytest
from results_examples import SWEEP
from scripted_sweep import TOOL_WITH_CACHE, ScriptedSweep

from harness.analysis.summary import summarize
from harness.benchmark.benchmark_model.command import cache_flags, keeps_cache
from harness.benchmark.tool import Tool, ToolFamily, ToolSystem
from harness.devices.adb.discovery import open_device
from harness.export.tables import summary_frame

CACHED = frozenset(["delegate_serialize_dir", "delegate_serialize_token", "xnnpack_weight_cache_file_path"])


def tool(flags, family=ToolFamily.INTERPRETER):
    return Tool(
        name="t",
        family=family,
        system=ToolSystem.ANDROID,
        abi="arm64-v8a",
        sha256="0" * 64,
        path="/t",
        origin="test",
        flags=flags,
    )


@pytest.mark.parametrize(
    ("delegate", "names"),
    [
        ("cpu", ["xnnpack_weight_cache_file_path"]),
        ("gpu", ["delegate_serialize_dir", "delegate_serialize_token"]),
        ("nnapi:qti-dsp", ["delegate_serialize_dir", "delegate_serialize_token"]),
        ("cpu-builtin", []),
    ],
)
def test_promise_h17_each_delegate_keeps_its_cache_where_the_tool_lets_it(delegate, names):
    assert [name for name, _ in cache_flags(tool(CACHED), delegate, "/c")] == names
    assert cache_flags(tool(frozenset(["graph"])), delegate, "/c") == []
    assert cache_flags(tool(None), delegate, "/c") == []


def test_promise_h17_litert_has_flags_of_its_own():
    flags = frozenset(["gpu_serialization_dir", "gpu_model_cache_key"])
    found = cache_flags(tool(flags, ToolFamily.COMPILED_MODEL), "gpu", "/c")
    assert found == [("gpu_serialization_dir", "/c"), ("gpu_model_cache_key", "model")]
    assert keeps_cache(["benchmark_model", "--gpu_serialization_dir=/c"])
    assert not keeps_cache(["benchmark_model", "--graph=/c/gpu_serialization_dir"])


@pytest.mark.virtual_phone
def test_promise_h17_cold_is_an_empty_cache_and_warm_a_full_one(start_phone, tmp_path):
    device = open_device(start_phone().serial)
    leftover = f"{device.work_folder}/cache"
    device.run(["sh", "-c", 'mkdir -p "$1"; echo old >"$1/weights"', "sh", leftover], timeout_s=10)
    sweep = ScriptedSweep(tmp_path, TOOL_WITH_CACHE, measurement={"init_pairs": 2, "memory_invocations": 0, "runs": 4})
    sweep._tool = with_flags(sweep._tool, "xnnpack_weight_cache_file_path")
    sweep.run(device)
    loads = [(row["purpose"], row["invocation_index"], row["init_us"]) for row in sweep.invocations[:4]]
    assert loads == [
        ("init_cold", 0, 9000),
        ("init_warm", 0, 2000),
        ("init_cold", 1, 9000),
        ("init_warm", 1, 2000),
    ]
    assert {row["runs"] for row in sweep.invocations[:4]} == {1}
    assert len(sweep.invocations) == 9
    assert all(not keeps_cache(row["command"]) for row in sweep.invocations[4:])
    assert not device.run(["ls", leftover], timeout_s=10).ok  # gone afterwards
    (row,) = summary_frame(summarize(sweep.store, SWEEP)).to_dict("records")
    assert (row["init_cold_us"], row["init_warm_us"], row["init_cached"]) == (9000, 2000, True)
    assert row["init_median_us"] == 9000


@pytest.mark.virtual_phone
def test_promise_h17_without_a_cache_the_first_process_is_the_first_load(start_phone, tmp_path):
    sweep = ScriptedSweep(tmp_path, TOOL_WITH_CACHE, measurement={"init_pairs": 2, "runs": 4})
    sweep.run(open_device(start_phone().serial))
    assert [row["purpose"] for row in sweep.invocations] == ["init_cold", "init_warm", *["latency"] * 5]
    (row,) = summary_frame(summarize(sweep.store, SWEEP)).to_dict("records")
    assert row["init_cold_us"] == 9000
    assert row["init_cached"] is False


def with_flags(known, *flags):
    return known.model_copy(update={"flags": known.flags | set(flags)})
