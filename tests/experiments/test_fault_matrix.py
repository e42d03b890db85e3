"""Every fault in every phase, on virtual phones with the real adbd: `matrix.py` holds what is expected."""

import os
import shutil
from contextlib import contextmanager
from pathlib import Path

import matrix
import pytest
from experiments.injected_faults import FAULTS, knobs
from faulty_sweep import OVERLAPS, PLAN, RUNNING, FaultySweep, Held, settled, stray_files
from traps import BEGUN, HOLD, SILENT_LIMIT_S, Phase, Trap, TrappedDevice

from harness.devices.adb import device as adb_device
from harness.devices.adb import discovery, recovery
from harness.devices.adb.device import WORK_FOLDER
from harness.devices.adb.discovery import connect, open_device
from harness.devices.adb.server import adb_client
from harness.devices.lease import is_held
from harness.devices.preparation.change_note import ChangeNote
from harness.sweep import targets
from harness.virtual_phone.phone import virtual_phone

pytestmark = [pytest.mark.virtual_phone, pytest.mark.slow]
PAGE = Path(__file__).parents[2] / "docs" / "faults.md"
WAIT_S, WAIT_IN_VAIN_S = 60.0, 0.1
"""For a phone that comes back by itself, however slow this machine is; and for one that does not."""
WAITS = [
    (adb_device, "_SHORT_TIMEOUT_S"),
    (discovery, "_ALIVE_TIMEOUT_S"),
    (recovery, "_ALIVE_TIMEOUT_S"),
    (recovery, "_CONNECT_TIMEOUT_S"),
]


@pytest.fixture(scope="module")
def running(phone_ready, adb):
    """Two phones; what happens to them is undone again."""
    adb_client().server_version()  # a server makes this computer's key
    key = Path(os.environ["HOME"], ".android", "adbkey.pub")
    options = {"cable": True, "authorize": True, "authorized_keys": key, "data_size": "32m"}
    with virtual_phone(f"faulty-{os.getpid()}", **options) as faulty, virtual_phone(f"steady-{os.getpid()}") as steady:
        yield faulty, steady
        for phone in (faulty, steady):
            discovery.disconnect(phone.serial)


@pytest.fixture
def phones(running):
    """The two phones as new: the one that something happens to, and the one that it must not touch."""
    for phone in running:
        connect(phone.serial)
        shutil.rmtree(phone.processes.inside(WORK_FOLDER[1:]), ignore_errors=True)
        for name in (OVERLAPS, RUNNING, BEGUN, HOLD):
            phone.processes.inside(name).unlink(missing_ok=True)
    return running


class Mishap:
    """One or two faults at once, when a phase begins."""

    def __init__(self, phone, names, phase):
        self._phone = phone
        self._faults = [FAULTS[name] for name in names.split(matrix.TOGETHER)]
        self._waits = pytest.MonkeyPatch()
        self._is_silent = self._is_made = False
        self.passes = all(fault.passes for fault in self._faults)
        self.trap = Trap(phase, self._make, lambda: self._is_silent)

    def _make(self):
        self._is_made = True
        for fault in self._faults:
            fault.make(self._phone)
        self._is_silent = any(fault.is_silent for fault in self._faults)
        for module, name in WAITS if self._is_silent else ():
            self._waits.setattr(module, name, SILENT_LIMIT_S)  # it cannot answer: there is nothing to wait for

    def undo(self):
        """Mend it, if it has come to that and is not mended yet."""
        if not self._is_made:
            return
        self._is_made = self._is_silent = False
        self._waits.undo()
        for fault in reversed(self._faults):
            fault.undo(self._phone)
        connect(self._phone.serial, timeout_s=WAIT_S)


@pytest.fixture
def mishap_of():
    """Prepare mishaps, which are mended at the latest when the test has ended, however it does."""
    prepared = []

    def prepare(*arguments):
        prepared.append(Mishap(*arguments))
        return prepared[-1]

    yield prepare
    for mishap in prepared:
        mishap.undo()


@contextmanager
def happening_to(phone, mishap):
    """Let sweeps open a phone so that the mishap's trap sees what is done with it."""

    def open_trapped(name, **options):
        device = open_device(name, **options)
        return TrappedDevice(device, mishap.trap, phone) if str(name) == phone.serial else device

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(targets, "open_device", open_trapped)
        yield
    assert mishap.trap.is_sprung


@pytest.mark.parametrize(("names", "phase", "word"), [*matrix.cases(matrix.ONE), *matrix.cases(matrix.TWO)])
def test_a_sweep_comes_through(phones, mishap_of, tmp_path, names, phase, word):
    phone, expected = phones[0], matrix.MEANING[word]
    mishap = mishap_of(phone, names, phase)
    knobs_before, held_before = knobs(phone), Held.now(phone)
    sweep = FaultySweep(tmp_path, WAIT_S if mishap.passes else WAIT_IN_VAIN_S)

    with happening_to(phone, mishap):
        sweep.run_to_its_end(phone.serial)
    ended = sweep.failures(phone.serial), sweep.device_failure(phone.serial), sweep.good(phone.serial) == PLAN
    assert expected.fits(*ended), ended
    assert not is_held(phone.serial)
    stored = sweep.rows()
    if expected.is_given_back:
        assert knobs(phone) == knobs_before
    mishap.undo()
    if not expected.is_given_back and knobs(phone) != knobs_before:
        assert any("was not given back" in note for note in sweep.notebook.notes)
        assert ChangeNote(open_device(phone.serial)).read()

    if not (expected.is_complete and expected.is_given_back):
        sweep.carry_on(phone.serial, WAIT_S)
    assert sweep.good(phone.serial) == PLAN
    assert sweep.device_failure(phone.serial) is None
    assert sweep.rows() | stored == sweep.rows()
    assert knobs(phone) == knobs_before
    sweep.store.close()
    assert settled(lambda: Held.now(phone), held_before) == held_before
    assert stray_files(phone) == []
    assert not is_held(phone.serial)
    assert not phone.processes.inside(OVERLAPS).exists()


@pytest.mark.parametrize(("names", "phase"), matrix.BESIDE_ANOTHER)
def test_another_phone_is_not_disturbed(phones, mishap_of, tmp_path, names, phase):
    faulty, steady = phones
    mishap = mishap_of(faulty, names, phase)
    before = [knobs(phone) for phone in phones], Held.now(*phones)
    sweep = FaultySweep(tmp_path, WAIT_S if mishap.passes else WAIT_IN_VAIN_S)
    with happening_to(faulty, mishap):
        sweep.run_to_its_end(faulty.serial, steady.serial)
    assert sweep.good(steady.serial) == PLAN
    assert sweep.failures(steady.serial) == []
    assert sweep.device_failure(steady.serial) is None
    mishap.undo()
    sweep.carry_on(faulty.serial, WAIT_S)
    assert sweep.good(faulty.serial) == PLAN
    sweep.store.close()
    assert settled(lambda: ([knobs(phone) for phone in phones], Held.now(*phones)), before) == before


def test_the_page_shows_the_matrix():
    page = PAGE.read_text()
    assert matrix.markdown(matrix.ONE) in page
    assert matrix.markdown(matrix.TWO) in page


def test_the_matrix_is_whole():
    one, two = matrix.cases(matrix.ONE), matrix.cases(matrix.TWO)
    assert len(one) >= 40
    assert len(two) >= 6
    assert {name for name, _, _ in one} == set(FAULTS)
    assert {phase for _, phase, _ in one} == set(Phase)
    assert {word for _, _, word in one + two} == set(matrix.MEANING)
