"""`explain` shows what a virtual phone that grew hot in the middle of a sweep went through."""

import io
import re

import pytest
from rich.console import Console
from scripted_sweep import ScriptedSweep

from harness.analysis.evidence import RowName, read_evidence
from harness.analysis.promises import judge_promises
from harness.devices.adb.discovery import open_device
from harness.report.terminal.explain import explain_screen

_RUN_NUMBER = "n=$(($(cat /data/local/tmp/n 2>/dev/null || echo 0) + 1)); echo $n >/data/local/tmp/n\n"


def explained(store):
    """Return the screen as one line, and which promises are kept by number."""
    evidence = read_evidence(store, "latest", RowName("int8", "cpu"))
    promises = judge_promises(evidence)
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(explain_screen(evidence, promises))
    return re.sub(r"\s+", " ", console.export_text()), {promise.number: promise.kept for promise in promises}


@pytest.mark.virtual_phone
def test_a_phone_that_grew_hot_once(start_phone, tmp_path):
    phone = start_phone()
    heat = "[ $n = 2 ] && sed -i 's/Status: 0/Status: 2/' /run/state/dumpsys-thermalservice"

    def cooled(_seconds):
        phone.controls.set_thermal_status(0)

    sweep = ScriptedSweep(tmp_path, _RUN_NUMBER + heat).run(open_device(phone.serial), sleep=cooled)
    screen, kept = explained(sweep.store)
    assert "latency 1 attempt 1: throttled: The phone held back while the tool ran: thermal status 2." in screen
    assert "held by thermal status 2" in screen
    assert "1 throttled attempt is kept and not counted" in screen
    assert f"mask {sweep.cells[0]['core_mask']}" in screen
    assert all(kept[number] for number in (1, 2, 3, 5, 7, 8, 16, 20, 22))
    assert kept[14] is False  # this sweep compared no outputs


@pytest.mark.virtual_phone
def test_a_phone_without_a_thermal_service(start_phone, tmp_path):
    phone = start_phone()
    (phone.folder / "state/dumpsys-thermalservice").unlink()
    screen, kept = explained(ScriptedSweep(tmp_path).run(open_device(phone.serial)).store)
    assert "This device has no thermal service; the gate could use only temperatures and clocks." in screen
    assert kept[2] is False
    assert kept[3]  # its clocks still tell whether it held back
