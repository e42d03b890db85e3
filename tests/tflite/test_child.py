"""Modules of harness that run on files in a process of their own."""

import numpy as np
import pytest

from harness.errors import FailureClass, FailureError
from harness.tflite.child import last_words, load_arrays, run_child, save_arrays


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Return a function that gives a module its code, and its name."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    def write(code):
        (tmp_path / "a_child.py").write_text(code)
        return "a_child"

    return write


def test_a_child_that_takes_too_long_is_a_failure(module):
    with pytest.raises(FailureError) as caught:
        run_child(module("import time; time.sleep(60)"), [], name="int8", timeout_s=0.5)
    assert caught.value.failure.failure_class is FailureClass.TIMEOUT
    assert str(caught.value) == "The host needed over 0.5 s for int8."


def test_what_it_said_last_is_told_or_how_it_ended(module):
    said = run_child(module("import sys; sys.exit('first\\nlast')"), [], name="int8", timeout_s=60)
    assert (said.returncode, last_words(said)) == (1, "last")
    silent = run_child(module("import os, signal; os.kill(os.getpid(), signal.SIGKILL)"), [], name="int8", timeout_s=60)
    assert last_words(silent) == "exit code -9"


def test_no_module_of_the_users_folder_is_imported(tmp_path, monkeypatch, module):
    folder = tmp_path / "users"
    folder.mkdir()
    (folder / "json.py").write_text("raise SystemExit('this is not json')")
    monkeypatch.chdir(folder)
    assert run_child(module("import json; print(json.dumps(1))"), [], name="int8", timeout_s=60).stdout == "1\n"


def test_arrays_keep_their_order(tmp_path):
    arrays = [np.full(3, number, np.int32) for number in range(12)]
    save_arrays(tmp_path / "arrays.npz", arrays)
    assert [int(array[0]) for array in load_arrays(tmp_path / "arrays.npz")] == list(range(12))
