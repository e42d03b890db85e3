"""Promise H24: what was measured is what was pushed."""

import shutil

import pytest
from results_examples import SWEEP
from scripted_sweep import RUNS, ScriptedSweep

from harness.analysis.evidence import RowName, read_evidence
from harness.analysis.promises import judge_promises
from harness.analysis.summary import summarize
from harness.devices.adb.discovery import open_device
from harness.devices.host import HostDevice
from harness.errors import DeviceError, FailureError
from harness.files import sha256_of
from harness.sweep.device.pushed_files import PushedFiles

FAKE_LOG = f"""\
STARTING!
count={RUNS} first=2 curr=2 min=2 max=2 avg=2 std=0
count={RUNS} first=2 curr=2 min=2 max=2 avg=2 std=0
Inference timings in us: Init: 5, First inference: 2, Warmup (avg): 2, Inference (avg): 2
"""
SWAP_TOOL = f"""
if [ -e /data/swap ]; then
  printf '#!/system/bin/sh\\ncat <<END\\n%s\\nEND\\n' '{FAKE_LOG}' >$0.new
  chmod 755 $0.new; mv $0.new $0
fi
echo >>/data/count
[ $(wc -l </data/count) = 2 ] && touch /data/swap
"""
"""From its third process on, the tool is another that claims 2 us."""
SWAP_VARIANT = """
for argument; do case $argument in --graph=*) model=${argument#*=} ;; esac; done
echo >>/data/count
[ $(wc -l </data/count) = 3 ] && printf other >$model
"""


@pytest.fixture
def device(start_phone):
    return open_device(start_phone().serial)


@pytest.fixture
def sweep(tmp_path):
    """A sweep that checks outputs with nothing, so that only the files decide about its rank."""
    return lambda script="": ScriptedSweep(tmp_path, script, prepare=False)


def row_of(sweep):
    (row,) = [row for row in summarize(sweep.store, SWEEP) if row.variant]
    return row


def promise(sweep):
    evidence = read_evidence(sweep.store, SWEEP, RowName("int8", "cpu"))
    return next(promise for promise in judge_promises(evidence) if promise.number == 24)


@pytest.mark.virtual_phone
def test_promise_h24_files_are_hashed_after_the_last_process(device, sweep):
    done = sweep().run(device)
    assert row_of(done).verdict == "unchecked"  # nothing is wrong with the files
    looks = done.store.file_checks(SWEEP)
    assert [look.passed for look in looks] == [True] * 4  # tool and variant, before and after
    assert {look.last_invocation_id for look in looks} == {0, done.invocations[-1]["id"]}
    assert promise(done).kept


@pytest.mark.virtual_phone
@pytest.mark.parametrize("script", [SWAP_TOOL, SWAP_VARIANT], ids=["tool", "variant"])
def test_promise_h24_a_file_swapped_in_mid_sweep_is_tampered(device, sweep, script):
    swapped = sweep(script)
    with pytest.raises(FailureError, match="was changed on the device"):
        swapped.run(device)
    assert {row["failure_class"] for row in swapped.invocations} == {"tampered"}
    row = row_of(swapped)
    assert (row.verdict, row.rank, row.failure_class) == ("tampered", None, "tampered")
    assert row.failure_advice
    assert promise(swapped).kept  # it was found, and is not ranked


@pytest.mark.virtual_phone
def test_promise_h24_the_next_session_pushes_and_measures_again(device, sweep):
    swapped = sweep(SWAP_VARIANT)
    with pytest.raises(FailureError):
        swapped.run(device)
    swapped.run(device)
    last = {row["invocation_index"]: row["failure_class"] for row in swapped.invocations}
    assert last == dict.fromkeys(range(5))
    assert row_of(swapped).verdict == "unchecked"


@pytest.fixture
def killed(monkeypatch, device, sweep):
    """A sweep that was killed before it could look at the files."""
    done = sweep()
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(PushedFiles, "check", lambda _self: (_ for _ in ()).throw(KeyboardInterrupt))
        done.run(device)
    return done


@pytest.mark.virtual_phone
def test_promise_h24_what_was_never_looked_at_waits_for_resume(device, killed):
    assert promise(killed).kept is False
    assert len(killed.invocations) == 5
    killed.run(device)
    assert promise(killed).kept
    assert len(killed.invocations) == 5  # the same files were found, so nothing is measured again


@pytest.mark.virtual_phone
def test_promise_h24_resume_looks_before_it_pushes(device, killed):
    blob = f"{device.work_folder}/blobs/{sha256_of(killed.variants[0].path)}"
    device.run(["sh", "-c", f"echo other >{blob}"], timeout_s=9)
    killed.run(device)
    assert [row["failure_class"] for row in killed.invocations] == ["tampered"] * 5 + [None] * 5
    assert any("Measuring that again." in note for note in killed.notebook.notes)
    assert row_of(killed).verdict == "unchecked"


@pytest.mark.virtual_phone
def test_promise_h24_files_are_hashed_when_a_phone_is_back(start_phone, sweep):
    phone = start_phone()
    device = open_device(phone.serial)
    lost = sweep(f"{SWAP_VARIANT}\n[ $(wc -l </data/count) = 3 ] && sleep 30")
    run = device.run

    def lose_it_once(arguments, **options):
        count = phone.processes.inside("data/count")
        is_third = count.exists() and len(count.read_text()) == 2
        if is_third and any("--graph=" in argument for argument in arguments):
            run(arguments, **options | {"timeout_s": 2})
            phone.faults.crash_adbd()
        return run(arguments, **options)

    device.run = lose_it_once
    with pytest.raises(FailureError, match="was changed on the device"):
        lost.run(device)
    assert [row["failure_class"] for row in lost.invocations][:2] == ["tampered"] * 2
    assert len(lost.invocations) < 5


def test_promise_h24_on_this_host_a_folder_is_one_file(tmp_path):
    host = HostDevice(tmp_path / "work")
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib/a.so").write_text("a")
    paths = [str(tmp_path / "lib"), str(tmp_path / "gone")]
    before = host.sha256s(paths)
    assert before[paths[1]] is None
    (tmp_path / "lib/a.so").write_text("b")
    assert host.sha256s(paths)[paths[0]] != before[paths[0]]
    shutil.rmtree(tmp_path / "lib")
    assert host.sha256s(paths) == dict.fromkeys(paths)


def test_promise_h24_a_host_file_that_was_swapped_between_sessions(tmp_path, sweep):
    host, started = HostDevice(tmp_path / "work"), sweep()
    variant = started.variants[0]
    files = PushedFiles(started._context(), host)
    files.add(variant.sha256, {str(variant.path): variant.path})
    variant.path.write_bytes(b"another")
    assert "was changed" in files.check().message
    with pytest.raises(DeviceError, match="was changed"):
        PushedFiles(started._context(), host).add(variant.sha256, {str(variant.path): variant.path})
