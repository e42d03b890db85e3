"""Promise H5 as a phone's kernel sees it: the tool runs on equal cores, and no cell has more threads than cores."""

import os

import pytest
from recorded_phones import phones
from scripted_sweep import ScriptedSweep

from harness.benchmark.pinning import cores_allowed
from harness.devices.adb.discovery import open_device
from harness.devices.cores import as_mask, choose_cores, choose_measured_cores, mask_cores
from harness.devices.device import Core
from harness.devices.facts import facts_from_output

BIG_CORES = {
    "galaxy-j5": "f",  # four equal ones
    "galaxy-s9-global": "f0",
    "galaxy-s9-us": "f0",
    "huawei-mate-20": "c0",  # two pairs of Cortex-A76, at 1.9 and at 2.6 GHz
    "leagoo-t5c": "ff",
    "meizu-pro-7-plus": "300",  # two Cortex-A73 of ten cores
    "nexus6p": "f",  # its big cores were switched off when it was recorded
    "oneplus-5t": "f0",
    "oppo-r15": "f0",  # four A73 and four A53 of one maximum frequency: told apart by their part numbers
    "pixel-2-xl": "f0",
    "pixel-8": "f0",  # its prime core stands alone
    "xiaomi-redmi-note-4": "ff",
}
"""Read off each phone's data sheet."""


def cores_of(name):
    files = phones()[name]["files"]
    sections = {
        "cpuinfo": files["/proc/cpuinfo"],
        "possible": files["/sys/devices/system/cpu/possible"],
        "frequencies": "\n".join(f"{path}:{text}" for path, text in files.items() if path.endswith("cpuinfo_max_freq")),
    }
    return facts_from_output("S", "\n".join(f"@@harness:{title}\n{body}\n" for title, body in sections.items())).cores


def test_promise_h5_covers_every_recorded_phone():
    assert set(BIG_CORES) == set(phones())


@pytest.mark.parametrize(("name", "mask"), BIG_CORES.items())
def test_promise_h5_the_big_cores_of_a_recorded_phone_are_equal_ones(name, mask):
    assert as_mask(choose_cores(cores_of(name))) == mask


@pytest.mark.parametrize(
    ("khz", "choice", "chosen"),
    [
        ((None,) * 4, "big", (0, 1, 2, 3)),  # a kernel that tells nothing
        ((1000, 1000, None, None), "little", (0, 1)),  # cores that are switched off are no little cores
        ((1000, 2000, 3000), "big", (2,)),  # all differ
        ((1000, 1000, 2000, 2000, 3000), "little", (0, 1)),
        ((1000, 2000), "all", (0, 1)),
        ((1000, 2000), (1,), (1,)),
        ((), "big", ()),
    ],
)
def test_promise_h5_of_phones_that_nobody_recorded(khz, choice, chosen):
    assert choose_cores([Core(index, frequency) for index, frequency in enumerate(khz)], choice) == chosen


def test_masks_as_kernels_write_them():
    assert mask_cores("00000000,000000f0") == (4, 5, 6, 7)
    assert mask_cores(as_mask((0, 9))) == (0, 9)


@pytest.mark.virtual_phone
def test_promise_h5_the_kernel_confirms_the_mask_of_every_invocation(start_phone, tmp_path):
    device = open_device(start_phone().serial)
    chosen = choose_measured_cores(device, "all")
    assert set(chosen.cores) <= os.sched_getaffinity(0)  # a Pixel 8's nine cores, of which this machine has these
    told = "grep Cpus_allowed: /proc/self/status >/data/local/tmp/harness/told"
    sweep = ScriptedSweep(tmp_path, told, delegates=["cpu", "gpu"]).run(device)
    assert {cell["core_mask"] for cell in sweep.cells} == {chosen.mask}  # for GPU rows too
    assert [row["failure_class"] for row in sweep.invocations] == [None] * 10
    assert {row["cores_allowed"] for row in sweep.invocations} == {chosen.mask}
    seen = device.run(["cat", "/data/local/tmp/harness/told"], timeout_s=9).stdout.split()[1]
    assert mask_cores(seen) == chosen.cores  # what the tool itself was allowed


@pytest.mark.virtual_phone
def test_promise_h5_a_mask_that_the_phone_does_not_hold_is_a_failure(start_phone, tmp_path):
    phone = start_phone()
    device = open_device(phone.serial)
    one_core = f"{1 << min(os.sched_getaffinity(0)):x}"
    bypass = f'#!/system/bin/sh\n[ $2 = true ] && exit\nshift; exec toybox taskset {one_core} "$@"\n'
    fake = tmp_path / "taskset"
    fake.write_text(bypass)
    device.run(
        ["sh", "-c", 'rm /system/bin/taskset; cp "$1" /system/bin/taskset', "sh", device.push(fake)], timeout_s=9
    )
    sweep = ScriptedSweep(tmp_path).run(device)
    assert {row["failure_class"] for row in sweep.invocations} == {"cores_unavailable"}


@pytest.mark.virtual_phone
def test_promise_h5_a_tool_that_is_moved_to_other_cores_while_it_runs_is_a_failure(start_phone, tmp_path):
    """As Android's own cpusets do with what they take for work in the background."""
    device = open_device(start_phone().serial)
    moved = f"taskset -p {1 << min(os.sched_getaffinity(0)):x} $$ >/dev/null; sleep 1"
    sweep = ScriptedSweep(tmp_path, moved).run(device)
    assert {row["failure_class"] for row in sweep.invocations} == {"cores_unavailable"}
    assert len(sweep.invocations) == 1  # more of the same is no use


@pytest.mark.virtual_phone
def test_promise_h5_more_threads_than_equal_cores_are_refused(start_phone, tmp_path):
    device = open_device(start_phone(cores=str(min(os.sched_getaffinity(0)))).serial)
    sweep = ScriptedSweep(tmp_path, threads=[1, 2]).run(device)
    threads = {cell["key"]: cell["threads"] for cell in sweep.cells}
    failures = {threads[row["cell_key"]]: row["failure_class"] for row in sweep.invocations}
    assert failures == {1: None, 2: "cores_unavailable"}


@pytest.mark.virtual_phone
def test_promise_h5_a_phone_without_taskset_is_measured_unpinned_and_says_so(start_phone, tmp_path):
    device = open_device(start_phone().serial)
    device.run(["rm", "/system/bin/taskset"], timeout_s=9)
    sweep = ScriptedSweep(tmp_path).run(device)
    assert {cell["core_mask"] for cell in sweep.cells} == {None}
    assert {row["failure_class"] for row in sweep.invocations} == {None}
    assert any("has no taskset" in note for note in sweep.notebook.notes)


def test_a_phone_that_merges_the_streams_tells_its_mask_too():
    assert cores_allowed("harness-pid:7\r\nharness-cores-allowed: 000000f0\r\nSTARTING!\r\n") == "f0"
    assert cores_allowed("harness-cores-allowed: 00000000,00000003\n") == "3"
    assert cores_allowed("STARTING!\n") is None
